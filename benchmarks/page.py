"""Measure the leaderboard's page on a synthetic board: its size, and the time to its first table in Chromium.

Usage: python benchmarks/page.py [--rows 5000] [--tables 1] [--patients 30]

The rows have the keys of real ones: a small board is built with the writers of runs, and its row repeated
with other numbers, five runs each and `--patients` patients. Needs chromium, chromedriver and selenium (the
extra `test`). The time is from the start of the navigation to the paint after the first row is there, as the
page's own clock says (performance.now); the best of three.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from leaderboard import FUSIONS, write_runs


def board_data(rows: int, tables: int, patients: int) -> dict[str, Any]:
    """A leaderboard of `rows` rows in `tables` tables as plain data, with the statistics of the first row."""
    from usbench.leaderboards.board import build
    from usbench.leaderboards.plain import as_dict

    with tempfile.TemporaryDirectory() as folder:
        write_runs(Path(folder), 15, max(1, patients // 5))
        data = as_dict(build(Path(folder)))
    first, rng = data["tables"][0], np.random.default_rng(0)
    row = first["rows"][-1]
    each = rows // tables
    data["tables"] = []
    for number in range(tables):
        means = np.sort(rng.uniform(0.3, 0.95, each))[::-1].tolist()
        made = []
        for i, mean in enumerate(means):
            numbers = {key: mean * value for key, value in row.items() if isinstance(value, float)}
            scores = {case: float(np.clip(mean + rng.normal(0, 0.08), 0, 1)) for case in row["patients"]}
            own = {
                "rank": i + 1,
                "label": f"method-{i // 3:04d}",
                "fusion": FUSIONS[i % len(FUSIONS)],
            }
            own |= {"dsc": mean, "dsc_low": mean - 0.02, "dsc_high": mean + 0.02, "patients": scores}
            made.append({**row, **numbers, **own})
        data["tables"].append({**first, "title": f"table {number + 1}", "fusion_effects": [], "rows": made})
    return data


def milliseconds(file: Path) -> float:
    """Time to the first table of a page in headless Chromium, the best of three."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    code = """
        window.firstTable = null;
        const painted = () => setTimeout(() => { window.firstTable = performance.now(); });
        new MutationObserver((_, watcher) => {
          if (!document.querySelector(".board tbody tr")) return;
          watcher.disconnect();
          requestAnimationFrame(painted);
        }).observe(document, { childList: true, subtree: true });
    """
    try:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": code})
        found = []
        for _ in range(3):
            driver.get(file.as_uri())
            driver.set_script_timeout(60)
            wait = """
                const done = arguments[0];
                const look = () => (firstTable === null ? setTimeout(look, 20) : done(firstTable));
                look();
            """
            found.append(float(driver.execute_async_script(wait)))
        return min(found)
    finally:
        driver.quit()


def main() -> None:
    """Print the size of the page and the time to its first table."""
    from usbench.pages.leaderboard_page import html

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--tables", type=int, default=1)
    parser.add_argument("--patients", type=int, default=30)
    options = parser.parse_args()
    text = html(board_data(options.rows, options.tables, options.patients), None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "board.html"
        file.write_text(text, encoding="utf-8")
        print(f"{options.rows} rows in {options.tables} tables: {len(text) / 1e6:.2f} MB", flush=True)
        print(f"{milliseconds(file) / 1000:.2f} s to the first table")


if __name__ == "__main__":
    main()
