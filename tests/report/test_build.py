"""The page: complete, self-contained, safe against what models write, and true of unfinished runs."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from tests.report.factory import RECIPE, add_sample, append, write_json, write_run
from tutelage.errors import RunFolderError
from tutelage.report import build_report
from tutelage.training.metrics import MEANINGS

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


class Page(HTMLParser):
    """What a browser would make of the page: its elements and its text outside of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag):
        self._inside.pop()

    def handle_data(self, data):
        if not self._inside or self._inside[-1] not in ("script", "style"):
            self.words.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def build(folder) -> tuple[str, Page]:
    html = build_report(folder).read_text(encoding="utf-8")
    return html, Page(html)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return build(write_run(tmp_path_factory.mktemp("run")))


def test_it_tells_the_whole_story(finished):
    _, page = finished
    text = page.text.replace("\xa0", " ").replace("⁠", "")
    assert "Accuracy on 199 held-out questions rose from 43 % (37–50) to 91 % (87–95)" in text
    for words in (
        "quickstart", "smollm2-135m-instruct", "finished", "5:36 min", "stages/02-learn/model", "103 got better",
        "timeout: the reward took more than 10 s", "2.13.0", '"digits": 2', "McNemar",
    ):  # fmt: skip
        assert words in text, words
    for name in ("reward", "score", "entropy", "kl", "clipped", "loss", "mismatch", "lr", "learn_seconds"):
        assert MEANINGS[name].title in text
        assert MEANINGS[name].sentence in text.replace("’", "'")
    assert page.count("svg") == 22  # a metric each; the time of a step by phase; reward over KL


def test_it_needs_nothing_but_itself(finished):
    html, page = finished
    for tag, attributes in page.elements:
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "data", "action", "xlink:href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, attributes)
    assert not re.search(r"url\((?!#)|@import|fetch\(|XMLHttpRequest|https?://(?!www\.w3\.org)", html)
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.elements
    assert "prefers-color-scheme: dark" in html


def test_every_section_and_control_has_a_name(finished):
    _, page = finished
    ids = {attributes.get("id") for _, attributes in page.elements}
    for tag, attributes in page.elements:
        if tag == "section":
            assert attributes["aria-labelledby"] in ids
        if tag == "svg":
            assert attributes["aria-label"]


def test_what_a_model_wrote_is_never_markup(tmp_path):
    write_run(tmp_path, questions=0, steps=2)
    scores = {EVIL: [1.0], "b": [0.0]}
    for number, name in ((1, "before"), (3, "after")):
        write_json(tmp_path / "stages" / f"{number:02d}-{name}" / "result.json", {
            "type": "evaluate", "scores": scores, "summary": {}, "components": {EVIL: 1.0, "b": 2.0},
        })  # fmt: skip
        add_sample(tmp_path, name, 0, EVIL, 0, EVIL, EVIL, EVIL, 1.0)
        add_sample(tmp_path, name, 0, "b", 0, EVIL, EVIL, EVIL, 1.0, EVIL)
    append(tmp_path / "metrics.jsonl", {"stage": "learn", "step": 3, f"reward/{EVIL}": 1.0, EVIL: 2.0})
    html, page = build(tmp_path)
    assert page.count("script") == 2  # the data, and the script of the page
    assert page.count("img") == 0
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert EVIL in page.text  # but it can be read
    assert EVIL not in html


@pytest.mark.parametrize("until", ["", "before", "learn"])
def test_unfinished_runs(tmp_path, until):
    _, page = build(write_run(tmp_path, questions=20, steps=2, until=until))
    done = {"": 0, "before": 1, "learn": 2}[until]
    assert f"unfinished: {done} of 3 stages done" in page.text
    assert ("No evaluation is finished yet." in page.text) == (not until)


def test_a_stage_under_way(tmp_path):
    write_run(tmp_path, questions=20, steps=2, until="learn")
    (tmp_path / "stages" / "02-learn" / "result.json").unlink()
    _, page = build(tmp_path)
    assert "not finished so far 2 steps" in page.text
    assert "not begun" in page.text


def test_an_empty_folder_still_gives_a_page(tmp_path):
    _, page = build(tmp_path)
    assert tmp_path.name in page.text


def test_metrics_of_nothing_but_gaps_and_unknown_ones(tmp_path):
    write_run(tmp_path, until="")
    append(tmp_path / "metrics.jsonl", {"stage": "learn", "step": 1, "kl": None, "my own number": 3.0})
    _, page = build(tmp_path)
    assert page.count("svg") == 1
    assert "my own number" in page.text


def test_unicode(tmp_path):
    recipe = {**RECIPE, "model": "模型/ünïcödé"}
    write_run(tmp_path, questions=3, steps=1, recipe=recipe)
    add_sample(tmp_path, "before", 0, "u", 0, "数学? 🎓", "四", "答え は 四", 1.0)
    with (tmp_path / "samples.jsonl").open("a") as file:  # half a character, as byte-level tokens can give
        file.write('{"stage": "before", "step": 0, "prompt_id": "v", "prompt": "", "text": "\\ud800"}\n')
    html, page = build(tmp_path)
    assert "模型/ünïcödé" in page.text
    assert "答え は 四" in html


def test_ten_thousand_samples_in_three_megabytes(tmp_path):
    """How long it takes is measured by `python -m bench.report_pages`."""
    write_run(tmp_path, questions=200, steps=150)
    assert build_report(tmp_path).stat().st_size < 3_000_000


def test_a_folder_that_cannot_be_written_keeps_its_old_report(tmp_path):
    write_run(tmp_path, until="")
    before = build_report(tmp_path).read_bytes()
    (tmp_path / ".report.html.partial").mkdir()
    with pytest.raises(RunFolderError, match="cannot be written"):
        build_report(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_in_a_browser(tmp_path):
    """The browser of samples runs, and an answer's script does not."""
    write_run(tmp_path, questions=5, steps=2)
    add_sample(tmp_path, "learn", 2, "evil", 0, EVIL, EVIL, EVIL, 0.5)
    path = build_report(tmp_path)
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}",
         "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    page = Page(done.stdout)
    assert "65 of the step's 65 samples" in page.text
    assert page.text.count(EVIL) == 3  # prompt, answer and text, all readable
    assert page.count("img") == 0
    assert "<title>quickstart – Tutelage report</title>" in done.stdout
