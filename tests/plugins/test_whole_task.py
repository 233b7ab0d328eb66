"""A task of a plugin that brings everything: layout, checking reader, phantom, name in published tables."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.places import ROOT, TINY

import usbench
from usbench.contracts.data import PHANTOM_MARK
from usbench.contracts.settings import DataSettings
from usbench.datasets.check import check
from usbench.datasets.phantom import make_phantom, phantom_root
from usbench.datasets.readers.layouts import locate, open_reader
from usbench.datasets.resolve import find_data
from usbench.datasets.store import prepare
from usbench.datasets.tasks import get_task
from usbench.errors import UsbenchError
from usbench.leaderboards import check as check_kept
from usbench.leaderboards import write_kept
from usbench.leaderboards.board import build

WHOLE = ROOT / "examples" / "whole_task.py"
SMALL = DataSettings(size=32)


def changed(folder: Path, *pairs: tuple[str, str]) -> Path:
    """The example's file with some of its text replaced."""
    text = WHOLE.read_text()
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "plugin.py").write_text(text)
    return folder / "plugin.py"


def patients(folder: Path, cases: int = 4) -> Path:
    """A data folder with the files of some patients, which do not say that they were simulated."""
    make_phantom(get_task("liver-npz", [WHOLE]), folder, cases)
    (folder / "liver-npz" / PHANTOM_MARK).unlink()
    return folder


@pytest.mark.slow
def test_the_commands_of_data(command: Any, tmp_path: Path) -> None:
    """List, make a phantom, check it; then break two patients in three ways, all named at once."""
    plugin = ("--plugin", WHOLE)
    listed = command("data", "list", *plugin).stdout
    own = listed[listed.index("liver-npz:") :]
    assert f"  from        file {WHOLE}\n" in own
    assert "  tolerance   3 mm of NSD, one pixel in the plane of the scans\n" in own
    assert "no data folder given (--data-dir or USBENCH_DATA): runs use the phantom\n" in own
    made = command("data", "phantom", "liver-npz", tmp_path / "p", "--cases", 4, *plugin)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "p" / "liver-npz"
    assert [file.name for file in sorted(folder.glob("*.npz"))] == [f"patient-0{n}.npz" for n in (1, 2, 3, 4)]
    words = ("liver-npz", *plugin, "--data-dir", tmp_path / "p")
    fine = command("data", "check", *words)
    assert (fine.returncode, fine.stdout) == (0, f"{tmp_path / 'p'}: nothing wrong found\n")
    first, second = (dict(np.load(folder / f"patient-0{n}.npz")) for n in (2, 3))
    first["mask"][0, 0, :2] = (7, 8)
    np.savez(folder / "patient-02.npz", **first)
    np.savez(folder / "patient-03.npz", t2=second["t2"], mask=second["mask"], spacing=second["spacing"])
    bad = command("data", "check", *words)
    assert bad.returncode == 1
    assert bad.stdout.splitlines() == [
        f"{folder / 'patient-02.npz'}: mask value 7 belongs to no class; correct the mask",
        f"{folder / 'patient-02.npz'}: mask value 8 belongs to no class; correct the mask",
        f"{folder / 'patient-03.npz'}: holds no array t1; write it, or drop the case",
    ]
    with pytest.raises(UsbenchError, match="mask value 7 belongs to no class"):
        prepare(get_task("liver-npz", [WHOLE]), tmp_path / "p", SMALL, workers=1, cache=tmp_path / "c")


def test_it_runs_on_its_phantom(tmp_path: Path) -> None:
    """Without any data; what is scored is what the phantom's own files hold."""
    (result,) = usbench.run(
        "tiny",
        "early",
        task="liver-npz",
        plugins=[WHOLE, TINY],
        preset="smoke",
        device="cpu",
        runs_dir=tmp_path,
    )
    assert result.path.parts[-3] == "liver-npz-phantom"
    folder = phantom_root(get_task("liver-npz", [WHOLE])) / "liver-npz"
    assert len(list(folder.glob("*.npz"))) == 10
    for row in result.rows:
        mask = np.load(folder / f"{row['case']}.npz")["mask"]
        assert row["tp"] + row["fn"] == (mask == (1 if row["class"] == "liver" else 2)).sum()


