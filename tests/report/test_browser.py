"""The pages in a real browser: they load, filter and inspect, by keyboard, without an error or a request elsewhere."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import uvicorn

from tests.report.factory import add_sample, append, inspected, inspected_step, write_json, write_run
from tests.report.test_build import EVIL
from tutelage.report import build_report
from tutelage.report.server import app_of

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'tutelage[dev]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium: apt-get install chromium")


@dataclass
class Opened:
    """A page with all that it complained of and asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"], timeout=180_000
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("run"), questions=5, steps=2)
    add_sample(folder, "learn", 2, "evil", 0, EVIL, EVIL, EVIL, 0.5)
    inspected_step(folder, "learn", 1, [inspected("first")])
    inspected_step(
        folder,
        "learn",
        2,
        [inspected("4\n2<b>x"), inspected("ab", pieces=[EVIL, "<b>x</b>"], index=1, failure="no number", fates=[])],
    )
    return build_report(folder)


def opened(browser: Any, address: str, width: int = 1100, scheme: str = "light") -> Opened:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(60_000)
    found = Opened(page)
    page.on("console", lambda message: found.complaints.append(message.text))
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.on("dialog", lambda dialog: found.complaints.append(dialog.message))
    page.on("request", lambda request: found.asked.append(request.url))
    page.goto(address)
    return found


def test_filters_and_the_inspector_by_keyboard(browser: Any, report: Path) -> None:
    found = opened(browser, report.as_uri())
    page = found.page

    assert page.text_content("#count") == "65 of the step's 65 samples"
    assert page.title() == "quickstart – Tutelage report"
    assert page.locator("img").count() == 0
    page.fill("#search", "onerror")
    assert page.text_content("#count") == "1 of the step's 65 samples"
    assert page.locator("#groups pre").all_text_contents() == [EVIL, EVIL]
    page.fill("#search", "")
    page.fill("#least", "0.4")
    page.fill("#most", "0.6")
    page.keyboard.press("Tab")
    assert page.text_content("#count") == "1 of the step's 65 samples"
    page.fill("#least", "")
    page.fill("#most", "")
    page.select_option("#filter", "failed")
    assert page.text_content("#count") == "1 of the step's 65 samples"
    page.select_option("#filter", "all")
    page.select_option("#step", "all")
    assert page.text_content("#count") == "129 of the 129 samples of 2 steps"
    page.select_option("#stage", label="before")
    assert page.text_content("#count") == "5 of the step's 5 samples"

    assert page.locator("#inspect-step option:checked").text_content() == "learn, step 2"
    tokens = page.locator("#inspect-tokens [role=option]")
    assert tokens.all_text_contents() == ["4", "↵\n", "2", "<", "b", ">", "x"]
    page.focus("#inspect-tokens")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("#inspect-tokens").get_attribute("aria-activedescendant") == "token-2"
    assert tokens.nth(2).get_attribute("aria-selected") == "true"
    told = page.inner_text("#inspect-token")
    for words in ('"2" (3 of 7)', "−1.7", "masked: sampler and learner disagree"):
        assert words in told
    page.keyboard.press("End")
    assert page.locator("#inspect-tokens").get_attribute("aria-activedescendant") == "token-6"
    page.keyboard.press("ArrowRight")  # stays within
    assert page.locator("#inspect-tokens").get_attribute("aria-activedescendant") == "token-6"
    page.select_option("#inspect-quantity", "entropy")
    last, first = (tokens.nth(place).evaluate("token => token.style.background") for place in (6, 0))
    assert "70%" in last
    assert first != last
    assert "format" in page.inner_text("#inspect-rewards")
    page.select_option("#inspect-sample", "1")
    assert tokens.all_text_contents() == [EVIL, "<b>x</b>"]
    assert "not scored: no number" in page.inner_text("#inspect-rewards")
    assert page.title() == "quickstart – Tutelage report"
    assert found.complaints == []
    assert found.asked == [report.as_uri()]


def test_names_that_are_heard_and_a_phone(browser: Any, report: Path) -> None:
    """Every control has a name, and on a narrow screen in the dark nothing runs over its edge."""
    found = opened(browser, report.as_uri(), width=390, scheme="dark")
    nameless = found.page.evaluate(
        """() => [...document.querySelectorAll('select, input, button, [role], summary, svg')]
            .filter((one) => !one.closest('[aria-hidden=true]') && !(one.getAttribute('aria-label')
                || one.labels?.length || one.textContent.trim()))
            .map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert nameless == []
    assert found.page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    ink, paper = found.page.evaluate(
        "() => [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (ink, paper) == ("rgb(231, 233, 236)", "rgb(20, 23, 27)")
    assert found.complaints == []


def test_a_script_that_is_not_the_pages_own_does_not_run(browser: Any, report: Path, tmp_path: Path) -> None:
    """Were something not escaped, the policy would still stop it: put in by hand, it neither runs nor fetches."""
    html = report.read_text().replace(
        "</main>", "<script>document.title = 'owned'</script><img src='https://evil.example/x.png'></main>"
    )
    path = tmp_path / "report.html"
    path.write_text(html)
    found = opened(browser, path.as_uri())
    assert found.page.title() == "quickstart – Tutelage report"
    assert any("Content Security Policy" in words for words in found.complaints)
    assert json.loads(found.page.text_content("#inspect-data"))["steps"]


def test_the_live_page_shows_what_is_new_and_asks_its_own_server_alone(browser: Any, tmp_path: Path) -> None:
    folder = write_run(tmp_path, questions=3, steps=2, until="before")
    append(folder / "metrics.jsonl", {"stage": "learn", "step": 1, "reward": 0.25})
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # from here on the browser waits for a server that is slow to start, and is not refused
        port = listening.getsockname()[1]
        app = app_of(folder, port, every=0.1)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            found = opened(browser, f"http://127.0.0.1:{port}/")
            page, expect = found.page, sync_api.expect
            expect.set_options(timeout=60_000)
            expect(page.locator("#live-step")).to_have_text("step 1 of 30")
            assert page.text_content("#live-stage") == "learn (rl), stage 2 of 3"
            assert page.locator("#phases").count() == 0
            assert page.locator("li.waiting").count() == 1
            told = {"reward": 0.5, "generate_seconds": 1.0, "learn_seconds": 2.0}
            append(folder / "metrics.jsonl", {"stage": "learn", "step": 2, **told})
            add_sample(folder, "learn", 2, "evil", 0, EVIL, EVIL, EVIL, 0.5)
            expect(page.locator("#live-step")).to_have_text("step 2 of 30")
            expect(page.locator("#live-sample")).to_contain_text(EVIL)
            assert page.text_content("#live-numbers dd") == "0.5"
            for stage in ("02-learn", "03-after"):
                write_json(folder / "stages" / stage / "result.json", {})
            expect(page.locator("#live-stage")).to_have_text("finished")
            expect(page.locator("#phases")).to_have_count(1)  # what there is to see by now is drawn in its place
            expect(page.locator("li.waiting")).to_have_count(0)
            assert page.locator("img").count() == 0
            assert found.complaints == []
            assert {url.split("/")[2] for url in found.asked} == {f"127.0.0.1:{port}"}
            page.close()
        finally:
            server.should_exit = True
            thread.join(timeout=60)
