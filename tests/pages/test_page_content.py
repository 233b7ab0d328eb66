"""What goes into the pages: pictures of cases, the store they are drawn from, escaping, sizes. No browser."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from kit.handmade import runs_of, write_run
from PIL import Image

from usbench.contracts.settings import DataSettings
from usbench.datasets.find import find_store
from usbench.datasets.store import Store, prepare
from usbench.datasets.tasks import get_task
from usbench.errors import UsbenchError
from usbench.leaderboards import render, write
from usbench.leaderboards.board import build
from usbench.leaderboards.formats import as_dict
from usbench.pages import case_pictures as pictures
from usbench.pages import leaderboard_page as page
from usbench.pages import run_page
from usbench.pages.case_pictures import chosen_cases, table_pictures
from usbench.pages.figures import COLOURS
from usbench.runs.predict import write_mask

EVIL = "</script><img src=x onerror=alert(1)>"


def close_to(picture: np.ndarray, colour: str) -> int:
    """How many pixels of an RGB picture are near a colour (JPEG does not keep it exactly)."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(picture.astype(int) - wanted).sum(axis=-1) < 60).sum())


def pixels(panel: dict) -> np.ndarray:
    kind, _, content = panel["src"].partition(",")
    assert kind == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert image.size == (panel["width"], panel["height"])
    return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def store(cache: Path, small_prostate: Path) -> Store:
    root = next(small_prostate.rglob("dataset.json")).parent
    return prepare(get_task("msd-prostate"), root, DataSettings(size=32), workers=1)


def run_with_masks(folder: Path, store: Store, masks, **changes) -> Path:
    """A run on all cases of the store, whose masks are `masks(case id, truth)`."""
    parts = {}
    for case_id in store.case_ids:
        case = store.case(case_id)
        file = folder.parent / f"{folder.name}-{case_id}.nii.gz"
        write_mask(masks(case_id, case.truth()), case.affine, file)
        parts[f"predictions/{case_id}.nii.gz"] = file.read_bytes()
    return write_run(
        folder,
        changes.pop("dsc"),
        files=parts,
        cell__task="msd-prostate",
        task__name="msd-prostate",
        task__modalities=list(store.task.modality_names),
        data__fingerprint=store.fingerprint,
        config__data=store.settings.to_json(),
        **changes,
    )


def table_of(store: Store, rows: dict[str, Path]) -> dict:
    """A table of the leaderboard with a row a run, as the JSON has it."""
    return {
        "modalities": list(store.task.modality_names),
        "classes": list(store.task.class_names),
        "rows": [
            {
                "rank": i + 1,
                "label": label,
                "fusion": "early",
                "patients": {row.split(",")[0]: float(row.split(",")[2]) for row in csv_lines(path)},
                "runs": runs_of(path),
            }
            for i, (label, path) in enumerate(rows.items())
        ],
    }


def csv_lines(path: Path) -> list[str]:
    return (path / "cases.csv").read_text().splitlines()[1:]


def test_pictures_show_truth_and_masks_of_the_worst_and_the_median_case(tmp_path, store):
    a, b, c, d = store.case_ids
    # Means of the two rows: a 0.55, b 0.35, c 0.75, d 0.8. Worst b; median of four, the lower: a.
    whole = run_with_masks(
        tmp_path / "whole",
        store,
        lambda case_id, truth: truth,
        dsc={a: {"prostate": 0.9}, b: {"prostate": 0.6}, c: {"prostate": 0.9}, d: {"prostate": 0.9}},
    )
    empty = run_with_masks(
        tmp_path / "empty",
        store,
        lambda case_id, truth: truth * 0,
        dsc={a: {"prostate": 0.2}, b: {"prostate": 0.1}, c: {"prostate": 0.6}, d: {"prostate": 0.7}},
    )
    table = table_of(store, {"whole": whole, "empty": empty})
    found = table_pictures(table, 10**6)
    assert "on the prepared images" in found["note"]
    assert found["classes"] == [{"name": "prostate", "colour": COLOURS[0]}]
    assert [case["title"] for case in found["cases"]] == [
        f"Worst case: {b}, mean DSC 0.350 over 2 rows",
        f"Median case: {a}, mean DSC 0.550 over 2 rows",
        f"Best case: {d}, mean DSC 0.800 over 2 rows",
        f"Another case: {c}, mean DSC 0.750 over 2 rows",
    ]
    for case in found["cases"]:
        t2, adc, full, none = case["panels"]
        assert [p["title"].split(",")[0] for p in (t2, adc)] == ["t2", "adc"]
        assert full["title"].startswith("whole, early: DSC ")
        # The truth is outlined in the class's colour; the right mask covers the white truth, the empty
        # one leaves it.
        for panel in (t2, adc, full):
            assert close_to(pixels(panel), COLOURS[0]) > 150
        assert close_to(pixels(none), COLOURS[0]) < 20
        assert close_to(pixels(none), "#FFFFFF") > close_to(pixels(full), "#FFFFFF") + 60


