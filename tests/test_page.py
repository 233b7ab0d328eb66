"""The pages in a real Chromium: what a reader can do with them, and what nobody can make them do."""

from __future__ import annotations

import http.server
import io
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import HISTORY, runs_of, write_run
from PIL import Image

from usbench.board import build, page, run_page
from usbench.board.render import as_dict

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no chromium or no chromedriver on PATH; install Debian's packages chromium and chromium-driver",
)

MINUS = "\N{MINUS SIGN}"
EVIL = "</script><img src=x onerror=alert(1)>"
LONG = "a-method-with-a-very-long-name-that-fits-no-telephone-" * 3
CASES = [f"case-{i:02}" for i in range(24)] + [EVIL]


def scores(shift: float, seed: int) -> dict[str, float]:
    noise = np.random.default_rng(seed).normal(0, 0.08, len(CASES))
    return {case: float(np.clip(0.7 + shift + n, 0, 1)) for case, n in zip(CASES, noise, strict=True)}


ROWS = {  # (method, fusion): DSC by case, HD95 and parameters follow
    ("unet", "early"): (scores(0.1, 1), 14_000_000),
    ("unet", "late"): (scores(0.05, 2), 42_000_000),
    ("resunet", "hybrid"): (scores(0.0, 3), 900_000),
    (EVIL, "early"): (scores(-0.1, 4), 2_000_000),
    (LONG, "late"): (scores(-0.2, 5), 5_000_000),
}


def board_data(folder: Path) -> dict[str, Any]:
    """A leaderboard of two tasks from runs on disk, with the statistics that a board may have."""
    picture = io.BytesIO()
    Image.new("RGB", (300, 200), "#335577").save(picture, "PNG")
    for i, ((method, fusion), (dsc, parameters)) in enumerate(ROWS.items()):
        write_run(
            folder / "chaos" / str(i),
            {case: {"liver": value} for case, value in dsc.items()},
            method,
            fusion,
            files={"figures/cases.png": picture.getvalue()},
            cost__parameters=parameters,
            cost__trainable=parameters,
        )
    write_run(
        folder / "own" / "0", {"x": {"tumour": 0.5}}, folds=3, cell__task="own", data__kind="real", fold=1
    )
    broken = write_run(folder / "own" / "broken", {"x": {"tumour": 0.5}}, "broken", cell__task="own")
    (broken / "cases.csv").write_text("edited")
    data = as_dict(build(folder))
    runs = {(r["hash"]): r for r in runs_of(folder)}
    for table in data["tables"]:
        for row in table["rows"]:
            fold = 1 if table["task"] == "own" else 0
            row["runs"] = [runs[f"{fold}fab{row['method']}{row['fusion']}"]]
    first = data["tables"][0]
    for i, row in enumerate(first["rows"]):
        row |= {
            "tier": 1 if i < 2 else 2,
            "p_leader": None if i == 0 else 0.0004 * i**4,
            "rank_median": i + 1,
            "rank_low": max(1, i),
            "rank_high": i + 2,
            "gflops": 1.5 * (i + 1),
            "memory_mb": 300.0,
            "train_seconds": 12.0,
            "seed_sd": None,
            "device": "CPU of the test",
        }
    first["tests"] = {
        "leader": "unet, early",
        "test": "a paired test",
        "correction": "Holm",
        "note": "By hand",
    }
    first["split_half_tau"] = 0.75
    effect = {"method": "unet", "a": "late", "b": "early", "difference": -0.05, "low": -0.08, "high": -0.02}
    first["fusion_effects"] = [{**effect, "n": 25, "p": 0.0002}]
    group = {
        "title": "sample data",
        "size": 16,
        "rows": [{"label": EVIL, "mean_rank": 1.5, "dsc": {"own": 0.5}}],
    }
    data["overall"] = [group]
    data["reported"] = [{"method": "U-Net", "reported_dsc": 86.25, "our_dsc": None}]
    return data


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of a leaderboard and of the page of a run."""
    folder = tmp_path_factory.mktemp("pages")
    data = board_data(folder / "runs")
    (folder / "board.html").write_text(page.html(data, data), encoding="utf-8")
    run_page.write_report(folder / "runs" / "chaos" / "3", folder / "run.html")
    return {name: (folder / f"{name}.html").as_uri() for name in ("board", "run")}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver

    os.environ["SE_OFFLINE"] = "true"  # selenium looks for no driver of its own
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1280,900",
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


class Reader:
    """What a reader does with a page, and what the page then shows."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def open(self, address: str) -> Reader:
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        self.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.browser.get_log("browser")
        self.browser.get_log("performance")
        self.browser.get(address)
        if self.run("const kept = localStorage.length; localStorage.clear(); return kept"):
            self.browser.refresh()
        return self

    def run(self, code: str, *values: Any) -> Any:
        return self.browser.execute_script(code, *values)

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def press(self, element: Any) -> None:
        self.run("arguments[0].scrollIntoView({block: 'center', inline: 'start'})", element)
        element.click()

    def rows(self, table: int = 1) -> list[str]:
        """Method and fusion of the rows that are visible, from the top."""
        return self.run(
            "return [...document.querySelectorAll(`#table-${arguments[0]} .board tbody tr`)]"
            ".filter((row) => row.offsetParent !== null).map((row) => row.querySelector('th')).map((head) =>"
            " head.firstChild.textContent + ', ' + head.nextSibling.textContent)",
            table,
        )

    def head(self, name: str) -> Any:
        code = (
            "return [...document.querySelectorAll('#table-1 .board thead th')]"
            ".find((head) => head.textContent === arguments[0])"
        )
        return self.run(code, name)

    def select(self, name: str) -> None:
        self.press(self.one(f"#table-1 input[aria-label='select {name}']"))

    def fact(self, name: str) -> str:
        return self.text(f"#table-1 [data-fact={name}]").replace(MINUS, "-")

    def overflow(self) -> int:
        return int(self.run("return document.documentElement.scrollWidth - innerWidth"))

    def check_quiet(self) -> None:
        """The console is empty, and nothing but the page itself was asked for."""
        assert self.browser.get_log("browser") == []
        asked = [
            message["params"]["request"]["url"]
            for entry in self.browser.get_log("performance")
            if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
        ]
        assert asked, "the log of requests is not switched on"
        assert {url for url in asked if not url.startswith("data:")} == {self.browser.current_url}


