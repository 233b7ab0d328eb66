"""Tracks on the pages: the tables, the choice of a missing modality, and the sections of a run's page."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.browsing import NEEDS_BROWSER, Reader, browser  # noqa: F401
from kit.handmade import write_run
from kit.made_tracks import edit_track, make_track
from PIL import Image

from usbench.contracts.settings import DataSettings
from usbench.datasets.store import Store, prepare
from usbench.datasets.tasks import get_task
from usbench.leaderboards import check, write_kept
from usbench.leaderboards.board import build
from usbench.leaderboards.formats import as_dict
from usbench.pages import leaderboard_page as page
from usbench.pages import run_page
from usbench.pages.case_pictures import characters, table_pictures
from usbench.runs.predict import write_mask

EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def store(cache: Path, small_prostate: Path) -> Store:
    root = next(small_prostate.rglob("dataset.json")).parent
    return prepare(get_task("msd-prostate"), root, DataSettings(size=32), workers=1)


def masks_of(store: Store, folder: Path, change: Any) -> dict[str, bytes]:
    """Masks by case id, packed: `change(truth)`."""
    found = {}
    for case_id in store.case_ids:
        case = store.case(case_id)
        write_mask(change(case.truth()), case.affine, folder / "mask.nii.gz")
        found[case_id] = (folder / "mask.nii.gz").read_bytes()
    return found


@pytest.fixture(scope="module")
def runs(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows: one has a robustness track with masks, which are empty without t2; the other none."""
    folder = tmp_path_factory.mktemp("runs")
    truth, empty = (masks_of(store, folder, change) for change in (lambda t: t, lambda t: t * 0))
    for method, dsc in (("unet", 0.9), ("unext", 0.8)):
        run = write_run(
            folder / "runs" / method,
            {case: {"prostate": dsc} for case in store.case_ids},
            method,
            files={f"predictions/{case}.nii.gz": content for case, content in truth.items()},
            cell__task="msd-prostate",
            task__name="msd-prostate",
            task__modalities=list(store.task.modality_names),
            data__fingerprint=store.fingerprint,
            config__data=store.settings.to_json(),
        )
        if method == "unet":
            picture = io.BytesIO()
            Image.new("RGB", (60, 40), "#aa5577").save(picture, "PNG")
            (run / "tracks" / "robustness").mkdir(parents=True)
            (run / "tracks" / "robustness" / "figure.png").write_bytes(picture.getvalue())
            make_track(
                run,
                lambda condition, case, label: {"clean": 0.9, "missing-t2": 0.25}.get(condition, 0.7),
                masks={
                    f"missing-{name}/{case}.nii.gz": content
                    for name, masks in (("t2", empty), ("adc", truth))
                    for case, content in masks.items()
                },
            )
            make_track(run, lambda *_: 0.5, "external", "external-other", cases=["x1"])
    return folder / "runs"


def pixels(src: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2]))).convert("RGB")).astype(
        int
    )


def outlined(src: str) -> int:
    """How many pixels have a hue: the outline of a mask; image and truth are grey and white."""
    return int((np.ptp(pixels(src), axis=-1) > 60).sum())


def test_pictures_without_a_modality_show_the_masks_of_the_track(runs):
    (table,) = as_dict(build(runs))["tables"]
    found = table_pictures(table, 2_000_000)
    assert found is not None
    for case in found["cases"]:
        by_row = {panel["method"]: panel for panel in case["panels"] if "method" in panel}
        assert set(by_row) == {0, 1}
        assert set(by_row[0]["without"]) == {"t2", "adc"}
        assert "without" not in by_row[1]
        assert by_row[0]["without"]["t2"]["title"] == "unet, early, without t2: DSC 0.250"
        # The mask without T2 is empty, that without ADC is the truth, as that of all modalities.
        assert outlined(by_row[0]["without"]["t2"]["src"]) == 0
        assert outlined(by_row[0]["without"]["adc"]["src"]) == outlined(by_row[0]["src"]) > 20