def test_masks_that_changed_since_the_run_are_not_shown(tmp_path, store):
    dsc = {case_id: {"prostate": 0.5 + i / 10} for i, case_id in enumerate(store.case_ids)}
    good = run_with_masks(tmp_path / "good", store, lambda _, truth: truth, dsc=dsc)
    bad = run_with_masks(tmp_path / "bad", store, lambda _, truth: truth, dsc=dsc, method="attunet")
    worst = store.case_ids[0]
    file = bad / "predictions" / f"{worst}.nii.gz"
    file.write_bytes(file.read_bytes()[:-20])
    found = table_pictures(table_of(store, {"good": good, "bad": bad}), 10**6)
    first, second, *_ = found["cases"]
    assert [p["title"].split(",")[0] for p in first["panels"]] == ["t2", "adc", "good"]
    assert "Without a mask of this case, or with one that changed since the run: 1 of" in first["note"]
    assert [p["title"].split(",")[0] for p in second["panels"]] == ["t2", "adc", "good", "bad"]


def test_pictures_stay_within_their_budget_and_say_so(tmp_path, store):
    dsc = {case_id: {"prostate": 0.5 + i / 10} for i, case_id in enumerate(store.case_ids)}
    rows = {
        f"m{i}": run_with_masks(tmp_path / f"m{i}", store, lambda _, truth: truth, dsc=dsc, method=f"m{i}")
        for i in range(4)
    }
    table = table_of(store, rows)
    everything = table_pictures(table, 10**7)
    sizes = [len(p["src"]) for case in everything["cases"] for p in case["panels"]]
    budget = sum(sizes) * 3 // 4
    less = table_pictures(table, budget)
    kept = [len(p["src"]) for case in less["cases"] for p in case["panels"]]
    assert sum(kept) <= budget
    assert len(kept) < len(sizes)
    titles = [p["title"].split(",")[0] for p in less["cases"][0]["panels"]]
    assert titles == ["t2", "adc", "m0", "m1", "m2", "m3"][: len(titles)]
    assert re.search(r"Left out to keep the page small: [1-4] rows\.", less["cases"][0]["note"])


def test_without_the_store_each_run_shows_its_own_picture(tmp_path, store):
    picture = io.BytesIO()
    Image.new("RGB", (1000, 500), "#00ff00").save(picture, "PNG")
    cases = ("a", "b", "c", "d", "e")
    dsc = {case: {"prostate": 0.9 - i / 10} for i, case in enumerate(cases)}
    files = {"figures/cases.png": picture.getvalue()}
    one = write_run(tmp_path / "one", dsc, files=files)
    two = write_run(tmp_path / "two", dsc, method="attunet")
    found = table_pictures(table_of(store, {"one": one, "two": two}), 10**6)
    assert "not in the cache" in found["note"]
    worst, median, best = found["cases"]
    assert worst["title"] == "Worst case: e, mean DSC 0.500 over 2 rows"
    # A run's picture shows its first four test cases.
    assert "show a, b, c, d. The case itself is not among them." in worst["note"]
    assert "Without a picture of this fold, or with one that changed since the run: 1 of" in worst["note"]
    (panel,) = worst["panels"]
    assert (panel["width"], panel["height"]) == (420, 210)
    assert close_to(pixels(panel), "#00ff00") == 420 * 210
    assert median["title"].startswith("Median case: c")
    assert median["panels"] == []
    assert median["same"] == best["same"] == 0
    assert "those of another case of that fold" in median["note"]


def test_worst_and_median_are_of_the_ranked_rows():
    ranked = {"rank": 1, "patients": {"x": 0.9, "y": 0.5, "z": float("nan")}}
    other = {"rank": None, "patients": {"x": 0.0, "y": 1.0, "z": 0.0}}
    assert chosen_cases([ranked, other]) == [("worst and median", "y", 0.5, 1), ("best", "x", 0.9, 1)]
    assert [c[:2] for c in chosen_cases([other])] == [("worst", "x"), ("median", "z"), ("best", "y")]
    assert chosen_cases([{"rank": 1, "patients": {"x": None}}]) == []