def test_a_copied_phantom_is_known_by_its_mark(tmp_path: Path) -> None:
    task = get_task("liver-npz", [WHOLE])
    make_phantom(task, tmp_path / "made", 3)
    shutil.copytree(tmp_path / "made" / "liver-npz", tmp_path / "copy" / "liver-npz")
    assert find_data(task, tmp_path / "copy").kind == "phantom"
    with pytest.raises(UsbenchError, match="phantoms made by usbench, not patients"):
        find_data(task, tmp_path / "copy", "real")
    # A reader may know better than the mark.
    knows = changed(
        tmp_path,
        ("    def survey(", "    def is_phantom(self) -> bool:\n        return True\n\n    def survey("),
    )
    patients(tmp_path / "data")
    assert find_data(task, tmp_path / "data").kind == "sample"
    assert find_data(get_task("liver-npz", [knows]), tmp_path / "data").kind == "phantom"


def test_its_layout_says_where_its_data_is(tmp_path: Path) -> None:
    task = get_task("liver-npz", [WHOLE])
    (tmp_path / "liver-npz").mkdir()
    assert locate(task, tmp_path) is None
    with pytest.raises(UsbenchError, match=r"its folder liver-npz must hold a \.npz file for each patient"):
        open_reader(task, tmp_path)
    shutil.rmtree(tmp_path / "liver-npz")
    patients(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "liver-npz").rename(tmp_path / "renamed")
    assert locate(task, tmp_path / "renamed") is None
    parents = changed(tmp_path, ("holds=holds_npz", 'holds=holds_npz, parents=("npz",), any_name=bool'))
    task = get_task("liver-npz", [parents])
    assert locate(task, tmp_path / "renamed") == tmp_path / "renamed"
    (tmp_path / "npz").mkdir()
    (tmp_path / "renamed").rename(tmp_path / "npz" / "liver-npz")
    assert locate(task, tmp_path) == tmp_path / "npz" / "liver-npz"


@pytest.mark.slow
def test_published_numbers_stand_beside_its_rows(tmp_path: Path) -> None:
    """Under the name that the task gives; each table of the task has its rows beside what is printed."""
    ids = ", ".join(f"'patient-{number:02d}'" for number in range(1, 3))
    file = changed(tmp_path, ('title="Liver', f'published="prostate", case_ids=({ids}), title="Liver'))
    words: dict[str, Any] = {"task": "liver-npz", "plugins": [file], "preset": "smoke", "device": "cpu"}
    words |= {"settings": {"data.size": 32, "train.epochs": 1}, "runs_dir": tmp_path / "runs"}
    usbench.run("unet", "early", **words, data="phantom")
    usbench.run("unet", "early", **words, data_dir=patients(tmp_path / "data", 2), folds="all")
    assert build(tmp_path / "runs").reported == ()
    board = build(tmp_path / "runs", plugins=[file])
    (zeus,) = board.reported
    (line,) = zeus.lines
    assert (zeus.title, line.task, line.printed_task) == ("Dai et al., Zeus", "liver-npz", "MSD-Prostate")
    assert (line.method, line.fusion, line.scores) == ("U-Net", "early", {"dsc": "63.64", "miou": "63.20"})
    assert [("(phantom)" in row.table, row.fusion) for row in line.measured] == [
        (table.kind == "phantom", "early") for table in board.tables
    ]
    assert [row.dsc for row in line.measured] == [table.rows[0].scores["dsc"] for table in board.tables]
    write_kept(board, tmp_path / "runs", tmp_path / "out", pictures=False, plugins=[file])
    check_kept(tmp_path / "out", [file])


