"""What frozen features will take is said by a dry run, and asked about before it is too much."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import usbench
from usbench.datasets.tasks import get_task
from usbench.errors import UsbenchError
from usbench.features import estimate
from usbench.features.estimate import Need, Pace
from usbench.features.rows import Form
from usbench.features.total import stored_bytes
from usbench.runs import consent
from usbench.runs.consent import FEW_SLICES, Outlook, full_line, outlook, outlook_lines
from usbench.runs.plan import make_cells, make_plan

FROZEN = Path(__file__).parent.parent / "kit" / "frozen_method.py"
TINY_BOUND = 1e-5  # GB


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("USBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def words(small_prostate: Path, own_cache: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "method": "frozen", "fusion": "late", "task": "msd-prostate", "data_dir": small_prostate,
        "folds": "0", "preset": "smoke", "device": "cpu", "plugins": [FROZEN], "runs_dir": tmp_path / "runs",
        "settings": {"train.epochs": 1, "train.augment": "light", "train.views": 2, "train.min_batches": 1},
    }  # fmt: skip


def cells(words: dict[str, Any]) -> Any:
    return make_cells(make_plan(usbench.Request(**words)))


def found(words: dict[str, Any]) -> Outlook:
    made = outlook(cells(words), "cpu")
    assert made is not None
    return made


def test_estimated_bytes_are_those_that_are_stored(words: dict[str, Any], own_cache: Path) -> None:
    """Of features and of views, of one fold and of all; and what is stored is not counted again."""
    before = found(words)
    of_rows, of_views = before.needs
    assert (of_rows.what, of_views.what) == ("blurred images", "augmented views")
    usbench.run(**words)
    headers = 4 + 3 * 2  # files: four cases, two views of three
    assert stored_bytes() == pytest.approx(of_rows.bytes, abs=headers * 128)
    on_disk = sum(file.stat().st_size for file in (own_cache / "views").rglob("*.npy"))
    assert on_disk == pytest.approx(of_views.bytes, abs=2 * 6 * 128)
    assert found(words).needs == []
    assert found(words).lines() == ["features: all are stored"]
    # The other folds need views of the one case that was left out.
    views = found({**words, "folds": "all"}).needs
    slices = sum(need.slices for need in views)
    assert {need.what for need in views} == {"blurred images", "augmented views"}
    assert slices == 2 * views[1].slices > 0
    assert views[1].slices < of_views.slices


def test_what_the_full_data_set_takes() -> None:
    """By hand: LiteMedSAM at 256 pixels gives 256 x 64 x 64 numbers for a slice and modality."""
    task = get_task("msd-brain")
    assert (len(task.case_ids), task.slices) == (484, 75_020)
    row = 4 * 256 * 64 * 64 * 2  # four modalities, two bytes: 8,388,608
    embeddings = Need("embeddings", 10, 5.0, 10 * row, True, Pace(0.0, 0.5, row))
    assert embeddings.at(484, 75_020) == (37_510.0, 629_313_372_160)
    texts = Need("texts", 10, 5.0, 0, False, Pace(2.0, 0.0, 0.0))
    line = full_line(task, [embeddings, texts])
    assert line.startswith(
        "features: of the full data set (484 patients, 75,020 published slices) about 10.7 h"
    )
    assert line.endswith("and 629.3 GB, at the same pace")
    # Eight bits: half of it, and a scale of four bytes for each of 4 x 256 maps.
    eight = Form(bits=8).arrays(torch.zeros(1, 4, 256, 64, 64, dtype=torch.float16))
    assert sum(array.nbytes for array in eight.values()) == row // 2 + 4 * 4 * 256
    # With views of a fifth of the slices, four each, there are 1.8 rows a slice.
    viewed = replace(embeddings, share=1.8)
    assert viewed.at(484, 75_020)[1] == pytest.approx(1.8 * 629_313_372_160)
    assert full_line(get_task("chaos"), [embeddings]) == ""
    assert full_line(task, []) == ""


def test_a_mean_that_can_be_read_takes_nothing(words: dict[str, Any]) -> None:
    late, hybrid = cells(words), cells({**words, "fusion": "hybrid"})
    alone, both = (outlook(some, "cpu") for some in (hybrid, [*late, *hybrid]))
    assert alone is not None
    assert both is not None
    first, whole = alone.needs[0], found(words).needs[0]
    assert (first.slices, first.bytes) == (whole.slices, whole.bytes // 2)
    assert [(n.what, n.slices, n.bytes) for n in both.needs] == [
        (n.what, n.slices, n.bytes) for n in found(words).needs
    ]


def test_a_slice_is_timed_or_known_from_what_is_stored(
    words: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROZEN_SLEEP", "0.02")
    need = found(words).needs[0]
    assert 0.02 <= need.seconds / need.slices < 0.2
    usbench.run(**words)

    def never(*_: Any) -> None:
        raise AssertionError("a slice was timed although others are stored")

    monkeypatch.setattr(estimate, "measure", never)
    need = found({**words, "folds": "all"}).needs[0]
    assert 0.02 <= need.seconds / need.slices < 0.2


def test_a_dry_run_says_what_features_take(words: dict[str, Any]) -> None:
    """Also of data that is not prepared: cases are taken to be like the first one, and nothing is stored."""
    plan = make_plan(usbench.Request(**words))
    unprepared = outlook_lines([plan])
    assert unprepared[0].startswith("features: blurred images: ")
    assert " slices to compute, about " in unprepared[0]
    assert "estimated from the time of a slice on CPU" in unprepared[-2]
    assert unprepared[-1].endswith("one case was read, the others are taken to be like it")
    assert stored_bytes() == 0
    cells(words)
    prepared = outlook_lines([plan])
    assert len(prepared) == len(unprepared) - 1
    count, likely = (int(line[0].split()[3].replace(",", "")) for line in (prepared, unprepared))
    assert 0.5 < likely / count < 2
    made = usbench.matrix(**{**matrix_words(words), "fusions": "all"}, dry_run=True)
    assert made.features[0].startswith(f"features: blurred images: {count:,} slices")
    assert outlook_lines([make_plan(usbench.Request(**{**words, "method": "unet"}))]) == []


def matrix_words(words: dict[str, Any]) -> dict[str, Any]:
    renamed = {"method": "methods", "fusion": "fusions", "task": "tasks"}
    return {renamed.get(name, name): value for name, value in words.items()}


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("time", "that is more than 0 s"),
        ("bound", "--cache-gb 1e-05 leaves 0.0 GB, and what does not fit is computed anew in every batch"),
        ("disk", "0.0 GB are free in "),
    ],
)
def test_too_much_goes_on_only_with_yes(
    words: dict[str, Any], what: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "time":
        monkeypatch.setattr(consent, "ASK_SECONDS", 0.0)
    elif what == "disk":
        monkeypatch.setattr(consent.shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    else:
        words = {**words, "cache_gb": TINY_BOUND}
    for call, options in ((usbench.run, words), (usbench.matrix, matrix_words(words))):
        with pytest.raises(UsbenchError) as error:
            call(**options)
        line = str(error.value)
        assert line.startswith("frozen features (blurred images, augmented views): about ")
        assert reason in line
        assert "nobody is there to be asked: add --yes to go on (yes=True in Python)" in line
        assert "\n" not in line
    assert stored_bytes() == 0
    assert usbench.run(**words, yes=True)[0].path.is_dir()
    # Nothing is left to compute: nobody is asked.
    assert usbench.matrix(**matrix_words(words)).before == 1


def test_few_slices_are_never_asked_about(words: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consent, "FEW_SLICES", 100_000)
    monkeypatch.setattr(consent, "ASK_SECONDS", 0.0)
    assert FEW_SLICES < 100
    assert len(usbench.run(**words)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["n", "", "y"])
def test_a_terminal_is_asked(words: dict[str, Any], answer: str, own_cache: Path) -> None:
    line = [sys.executable, "-m", "usbench", "run", *usbench.Request(**words).command()]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*line, "--cache-gb", str(TINY_BOUND)],
        stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs, env=dict(os.environ),
    )  # fmt: skip
    os.close(theirs)
    said = b""
    asked = False
    while True:
        try:
            said += os.read(ours, 4096)
        except OSError:  # The other end is closed.
            break
        if not asked and b"go on? [y/N] " in said:
            asked = True
            os.write(ours, answer.encode() + b"\n")
    os.close(ours)
    code = process.wait(timeout=120)
    text = said.decode()
    assert asked, text
    assert text.count("go on? [y/N]") == 1
    assert code == (0 if answer == "y" else 1), text
    assert ("Error: not started: the features were declined" in text) == (answer != "y")
    assert bool(list(own_cache.parent.glob("runs/*/*/*/result.json"))) == (answer == "y")
