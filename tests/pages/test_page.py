"""The pages in a real Chromium: what a reader can do with them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from kit.browsing import MINUS, NEEDS_BROWSER
from kit.handmade import HISTORY
from kit.intervals import of_differences
from kit.made_pages import CASES, EVIL, LONG, ROWS

from usbench.scores.registry import beside_dsc

pytestmark = NEEDS_BROWSER


def test_rows_sort_by_any_column_with_mouse_and_keyboard(reader, pages):
    from selenium.webdriver.common.keys import Keys

    reader.open(pages["board"])
    means = {f"{m}, {f}": np.mean(list(dsc.values())) for (m, f), (dsc, _) in ROWS.items()}
    best_first = sorted(means, key=lambda name: -means[name])
    assert reader.rows() == best_first
    assert reader.head("rank").get_attribute("aria-sort") == "ascending"
    reader.press(reader.head("HD95 mm").find_element("tag name", "button"))
    # The distance falls as DSC rises, so the first order is the same; the other way round is the reverse.
    assert reader.rows() == best_first
    assert reader.head("HD95 mm").get_attribute("aria-sort") == "ascending"
    assert reader.head("rank").get_attribute("aria-sort") == "none"
    reader.head("HD95 mm").find_element("tag name", "button").send_keys(Keys.ENTER)
    assert reader.rows() == best_first[::-1]
    assert reader.head("HD95 mm").get_attribute("aria-sort") == "descending"
    reader.head("parameters").find_element("tag name", "button").send_keys(Keys.SPACE)
    small_first = sorted(ROWS, key=lambda key: ROWS[key][1])
    assert reader.rows() == [f"{m}, {f}" for m, f in small_first]
    reader.press(reader.head("method").find_element("tag name", "button"))
    assert [name.split(",")[0] for name in reader.rows()][-3:] == ["resunet", "unet", "unet"]
    # A missing value stays last in both directions: the leader has no p.
    for _ in range(2):
        reader.press(reader.head("p").find_element("tag name", "button"))
        assert reader.rows()[-1] == best_first[0]
    reader.check_quiet()


def test_every_score_of_the_entries_is_a_column(reader, pages):
    reader.open(pages["board"])
    for score in beside_dsc():
        head = reader.head(score.mean_heading)
        assert head.get_attribute("title") == score.sentence
        assert head.get_attribute("data-sort") == ("down" if score.direction == "higher" else "up")


def test_filters_narrow_rows_tables_and_the_plot(reader, pages):
    from selenium.webdriver.support.ui import Select

    reader.open(pages["board"])
    assert reader.text("#shown") == "6 of 6 rows shown"
    assert len(reader.all("#table-1 .plot .mark")) == 5
    fusion = Select(reader.one("#filter-fusion"))
    assert [o.text for o in fusion.options] == ["all", "early", "hybrid", "late"]
    fusion.select_by_value("late")
    assert sorted(reader.rows()) == sorted([f"{LONG}, late", "unet, late"])
    assert not reader.one("#table-2").is_displayed()
    assert len(reader.all("#table-1 .plot .mark")) == 2
    fusion.select_by_value("")
    reader.one("#filter-text").send_keys("UNET")
    assert {name.split(",")[0] for name in reader.rows()} == {"unet", "resunet"}
    reader.one("#filter-text").clear()
    reader.one("#filter-text").send_keys("nothing of this name")
    # The effect of fusion, the row over all tasks and the published line are narrowed too, and counted.
    assert reader.text("#shown") == "0 of 6 rows shown; 3 rows of other sections hidden"
    reader.one("#filter-text").clear()
    reader.one("#filter-text").send_keys(" ")
    Select(reader.one("#filter-data")).select_by_value("real")
    assert not reader.one("#table-1").is_displayed()
    assert reader.rows(2) == ["unet, early"]
    Select(reader.one("#filter-data")).select_by_value("")
    Select(reader.one("#filter-task")).select_by_value("chaos")
    assert reader.text("#shown").startswith("5 of 6 rows shown")
    reader.check_quiet()


def test_a_selected_row_shows_its_patients_and_its_runs(reader, pages):
    from selenium.webdriver.common.keys import Keys

    reader.open(pages["board"])
    assert not reader.one("#table-1 .detail").is_displayed()
    reader.one("#table-1 input[aria-label='select unet, late']").send_keys(Keys.SPACE)
    assert reader.one("#table-1 .detail").is_displayed()
    assert len(reader.all("#table-1 .detail .plot .mark")) == len(CASES)
    runs = reader.text("#table-1 .detail tbody")
    assert "0fabunetla" in runs  # the first ten characters of the hash
    assert "c0ffee0000" in runs
    assert "CPU of the test" in runs
    assert re.search(r"chaos.1$", runs)  # the folder of the run
    # Each patient is named: the arrow keys go through them by rising DSC.
    dsc = ROWS["unet", "late"][0]
    order = sorted(CASES, key=lambda case: dsc[case])
    plot = reader.one("#table-1 .detail .plot svg")
    reader.run("arguments[0].focus()", plot)
    for case in order[:3]:
        assert reader.text("#table-1 .detail .caption") == f"{case}: DSC {dsc[case]:.3f}, unet, late"
        plot.send_keys(Keys.ARROW_RIGHT)
    reader.run("document.activeElement.blur()")
    # And with the mouse: the last dot is the best patient.
    from selenium.webdriver import ActionChains

    last = reader.all("#table-1 .detail .plot .mark")[-1]
    reader.run("arguments[0].scrollIntoView({block: 'center'})", last)
    ActionChains(reader.browser).move_to_element(last).perform()
    assert reader.text("#table-1 .detail .caption").startswith(f"{order[-1]}: DSC {dsc[order[-1]]:.3f}")
    reader.select("unet, late")
    assert not reader.one("#table-1 .detail").is_displayed()
    reader.check_quiet()


def test_two_rows_are_compared_patient_by_patient(reader, pages):
    reader.open(pages["board"])
    reader.select("unet, early")
    reader.select("resunet, hybrid")
    a, b = (
        np.array([ROWS[key][0][c] for c in sorted(CASES)])
        for key in (("unet", "early"), ("resunet", "hybrid"))
    )
    differences = np.round(a, 6) - np.round(b, 6)
    assert reader.fact("mean") == f"{differences.mean():+.4f}"
    low, high = of_differences(differences)
    assert reader.fact("interval") == f"{low:+.4f} to {high:+.4f}"
    assert reader.fact("better") == str((differences > 0).sum())
    assert reader.fact("worse") == str((differences < 0).sum())
    assert reader.fact("equal") == "0"
    assert reader.fact("shared") == str(len(CASES))
    dots = "#table-1 .detail .mark.difference"
    assert len(reader.all(dots)) == len(CASES)
    # Dots lie on the side of zero that their sign says.
    zero = float(reader.one("#table-1 .detail line.zero").get_attribute("x1"))
    right = sum(float(dot.get_attribute("cx")) > zero for dot in reader.all(dots))
    assert right == (differences > 0).sum()
    summary = reader.text("#table-1 .dock").replace(MINUS, "-")
    assert f"unet, early minus resunet, hybrid: {differences.mean():+.3f} [" in summary
    # A third row takes the place of the first.
    reader.select("unet, late")
    assert [r.get_attribute("aria-label") for r in reader.all("#table-1 .board input:checked")] == [
        "select unet, late",
        "select resunet, hybrid",
    ]
    reader.press(reader.one("#table-1 .dock button:last-child"))
    assert not reader.all("#table-1 .board input:checked")
    reader.check_quiet()


def test_statistics_effects_pictures_and_what_was_left_out_are_there(reader, pages):
    reader.open(pages["board"])
    notes = reader.text("#table-1 .notes")
    assert "Leader: unet, early." in notes
    assert "By a test made by hand." in notes
    first = reader.all("#table-1 .board tbody tr")
    assert reader.run(
        "return [...document.querySelectorAll('#table-1 .tie')].map((one) => one.textContent)"
    ) == ["leader", "not separated"]
    assert [bool(row.find_elements("class name", "tie")) for row in first] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert "1 to 2" in first[0].text
    assert "<0.001" in first[1].text
    assert len(reader.all("#table-1 .board .bar .interval")) == 5
    effects = reader.run(
        "return [...document.querySelectorAll('#table-1 table.sortable tbody tr')].map((r) => r.textContent)"
    )
    assert [text.replace(MINUS, "-") for text in effects] == ["unetlateearly-0.050[-0.080, -0.020]25<0.001"]
    assert "incomplete: 1 of 3 folds" in reader.text("#table-2 .board")
    assert len(reader.all("#table-1 .strip img")) == 5
    assert reader.run("return document.querySelector('#table-1 .strip img').naturalWidth") == 300
    assert "not in the cache" in reader.text("#table-1")
    assert "1 of 6" not in reader.text("#left-out")
    assert "Left out (1)" in reader.text("#left-out")
    assert "cases.csv: was edited after the run" in reader.text("#left-out")
    assert EVIL in reader.text("#overall")
    assert "dsc own" in reader.text("#overall thead")
    # Folded away until somebody opens it.
    assert not reader.one("#reported table").is_displayed()
    reader.one("#reported summary").click()
    assert "86.25" in reader.one("#reported table").text
    assert f"0.500 {EVIL}, late [own]" in reader.text("#reported")
    assert reader.text("#reported .notes") == f"Differs: {EVIL}"
    reader.check_quiet()


def test_the_page_of_a_run_has_curves_that_can_be_read(reader, pages):
    from selenium.webdriver.common.keys import Keys

    reader.open(pages["run"])
    assert "verified: result.json and cases.csv are as the run wrote them" in reader.text("#digest")
    assert [len(plot.find_elements("class name", "curve")) for plot in reader.all(".plot")] == [3, 1]
    assert reader.text("#history .legend") == "totaldicebce"
    # The total falls as the history says: y grows downwards, in proportion.
    path = reader.one(".plot .curve.total").get_attribute("d")
    heights = [float(y) for _, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]
    steps = np.diff(heights) / np.diff([-row["loss"] for row in HISTORY])
    assert steps[0] == pytest.approx(steps[1])
    assert steps[0] > 0
    plot = reader.one(".plot svg")
    reader.run("arguments[0].focus()", plot)
    plot.send_keys(Keys.ARROW_RIGHT)
    assert reader.text(".plot .caption") == "epoch 2: total 0.9, dice 0.6, bce 0.3"
    dsc = ROWS[EVIL, "early"][0]
    worst = min(CASES, key=lambda case: dsc[case])
    assert reader.text("tr.worst td") == f"{worst} worst case"
    head = reader.run(
        "return [...document.querySelectorAll('thead th')].find((th) => th.textContent === 'DSC')"
    )
    reader.press(head.find_element("tag name", "button"))
    reader.press(head.find_element("tag name", "button"))
    assert reader.text("tbody tr td").startswith(worst)
    assert reader.run("return document.querySelector('.picture img').naturalWidth") == 300
    reader.check_quiet()