@pytest.fixture
def reader(browser: Any) -> Reader:
    return Reader(browser)


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
    assert reader.text("#shown") == "0 of 6 rows shown"
    reader.one("#filter-text").clear()
    reader.one("#filter-text").send_keys(" ")
    Select(reader.one("#filter-data")).select_by_value("real")
    assert not reader.one("#table-1").is_displayed()
    assert reader.rows(2) == ["unet, early"]
    Select(reader.one("#filter-data")).select_by_value("")
    Select(reader.one("#filter-task")).select_by_value("chaos")
    assert reader.text("#shown") == "5 of 6 rows shown"
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


def resampled_interval(differences: np.ndarray) -> tuple[float, float]:
    """The page's interval by hand: xorshift32 (Marsaglia 2003), 2000 resamples, numpy's percentiles."""
    state, means = 2463534242, []
    for _ in range(2000):
        drawn = []
        for _ in range(len(differences)):
            state ^= (state << 13) & 0xFFFFFFFF
            state ^= state >> 17
            state ^= (state << 5) & 0xFFFFFFFF
            drawn.append(int(state / 2**32 * len(differences)))
        means.append(differences[drawn].mean())
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


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
    low, high = resampled_interval(differences)
    assert reader.fact("interval") == f"{low:+.4f} to {high:+.4f}"
    # Another generator agrees within the noise of 2000 resamples.
    draws = np.random.default_rng(7).integers(len(a), size=(20000, len(a)))
    free = np.percentile(differences[draws].mean(axis=1), (2.5, 97.5))
    np.testing.assert_allclose([low, high], free, atol=0.006)
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
    assert "a paired test" in notes
    assert "Holm" in notes
    assert "(Kendall's tau): 0.75." in notes
    first = reader.all("#table-1 .board tbody tr")
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
    assert "86.25" in reader.text("#reported")
    reader.check_quiet()


