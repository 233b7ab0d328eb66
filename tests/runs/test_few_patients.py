"""`--train-share` and `--train-cases`: who is trained on, which cell it is, and what the result says."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kit.places import TINY

import usbench
from usbench.cli.main import main
from usbench.contracts.few import FewPatients
from usbench.contracts.request import Request
from usbench.datasets.batches import Slices
from usbench.errors import UsbenchError
from usbench.matrices.plan import plan_matrix
from usbench.matrices.request import MatrixRequest
from usbench.runs.cell import Cell
from usbench.runs.plan import chosen_parts, make_cells, make_plan, prepare_data

SMALL = {"train.epochs": 1, "data.size": 32}


@pytest.fixture
def words(small_prostate: Path, tmp_path: Path) -> dict[str, Any]:
    """Four patients in four folds, so three to train on in each."""
    return {
        "method": "tiny",
        "fusion": "early",
        "task": "msd-prostate",
        "preset": "smoke",
        "settings": SMALL,
        "data_dir": small_prostate,
        "device": "cpu",
        "plugins": [TINY],
        "runs_dir": tmp_path / "runs",
    }


def cells(words: dict[str, Any], **more: Any) -> list[Cell]:
    return make_cells(make_plan(Request(**{**words, **more})))


def by_hand(patients: tuple[str, ...], count: int, seed: int) -> set[str]:
    """The first by the digest of "<seed>:<case>"."""
    ranked = sorted(patients, key=lambda case: hashlib.sha256(f"{seed}:{case}".encode()).digest())
    return set(ranked[:count])


def test_a_run_trains_on_exactly_the_patients_it_names(
    words: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of three patients are two: those alone reach the network, and the result says so."""
    opened: list[set[str]] = []
    made = Slices.__init__

    def seen(self: Slices, cases: Any, *rest: Any, **more: Any) -> None:
        opened.append({case.case_id for case in cases})
        made(self, cases, *rest, **more)

    monkeypatch.setattr(Slices, "__init__", seen)
    half, full = usbench.run(**words, folds="0", seed=4, train_share="0.5,1")
    everyone = tuple(full.data["split"]["train"])
    chosen = by_hand(everyone, 2, 4)
    test = set(half.data["split"]["test"])  # Opened in the same way, after training.
    assert [one for one in opened if one != test] == [chosen, set(everyone)]
    assert set(half.data["split"]["train"]) == chosen
    assert (half.data["split"]["share"], half.data["split"]["of"]) == (0.5, 3)
    assert half.data["split"]["test"] == full.data["split"]["test"]
    assert not {"share", "train_cases", "of"} & set(full.data["split"])
    assert half.data["protocol"] != full.data["protocol"]
    # As a cell of its own it is found again, and the full one by whoever asks for no share.
    again = usbench.run(**words, folds="0", seed=4, train_share=0.5)
    assert [result.path for result in again] == [half.path]
    assert usbench.run(**words, folds="0", seed=4)[0].path == full.path
    assert [one for one in opened if one != test] == [chosen, set(everyone)], "nothing was trained again"
    assert usbench.load_result(half.path).typed.split.share == 0.5
    board = usbench.leaderboard(words["runs_dir"])
    assert [table.title for table in board.tables] == [
        "msd-prostate (phantom), preset smoke",
        "msd-prostate (phantom), preset smoke, 50% of the training patients",
    ]
    assert "finished before" in capsys.readouterr().err


def test_everyone_is_the_cell_that_it_always_was(words: dict[str, Any]) -> None:
    """A share of 1, as many patients as there are, and a share that rounds to all: one cell, of one key."""
    plain = cells(words, folds="0")
    for more in ({"train_share": 1}, {"train_cases": 3}, {"train_share": 0.9}, {"train_share": "0.9,1.0"}):
        found = cells(words, folds="0", **more)
        assert [(cell.key, cell.folder) for cell in found] == [(plain[0].key, plain[0].folder)], more
        assert str(found[0].request) == str(plain[0].request)
    both = cells(words, folds="0,1", train_cases="1,3")
    assert [(cell.fold, cell.few) for cell in both] == [
        (fold, few) for fold in (0, 1) for few in (FewPatients(cases=1), None)
    ]
    assert len({cell.key for cell in both}) == 4
    assert "--train-cases 1" in str(both[0].request)
    assert cells(words, **{"folds": "0", "train_cases": 1})[0].key == both[0].key


def test_shares_are_nested_and_folds_keep_their_test_patients(words: dict[str, Any]) -> None:
    for seed in (0, 1):
        one, two, three = cells(words, folds="2", seed=seed, train_cases="1,2,3")
        assert set(one.train_ids) < set(two.train_ids) < set(three.train_ids)
        assert one.split.test(2) == three.split.test(2)
        assert set(two.train_ids) == by_hand(three.train_ids, 2, seed)
    limited = cells(words, folds="0", limit=3, train_share=0.5)
    assert [(len(cell.train_ids), cell.limit) for cell in limited] == [(1, 3)]