def test_pictures_without_a_modality_come_after_all_others_and_within_the_budget(runs):
    (table,) = as_dict(build(runs))["tables"]
    whole = table_pictures(table, 2_000_000)
    panels = [panel for case in whole["cases"] for panel in case["panels"]]
    plain = sum(len(panel["src"]) for panel in panels)
    full = sum(map(characters, panels))
    assert full > plain
    for budget in (plain * 13 // 10, full - 1):
        shown = [panel for case in table_pictures(table, budget)["cases"] for panel in case["panels"]]
        assert len(shown) == len(panels)
        assert sum(map(characters, shown)) <= budget
        assert sum("without" in panel for panel in shown) < sum("without" in panel for panel in panels)


@pytest.mark.parametrize("fault", ["a mask edited", "the track edited", "masks not kept"])
def test_masks_that_cannot_be_trusted_are_not_shown(runs, fault, tmp_path):
    import shutil

    copy = tmp_path / "runs"
    shutil.copytree(runs, copy)
    track = copy / "unet" / "tracks" / "robustness"
    if fault == "a mask edited":
        for file in (track / "predictions" / "missing-t2").iterdir():
            file.write_bytes(next((track / "predictions" / "missing-adc").iterdir()).read_bytes() + b"x")
    elif fault == "masks not kept":
        shutil.rmtree(track / "predictions" / "missing-t2")
    else:
        edit_track(track, lambda data: data["scores"].update(clean=1.0), seal=False)
    (table,) = as_dict(build(copy))["tables"]
    shown = [panel for case in table_pictures(table, 2_000_000)["cases"] for panel in case["panels"]]
    names = {name for panel in shown for name in panel.get("without", {})}
    assert names == (set() if fault == "the track edited" else {"adc"})


def test_the_page_of_a_run_has_a_section_for_each_track(runs, tmp_path):
    text = run_page.write_report(runs / "unet", tmp_path / "unet.html").read_text()
    assert "<h2>Missing and noisy modalities</h2>" in text
    # EMM avg of 0.25 and 0.7; without t2 0.65 are lost.
    assert re.search(r"EMM avg</th><td class=\"number\">0\.475</td>", text)
    assert re.search(
        r"without t2</th>(<td class=\"number\">[0-9.]+</td>){2}<td class=\"number\">0\.650</td>", text
    )
    assert "<h2>On other data: other</h2>" in text
    assert "robustness: picture of the evaluation" in text
    assert "Missing and noisy" not in run_page.write_report(runs / "unext", tmp_path / "b.html").read_text()


def test_the_page_of_a_run_names_a_track_that_was_edited(runs, tmp_path):
    import shutil

    shutil.copytree(runs / "unet", tmp_path / "unet")
    edit_track(tmp_path / "unet" / "tracks" / "robustness", lambda data: data.update(told=True), seal=False)
    text = run_page.write_report(tmp_path / "unet").read_text()
    assert "was edited after the evaluation" in text
    assert "Missing and noisy" not in text


def test_the_page_is_bounded_and_other_peoples_words_stay_words(runs, tmp_path, monkeypatch):
    import shutil

    copy = tmp_path / "runs"
    shutil.copytree(runs, copy)
    shutil.rmtree(copy / "unet" / "tracks" / "external-other")
    make_track(copy / "unet", lambda *_: 0.5, "external", "external-other", cases=["x"], data=_evil())
    board = build(copy)
    from usbench.leaderboards import render

    text = render(board, "html")
    assert EVIL not in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert data["tracks"][1]["other_data"] == EVIL
    assert data["tracks"][0]["picture"].startswith("data:image/png")
    monkeypatch.setattr(page, "LIMIT", 170_000)
    small = render(board, "html")
    assert len(small) <= 170_000


def _evil() -> dict[str, Any]:
    return {
        "kind": "sample",
        "fingerprint": "e" * 64,
        "cases": ["x"],
        "name": EVIL,
        "task": "msd-prostate",
        "labels": {},
    }


def test_kept_tables_hold_tracks_and_are_checked(runs, tmp_path):
    write_kept(build(runs), runs, tmp_path / "board", pictures=True)
    kept = tmp_path / "board" / "results" / "unet" / "tracks"
    files = sorted(path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file())
    names = ("external-other", "robustness")
    assert files == [f"{name}/{file}" for name in names for file in ("cases.csv", "track.json")]
    check(tmp_path / "board")


@pytest.fixture(scope="module")
def address(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    from usbench.leaderboards import write

    folder = tmp_path_factory.mktemp("page")
    write(build(runs), folder)
    return (folder / "leaderboard.html").as_uri()


@pytest.fixture
def reader(browser: Any) -> Reader:  # noqa: F811
    return Reader(browser)


@NEEDS_BROWSER
def test_a_reader_sorts_filters_and_chooses_what_is_missing(reader, address):
    from selenium.webdriver.support.ui import Select

    reader.open(address)
    heads = [head.text for head in reader.all("#track-1 table:first-of-type thead th") if head.text]
    assert {"rank", "method", "EMM avg", "clean", "RMM avg", "NM gauss", "without t2", "without adc"} <= set(
        heads
    )
    assert "0.650" in reader.text("#track-1")
    assert "On other data" not in reader.text("#track-2 h2")
    assert reader.text("#track-2 h2").startswith("External, other")
    select = Select(reader.one("select.missing"))
    assert [option.text for option in select.options] == ["all modalities", "without t2", "without adc"]
    sources = "return [...document.querySelectorAll('#table-1 .strip img')].map((one) => one.src)"
    words = (
        "return [...document.querySelectorAll('#table-1 .strip figcaption')].map((one) => one.textContent)"
    )
    before, named = reader.run(sources), reader.run(words)
    select.select_by_visible_text("without t2")
    after, renamed = reader.run(sources), reader.run(words)
    changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert changed
    assert all(renamed[i] == "unet, early, without t2: DSC 0.250" for i in changed)
    others = [text for text in renamed if text.startswith("unext")]
    assert others
    assert all(text.endswith("(all modalities: no mask without t2)") for text in others)
    select.select_by_visible_text("all modalities")
    assert (reader.run(sources), reader.run(words)) == (before, named)
    reader.one("#filter-text").send_keys("unext")
    assert not reader.one("#track-1").is_displayed()
    reader.check_quiet()