def test_theme_follows_the_system_until_the_reader_chooses(reader, pages):
    from selenium.webdriver.support.ui import WebDriverWait

    def ground() -> int:
        colour = reader.run("return getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    def system(value: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": value}]
        reader.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def button_says(words: str) -> None:
        # The page hears of the system's change a moment after it is drawn anew.
        WebDriverWait(reader.browser, 5, 0.02).until(lambda _: reader.text("#theme") == words)

    for name in ("board", "run"):
        reader.open(pages[name])
        system("light")
        assert ground() > 700
        button_says("Dark theme")
        system("dark")
        assert ground() < 100
        button_says("Light theme")
        reader.one("#theme").click()
        assert ground() > 700
        reader.one("#theme").click()
        assert ground() < 100
        system("light")
        assert ground() < 100
        reader.check_quiet()


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.1."""
    parts = np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_text_and_marks_stand_out_in_both_themes(reader, pages):
    reader.open(pages["board"])
    reader.select("unet, early")
    for theme in ("light", "dark"):
        reader.run("document.documentElement.dataset.theme = arguments[0]", theme)
        ground = luminance(reader.run("return getComputedStyle(document.body).backgroundColor"))
        wanted = [
            (".muted", "color", 4.5),
            ("td", "color", 4.5),
            (".sort", "color", 4.5),
            (".tie", "color", 4.5),
        ]
        wanted += [(f"svg .mark.{fusion}", "fill", 3.0) for fusion in ("early", "hybrid", "late")]
        for selector, what, least in wanted:
            code = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
            own = luminance(reader.run(code, selector, what))
            contrast = (max(own, ground) + 0.05) / (min(own, ground) + 0.05)
            assert contrast >= least, (theme, selector, contrast)


def test_a_telephone_scrolls_tables_not_the_page(reader, pages):
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    for name in ("board", "run"):
        reader.open(pages[name])
        reader.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        reader.browser.get(pages[name])
        assert reader.run("return innerWidth") == 360
        assert reader.overflow() <= 0
        if name == "board":
            # Rank, name and score are in sight without scrolling the table.
            assert (
                reader.run("return document.querySelector('.board .dsc').getBoundingClientRect().right") < 350
            )
            reader.run(
                "document.querySelectorAll('#table-1 .board input').forEach((box, i) => i < 2 && box.click())"
            )
            assert len(reader.all("#table-1 .detail .mark.difference")) == len(CASES)
            assert reader.overflow() <= 0
            box = reader.one("#table-1 .scroll")
            assert reader.run("return arguments[0].scrollWidth > arguments[0].clientWidth", box)
        widest = reader.run(
            "return Math.max(...[...document.querySelectorAll('.plot svg')].map((one) => one.clientWidth))"
        )
        assert 250 < widest <= 360
    reader.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_names_of_others_are_text_and_nothing_else(reader, pages):
    from selenium.common.exceptions import NoAlertPresentException

    for name in ("board", "run"):
        reader.open(pages[name])
        if name == "board":
            assert f"{EVIL}, early" in reader.rows()
            reader.run("document.querySelector('#table-1 .board input[aria-label*=img]').click()")
            assert EVIL in reader.text("#table-1 .detail h3")
        else:
            assert EVIL in reader.text("h1")
            assert EVIL in reader.text("tbody")
        assert reader.all("img[onerror]") == []
        assert reader.all("img:not([src^='data:'])") == []
        with pytest.raises(NoAlertPresentException):
            _ = reader.browser.switch_to.alert.text
        reader.check_quiet()


def test_the_policy_lets_nothing_out_and_no_other_code_in(reader, pages):
    hits: list[str] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"http://127.0.0.1:{server.server_port}"
    try:
        reader.open(pages["board"])
        reader.browser.set_script_timeout(10)
        outcome = reader.browser.execute_async_script(
            """
            const [host, done] = arguments;
            const said = [];
            addEventListener("securitypolicyviolation", (event) => said.push(event.effectiveDirective));
            const image = new Image();
            const tried = () => fetch(host + "/fetch").then(() => "out", () => "refused");
            image.onerror = image.onload = () => tried().then((word) => {
              const script = document.createElement("script");
              script.textContent = "window.intruder = true";
              document.body.append(script);
              const style = document.createElement("link");
              style.rel = "stylesheet";
              style.href = host + "/style.css";
              document.head.append(style);
              setTimeout(() => done([word, window.intruder === true, said.sort()]), 200);
            });
            image.src = host + "/image.png";
            """,
            host,
        )
        assert outcome[:2] == ["refused", False]
        assert {"connect-src", "img-src", "script-src-elem", "style-src-elem"} <= set(outcome[2])
        assert hits == []
        # The server does answer one who may ask.
        import urllib.request

        urllib.request.urlopen(f"{host}/control", timeout=5).close()
        assert hits == ["/control"]
    finally:
        server.shutdown()
        server.server_close()
        reader.browser.get_log("browser")


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