def test_other_processes_get_its_reader_and_phantom(tmp_path: Path) -> None:
    task = get_task("liver-npz", [WHOLE])
    data = patients(tmp_path / "data")
    two = prepare(task, data, SMALL, workers=2, cache=tmp_path / "two")
    one = prepare(task, data, SMALL, workers=1, cache=tmp_path / "one")
    assert two.contents == one.contents
    (tmp_path / "task").write_bytes(pickle.dumps(task))
    code = (
        "import pickle, sys; from pathlib import Path; "
        "from usbench.datasets.phantom import make_phantom; "
        "task = pickle.loads(Path(sys.argv[1]).read_bytes()); make_phantom(task, Path(sys.argv[2]), 4)"
    )
    call = [sys.executable, "-c", code, str(tmp_path / "task"), str(tmp_path / "made")]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, cwd="/")
    assert done.returncode == 0, done.stderr
    for file in (data / "liver-npz").iterdir():
        assert file.read_bytes() == (tmp_path / "made" / "liver-npz" / file.name).read_bytes()


def test_other_code_of_the_phantom_makes_another(tmp_path: Path) -> None:
    whole = phantom_root(get_task("liver-npz", [WHOLE]))
    other = phantom_root(get_task("liver-npz", [changed(tmp_path, ("rng.uniform(10, 14)", "12"))]))
    assert whole != other
    assert whole == phantom_root(get_task("liver-npz", [WHOLE]))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rng = np.random.default_rng([seed, index])", "rng = seed.nothing",
         r"task liver-npz: its phantom raised AttributeError in write_case of case patient-01"),
        ("np.savez_compressed(", "(lambda *a, **b: None)(", "holds no case"),
    ],
)  # fmt: skip
def test_a_phantom_that_fails_leaves_nothing(tmp_path: Path, old: str, new: str, message: str) -> None:
    task = get_task("liver-npz", [changed(tmp_path, (old, new))])
    with pytest.raises(UsbenchError, match=message if "raised" in message else "no data of task liver-npz"):
        make_phantom(task, tmp_path / "made", 2)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("phantom=Phantom(tuple(", "phantom=(tuple(", "its phantom is a tuple; make it a usbench.Phantom"),
        ("range(1, 11)), write_patient", "range(1, 2)), write_patient", "fewer than two case_ids"),
        ("{number:02d}\" for number", "01\" for number", "its phantom names case patient-01 twice"),
        ("range(1, 11)), write_patient", "range(1, 11)), 3", "of its phantom is no function"),
        ('reader=Layout("npz", "a .npz file for each patient", NpzReader, holds=holds_npz)', "reader=None",
         "its reader is no class or function"),
    ],
)  # fmt: skip
def test_a_task_that_is_wrong_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UsbenchError, match="task 'liver-npz'") as caught:
        get_task("liver-npz", [changed(tmp_path, (old, new))])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("            return None\n", "            return None\n        report('bad')\n",
         "task liver-npz: its reader reports a str, not a usbench.DataProblem; mend the reader"),
        ("        return Case(", "        return None and Case(",
         "gives no case patient-01 and names no fault"),
        ("        return Case(case_id,", "        return Case('x',", "the reader gives case 'x' for it"),
        ("        return sorted(file", "        return 3 or sorted(file",
         "its reader raised TypeError in survey()"),
        ("    def files(", "    def file(", "its reader raised TypeError in making it (Can't instantiate"),
    ],
)  # fmt: skip
def test_a_checking_reader_is_held_to_its_word(tmp_path: Path, old: str, new: str, message: str) -> None:
    data = patients(tmp_path / "data", 2)
    found = [str(problem) for problem in check(get_task("liver-npz", [changed(tmp_path, (old, new))]), data)]
    assert any(message in problem for problem in found), found