def test_folds_of_unlike_sizes_share_one_protocol(words: dict[str, Any]) -> None:
    """Eight of eight in one fold and of nine in another: both are cells of "8 training patients"."""
    from types import SimpleNamespace

    from usbench.datasets.splits import Split

    split = Split((("a1", "a2", "a3"), ("b1", "b2"), tuple(f"c{i}" for i in range(6))), "derived", "")
    plan = make_plan(Request(**words, folds="0,1", train_cases="8"))
    assert [len(split.train(fold)) for fold in range(3)] == [8, 9, 5]
    assert chosen_parts(plan, split) == [(0, FewPatients(cases=8)), (1, FewPatients(cases=8))]
    nine: Any = SimpleNamespace(request=plan.request.with_(train_cases=(9,), folds="1"), config=plan.config)
    assert chosen_parts(nine, split) == [(1, None)]
    too_many: Any = SimpleNamespace(request=plan.request.with_(train_cases=(9,)), config=plan.config)
    with pytest.raises(
        UsbenchError, match=r"--train-cases 9: fold 0 .* 8 training patients; choose from 1 to 8"
    ):
        chosen_parts(too_many, split)


WRONG = {
    "--train-share 0": "--train-share 0 is no share of the patients; choose more than 0, up to 1",
    "--train-share 1.5": "--train-share 1.5 is no share",
    "--train-share -0.2": "--train-share -0.2 is no share",
    "--train-share nan": "--train-share 'nan' is not a list of numbers",
    "--train-share 0.3,inf": "--train-share '0.3,inf' is not a list of numbers",
    "--train-share x": "--train-share 'x' is not a list of numbers; write 0.3, or 0.1,0.3,1",
    "--train-share 30%": "--train-share '30%' is not a list of numbers",
    "--train-share ''": "--train-share '' is not a list of numbers",
    "--train-share 0.3,,1": "--train-share '0.3,,1' is not a list of numbers",
    "--train-cases 0": "--train-cases 0 leaves nobody to train on; choose 1 or more",
    "--train-cases 2,-1": "--train-cases -1 leaves nobody",
    "--train-cases 2.5": "--train-cases '2.5' is not a list of numbers; write 2, or 2,5",
    "--train-cases 2 --train-share 0.5": "--train-share and --train-cases say the same",
    "--train-cases 4": "--train-cases 4: fold 0 of this data has 3 training patients; choose from 1 to 3",
}


@pytest.mark.parametrize("given", WRONG)
@pytest.mark.parametrize("command", ["run", "matrix"])
def test_wrong_values_are_one_line(words: dict[str, Any], command: str, given: str) -> None:
    s = "s" if command == "matrix" else ""
    asked = f"{command} --method{s} tiny --fusion{s} early --task{s} msd-prostate --preset smoke"
    places = ["--data-dir", words["data_dir"], "--plugin", TINY, "--runs-dir", words["runs_dir"]]
    done = CliRunner().invoke(
        main, [*shlex.split(asked), *map(str, places), "--dry-run", *shlex.split(given)]
    )
    assert WRONG[given] in done.output + str(done.exception)
    # What is wrong for the data of one task alone does not stop a matrix of several.
    assert isinstance(done.exception, UsbenchError) or (command, given) == ("matrix", "--train-cases 4")
    assert not words["runs_dir"].exists()


def test_dry_runs_name_the_patients_and_the_parts(words: dict[str, Any]) -> None:
    plan = make_plan(Request(**words))
    prepare_data(plan)
    asked = ["run", "--method", "tiny", "--fusion", "early", "--task", "msd-prostate", "--preset", "smoke"]
    asked += ["--data-dir", str(words["data_dir"]), "--plugin", str(TINY), "--device", "cpu", "--dry-run"]
    asked += ["--set", "data.size=32", "--set", "train.epochs=1", "--train-cases", "1,3"]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 0, done.output
    one = cells(words, folds="0", train_cases=1)[0]
    assert f"fold 0: train 1 of 3 cases ({one.train_ids[0]}), test" in done.output
    assert "fold 0: train 3 cases, test" in done.output
    shared = {key: value for key, value in words.items() if key not in ("method", "fusion", "task")}
    asked_of = MatrixRequest.of(
        methods="tiny", fusions="early", tasks="msd-prostate", seeds="0,1", train_share="0.3,1", **shared
    )
    planned = plan_matrix(asked_of, "cpu", prepare=False).cells
    assert [(one.seed, one.few) for one in planned] == [
        (seed, few) for seed in (0, 1) for few in (FewPatients(share=0.3), None)
    ]
    assert len({one.name for one in planned}) == len({one.folder for one in planned}) == 4
    assert planned[0].name.endswith("seed 0, 30% of the training patients")
