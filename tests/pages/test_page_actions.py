"""What a reader can do on the leaderboard's page: link, choose, save, compare, set limits, print."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from kit.browsing import MINUS, NEEDS_BROWSER
from kit.made_pages import EVIL, board_data
from PIL import Image

from usbench.pages import leaderboard_page as page
from usbench.pages.compact import Pairs

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = board_data(tmp_path_factory.mktemp("actions") / "runs")
    for table in found["tables"]:
        for row in table["rows"]:
            row["ms_per_slice"] = {14_000_000: 5.0, 42_000_000: 2.0, 900_000: 1.0}.get(row["parameters"], 9.0)
    return found


def written(data: dict[str, Any], folder: Path, pairs: Sequence[Pairs | None] = ()) -> str:
    file = folder / "board.html"
    file.write_text(page.html(data, None, pairs), encoding="utf-8")
    return file.as_uri()


def saved(reader: Any, folder: Path, button: Any, suffix: str) -> Path:
    reader.browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
    )
    reader.press(button)
    for _ in range(100):
        found = [path for path in folder.iterdir() if path.suffix == suffix]
        if found:
            return found[0]
        time.sleep(0.1)
    raise AssertionError(f"nothing of {suffix} was saved")


def test_method_and_fusion_and_the_head_stay_while_one_scrolls(reader, data, tmp_path):
    reader.open(written(data, tmp_path))
    places = """
        const box = document.querySelector('#table-1 .grid > .scroll');
        box.style.maxHeight = '140px';
        [box.scrollLeft, box.scrollTop] = arguments[0];
        const frame = box.getBoundingClientRect();
        const row = box.querySelectorAll('tbody tr')[2];
        const left = (one) => one.getBoundingClientRect().left - frame.left;
        return [box.scrollLeft, box.scrollTop, left(row.querySelector('.stick')),
          left(row.querySelector('.stick2')),
          box.querySelector('thead th').getBoundingClientRect().top - frame.top]
        """
    across, down, method, fusion, head = reader.run(places, [600, 60])
    assert across > 300
    assert down > 30
    assert 0 <= method <= 2
    assert 235 <= fusion <= 245
    assert 0 <= head <= 2


def test_a_row_has_an_address_and_is_found_by_it(reader, data, tmp_path):
    address = written(data, tmp_path)
    reader.open(address)
    row = reader.one("#table-1 tr[id$='-unet-late']")
    name = row.get_attribute("id")
    assert name == f"row-{data['tables'][0]['protocol']}-unet-late"
    link = row.find_element("css selector", "a.link")
    assert link.get_attribute("href") == f"{address}#{name}"
    assert link.get_attribute("aria-label") == "link to unet, late"
    reader.one("#filter-text").send_keys("resunet")
    reader.run("location.hash = arguments[0]", name)
    for _ in range(50):
        if reader.all("tr.linked"):
            break
        time.sleep(0.05)
    assert reader.one("tr.linked").get_attribute("id") == name
    assert reader.one("tr.linked").is_displayed()
    assert reader.run("return document.activeElement.id") == name
    ids = reader.run("return [...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))


def test_columns_are_chosen_for_all_tables_and_remembered(reader, data, tmp_path):
    address = written(data, tmp_path)
    reader.open(address)
    reader.press(reader.all(".choose summary")[1])
    box = reader.run(
        "return [...document.querySelectorAll('.choose label')]"
        ".find((one) => one.textContent === 'HD95 mm').firstChild"
    )
    reader.press(box)
    heads = (
        "return [...document.querySelectorAll('.board thead th')]"
        ".filter((one) => one.offsetParent !== null).map((one) => one.textContent)"
    )
    assert "HD95 mm" not in reader.run(heads)
    assert "NSD" in reader.run(heads)
    reader.browser.get(address)
    assert "HD95 mm" not in reader.run(heads)
    reader.run("localStorage.setItem('usbench-columns', '{broken')")
    reader.browser.get(address)
    assert "HD95 mm" in reader.run(heads)
    reader.check_quiet()


def test_the_shown_rows_and_columns_are_saved_and_no_cell_is_a_formula(reader, data, tmp_path):
    changed = json.loads(json.dumps(data))
    table = changed["tables"][0]
    table["rows"][2]["label"] = '=HYPERLINK("x"),1'
    table["rows"][2]["rvd_mean"] = -0.25
    reader.open(written(changed, tmp_path))
    reader.one("#filter-fusion").send_keys("h")  # hybrid: one row
    (tmp_path / "csv").mkdir()
    file = saved(reader, tmp_path / "csv", reader.one("#table-1 .grid .tools button:last-child"), ".csv")
    lines = list(csv.DictReader(file.open(newline="", encoding="utf-8")))
    assert [line["method"] for line in lines] == ['\'=HYPERLINK("x"),1']
    assert lines[0]["fusion"] == "hybrid"
    assert float(lines[0]["DSC"]) == pytest.approx(table["rows"][2]["dsc"], rel=1e-12)
    assert float(lines[0]["DSC low"]) == pytest.approx(table["rows"][2]["dsc_low"])
    assert lines[0]["standing"] == "below the leader"


def test_a_chart_is_saved_as_svg_and_png(reader, data, tmp_path):
    reader.open(written(data, tmp_path))
    for kind, place in (("svg", 1), ("png", 2)):
        (tmp_path / kind).mkdir()
        button = reader.one(f"#table-1 .cost .tools button:nth-child({place})")
        file = saved(reader, tmp_path / kind, button, f".{kind}")
        if kind == "svg":
            root = ElementTree.parse(file).getroot()
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            text = file.read_text(encoding="utf-8")
            assert "class=" not in text
            assert "style=" not in text
            assert "rgb(" in text
        else:
            with Image.open(file) as image:
                colours = image.convert("RGB").getcolors(1 << 24)
            assert colours is not None
            assert len(colours) > 20
    reader.check_quiet()


def test_a_row_without_overlap_is_never_called_tied(reader, data, tmp_path):
    changed = json.loads(json.dumps(data))
    rows = changed["tables"][0]["rows"]
    rows[1] |= {"dsc": 0.0, "standing": "not separated"}
    rows[2]["standing"] = "not testable"
    rows[3] |= {"standing": "not separated", "dsc": 0.0, "best": True}
    reader.open(written(changed, tmp_path))
    column = (
        "const heads = [...document.querySelectorAll('#table-1 .board thead th')]"
        ".map((one) => one.textContent);"
        "return [...document.querySelectorAll('#table-1 .board tbody tr')]"
        ".map((row) => row.cells[heads.indexOf(arguments[0])].textContent)"
    )
    found = reader.run(column, "standing")
    assert found[:4] == ["leader", "no overlap", "not testable", "no overlap"]
    assert reader.run(column, "may be best")[3] == "yes"
    assert "tied" not in reader.text("body").split('{"')[0].lower()


def test_the_comparison_of_two_rows_is_read_from_the_table(reader, data, tmp_path):
    changed = json.loads(json.dumps(data))
    # Ten pairs of five rows: the third of them is the first row and the fourth.
    pairs = [[0.0, None, None, 1.0]] * 10
    pairs[2] = [0.125, -0.25, 0.5, 0.0625]
    reader.open(written(changed, tmp_path, [pairs, None]))
    reader.select("unet, early")
    reader.run("document.querySelector('#table-1 .board input[aria-label*=img]').click()")
    assert (reader.fact("mean"), reader.fact("interval")) == ("+0.1250", "-0.2500 to +0.5000")
    assert reader.fact("p") == "0.063" or reader.fact("p") == "0.062"
    reader.press(reader.one("#table-1 .dock button:last-child"))
    reader.run("document.querySelector('#table-1 .board input[aria-label*=img]').click()")
    reader.select("unet, early")
    assert (reader.fact("mean"), reader.fact("interval")) == ("-0.1250", "-0.5000 to +0.2500")
    assert EVIL in reader.text("#table-1 .dock")
    assert MINUS in reader.text("#table-1 .dock")


def test_the_pareto_front_follows_the_axis_and_limits_name_the_best_row(reader, data, tmp_path):
    from selenium.webdriver.support.ui import Select

    reader.open(written(data, tmp_path))
    # DSC: unet early > unet late > resunet hybrid > the others; parameters 14M, 42M, 0.9M; ms 5, 2, 1.
    names = reader.text("#table-1 .front-names").split(": ", 1)[1].rstrip(".").split("; ")
    assert names == ["resunet, hybrid", "unet, early"]
    Select(reader.one("#table-1 .axis")).select_by_visible_text("ms/slice")
    names = reader.text("#table-1 .front-names").split(": ", 1)[1].rstrip(".").split("; ")
    assert names == ["resunet, hybrid", "unet, late", "unet, early"]
    assert reader.text("#table-1 .cost h3") == "DSC against ms/slice"
    reader.press(reader.one(".limits summary"))
    reader.one("#limit-ms_per_slice").send_keys("4")
    assert reader.text("#table-1 .limited").startswith("Best under the limits: unet, late, rank 2")
    assert reader.all("#table-1 tr.best-under") == [reader.one("#table-1 tr[id$='-unet-late']")]
    reader.one("#limit-parameters").send_keys("1")
    assert "unet, late" not in reader.text("#table-1 .limited")
    assert reader.text("#table-1 .limited").startswith("Best under the limits: resunet, hybrid")
    reader.one("#limit-memory_mb").send_keys("10")
    assert reader.text("#table-1 .limited") == "No ranked row of this table keeps to the limits."


def test_many_rows_appear_as_one_scrolls_and_every_one_can_be_linked(reader, data, tmp_path):
    changed = json.loads(json.dumps(data))
    table = changed["tables"][0]
    first = table["rows"][0]
    table["rows"] = [{**first, "rank": i + 1, "label": f"m{i}"} for i in range(700)]
    table["pairs"] = None
    address = written(changed, tmp_path)
    reader.open(address)
    count = "return document.querySelectorAll('#table-1 .board tbody tr').length"
    before = reader.run(count)
    assert 0 < before < 200
    reader.press(reader.one("#table-1 .tools button"))
    assert before < reader.run(count) < 700
    reader.run("location.hash = arguments[0]", f"row-{table['protocol']}-m650-early")
    for _ in range(50):
        if reader.all("tr.linked"):
            break
        time.sleep(0.05)
    assert reader.one("tr.linked th").text.startswith("m650")
    assert reader.browser.get_log("browser") == []


AXE = os.environ.get("USBENCH_AXE", "")


@pytest.mark.skipif(not AXE, reason="USBENCH_AXE names no axe.min.js; npm pack axe-core has one")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(reader, pages, theme):
    reader.open(pages["board"])
    reader.run(Path(AXE).read_text(encoding="utf-8"))
    reader.run("document.documentElement.dataset.theme = arguments[0]", theme)
    reader.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    reader.select("unet, early")
    reader.select("unet, late")
    reader.browser.set_script_timeout(60)
    found = reader.browser.execute_async_script(
        "const done = arguments[0]; axe.run().then((all) => done(all.violations.map((one) =>"
        " [one.impact, one.id, one.nodes[0].html])))"
    )
    assert [one for one in found if one[0] in ("serious", "critical")] == []


@pytest.mark.skipif(
    not shutil.which("pdftotext"), reason="no pdftotext; Debian's package poppler-utils has it"
)
@pytest.mark.parametrize("landscape", [False, True])
def test_paper_has_every_column_and_cuts_nothing_off(reader, data, tmp_path, landscape):
    reader.open(written(data, tmp_path))
    size = {"paperWidth": 8.27, "paperHeight": 11.69, "landscape": landscape}
    found = reader.browser.execute_cdp_cmd("Page.printToPDF", size)
    (tmp_path / "page.pdf").write_bytes(base64.b64decode(found["data"]))
    command = ["pdftotext", "-bbox", str(tmp_path / "page.pdf"), "-"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    width = float(re.findall(r'<page width="([\d.]+)"', text)[0])
    assert (width > 800) == landscape
    words = [(float(end), word) for end, word in re.findall(r'xMax="([\d.]+)"[^>]*>([^<]*)<', text)]
    assert max(end for end, _ in words) < width
    heads = reader.run(
        "return [...document.querySelectorAll('#table-1 .board thead th')].map((one) => one.textContent)"
    )
    printed = {word for _, word in words}
    for head in heads[1:]:
        assert set(head.split()) <= printed, head
    # What a browser does after printing is undone: the screen has no blocks.
    assert reader.run("return document.querySelectorAll('.printed table').length") == 0


def test_cases_are_looked_through_one_at_a_time(reader, data, tmp_path, monkeypatch):
    from selenium.webdriver.support.ui import Select

    def panel(words: str, row: int | None = None) -> dict[str, Any]:
        src = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
        own = {"src": src, "width": 10, "height": 10, "title": words, "text": words}
        return own if row is None else {**own, "method": row}

    cases = [
        {"title": f"{which} case", "note": "", "panels": [panel(f"{which} truth")]
         + [panel(f"{which} row {i}", i) for i in range(3)]}
        for which in ("Worst", "Best")
    ]  # fmt: skip
    found = {"note": "", "classes": [], "cases": cases}
    monkeypatch.setattr("usbench.pages.case_pictures.table_pictures", lambda *_: found)
    file = tmp_path / "board.html"
    file.write_text(page.html(data, data), encoding="utf-8")
    reader.open(file.as_uri())
    shown = "return [...document.querySelectorAll('#table-1 figcaption')].map((one) => one.textContent)"
    assert reader.run(shown) == ["Worst truth", "Worst row 0", "Worst row 1", "Worst row 2"]
    Select(reader.one("#table-1 .case")).select_by_visible_text("Best case")
    assert reader.run(shown) == ["Best truth", "Best row 0", "Best row 1", "Best row 2"]
    reader.press(reader.one("#table-1 .cases .choose summary"))
    reader.press(reader.one("#table-1 .cases .choose input"))
    assert reader.run(shown) == ["Best truth", "Best row 1", "Best row 2"]
    reader.one("#filter-text").send_keys("resunet")
    assert reader.run(shown) == ["Best truth", "Best row 2"]
    assert "2 of 3 methods are not shown" in reader.text("#table-1 .cases")
