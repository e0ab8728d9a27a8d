"""What looking at a run costs: rendering a report of 10,000 samples, opening it, and watching. Prints the figures.

python -m bench.report_pages [RUN]
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from time import process_time

from tests.report.factory import inspected, inspected_step, write_run
from tutelage.report import build_report
from tutelage.report.follow import Follower


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else _made(Path(temporary))
        page = Path(temporary) / "report.html"
        rendering: list[float] = []
        for _ in range(3):
            began = process_time()
            build_report(folder, page)
            rendering.append(process_time() - began)
        print(f"rendering: {statistics.median(rendering):.2f} s of the processor, {page.stat().st_size / 1e6:.2f} MB")
        follower = Follower(folder)
        began = process_time()
        follower.look()
        first = process_time() - began
        began = process_time()
        for _ in range(100):
            follower.look()
        print(f"following: {1e3 * first:.1f} ms at first, then {10 * (process_time() - began):.3f} ms a look")
        _open(page)


def _made(folder: Path) -> Path:
    """10,000 samples of 150 steps, of which 24 are on record token by token."""
    write_run(folder, questions=200, steps=150)
    for step in range(1, 151, 6):
        inspected_step(folder, "learn", step, [inspected("An answer of some length. " * 4) for _ in range(8)])
    return folder


def _open(page: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        print("opening: no chromium here")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments, timeout=180_000)
        times: list[tuple[float, float]] = []
        for _ in range(5):
            tab = browser.new_page()
            tab.set_default_timeout(180_000)
            devtools = tab.context.new_cdp_session(tab)
            devtools.send(
                "Performance.enable", {"timeDomain": "threadTicks"}
            )  # of the processor, whoever else wants it
            tab.goto(page.as_uri())
            loaded = tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1e3
            found = {one["name"]: one["value"] for one in devtools.send("Performance.getMetrics")["metrics"]}
            times.append((found["TaskDuration"], loaded))
            tab.close()
        browser.close()
    busy, loaded = (statistics.median(some) for some in zip(*times, strict=True))
    print(f"opening: {busy:.2f} s of the page's thread, {loaded:.2f} s by the clock until it was loaded")


if __name__ == "__main__":
    main()