def test_a_store_is_found_by_what_its_cases_hold_alone(store, tmp_path):
    names, classes = store.task.modality_names, store.task.class_names
    settings = store.settings.to_json()
    known = ("msd-prostate", names, classes, settings, store.case_ids, store.fingerprint)
    found = find_store(*known)
    assert found is not None
    assert found.path == store.path
    np.testing.assert_array_equal(found.case(store.case_ids[0]).images, store.case(store.case_ids[0]).images)
    assert find_store(*known[:-1], "f" * 64) is None
    assert find_store(*known[:-2], store.case_ids[:2], store.fingerprint) is None
    assert find_store(*known[:3], {**settings, "size": 48}, *known[4:]) is None
    assert find_store("chaos", *known[1:]) is None
    assert find_store(*known, cache=tmp_path) is None
    # Names of cases are other people's text: none of them leads out of the store.
    assert find_store(*known[:-2], ["../cases/" + store.case_ids[0]], store.fingerprint) is None


def test_files_outside_the_run_folder_are_never_read(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    run = write_run(tmp_path / "run", {"a": {"liver": 0.5}})
    from usbench.results.io import load_result
    from usbench.storage.files import digest_of, sha256_file

    data = json.loads((run / "result.json").read_text())
    data["files"]["../secret.txt"] = sha256_file(tmp_path / "secret.txt")
    data["digest"] = digest_of({k: v for k, v in data.items() if k != "digest"})
    (run / "result.json").write_text(json.dumps(data))
    result = load_result(run)
    assert pictures.as_written(result, "../secret.txt") is None
    assert pictures.as_written(result, "history.csv") is not None


def test_the_page_is_one_file_of_every_format_and_bounded(tmp_path, monkeypatch):
    write_run(tmp_path / "runs" / "1", {"a": {"liver": 0.5}, "b": {"liver": float("nan")}})
    board = build(tmp_path / "runs")
    text = render(board, "html")
    paths = write(board, tmp_path / "out")
    assert (tmp_path / "out" / "leaderboard.html") in paths
    assert (tmp_path / "out" / "leaderboard.html").read_text() == text
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", text)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    # Other people's text is no markup, wherever it stands.
    data = as_dict(board)
    data["problems"] = [{"path": EVIL, "reason": EVIL}]
    data["tables"][0]["rows"][0]["label"] = EVIL
    data["tables"][0]["rows"][0]["patients"] = {EVIL: 0.5, "b": None}
    evil = page.html(data, data)
    assert evil.count("<img") == text.count("<img")
    assert evil.count("</script>") == text.count("</script>")
    # Pictures give way before the page grows past its limit.
    budgets = []
    monkeypatch.setattr(pictures, "table_pictures", lambda table, budget: budgets.append(budget))
    page.html(data, data)
    assert 0 < budgets[0] <= page.LIMIT - len(text)


def test_report_says_what_was_verified_and_hides_what_changed(tmp_path, command):
    picture = io.BytesIO()
    Image.new("RGB", (10, 10)).save(picture, "PNG")
    dsc = {"p1": {"liver": 0.9, "spleen": 0.7}, EVIL: {"liver": 0.5, "spleen": 0.3}}
    text = {"text": f"look {EVIL}", "modality": "t2", "class": "liver", "fallback": True, "truncated": False}
    notes = {case: {"instruction": [{**text, "slice": None}]} for case in dsc}
    run = write_run(
        tmp_path / "run",
        dsc,
        files={"figures/cases.png": picture.getvalue(), "notes.json": json.dumps(notes).encode()},
        remarks=[f"3 texts were cut {EVIL}"],
    )
    done = command("report", run, "--out", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"written: {tmp_path / 'page.html'}\n"
    page_text = (tmp_path / "page.html").read_text()
    digest = json.loads((run / "result.json").read_text())["digest"]
    assert f"Digest {digest[:16]} verified" in page_text
    assert "4 of 4 files of the run are unchanged." in page_text
    assert "<img src=x" not in page_text
    assert page_text.count("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;") >= 6
    assert base64.b64encode(picture.getvalue()).decode() in page_text
    assert page_text.count("worst case</span>") == 2
    assert "0.400 over its classes" in page_text
    # Said for two cases, fell back.
    assert re.search(r'data-value="2">2</td><td class="number" data-value="2">2</td><td>fallback', page_text)

    (run / "history.csv").write_text("epoch,loss\n1,0.0\n")
    (run / "figures" / "cases.png").unlink()
    changed = run_page.write_report(run)
    assert changed == run / "report.html"
    words = changed.read_text()
    assert "2 of 4 files of the run are unchanged. Changed or missing, and therefore not shown: " in words
    assert "history.csv is missing or was changed" in words
    assert "figures/cases.png is missing or was changed" in words
    assert '"history":[]' in words

    (run / "cases.csv").write_text((run / "cases.csv").read_text().replace("0.9", "0.99"))
    with pytest.raises(UsbenchError, match=r"cases\.csv: was edited"):
        run_page.write_report(run)
    failed = command("report", run)
    assert failed.returncode == 1
    assert failed.stderr.startswith("Error: ")
    assert len(failed.stderr.splitlines()) == 1
