"""What the tests of predictions share: kept runs on small data in three layouts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from kit.bright_runs import kept_run, plugin
from kit.own_folders import patients, task_file
from kit.synthetic import write_chaos_case


@pytest.fixture(scope="session")
def prostate(small_prostate: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two folds on prostate phantoms, and the folder of their data."""
    folder = tmp_path_factory.mktemp("kept")
    options = {"task": "msd-prostate", "data_dir": small_prostate}
    first = kept_run(plugin(folder), folder / "runs", **options)
    second = kept_run(plugin(folder), folder / "runs", folds="1", settings={"method.start": 1.3}, **options)
    return SimpleNamespace(
        first=first, second=second, data=next(small_prostate.glob("Task05*")), plugin=folder / "bright.py"
    )


@pytest.fixture(scope="session")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run on three small cases of CHAOS, of three modalities, and the folder of the cases."""
    folder = tmp_path_factory.mktemp("chaos")
    for case_id in ("1", "2", "3"):
        write_chaos_case(folder / "data", case_id)
    run = kept_run(plugin(folder), folder / "runs", task="chaos", data_dir=folder / "data")
    return SimpleNamespace(run=run, data=folder / "data" / "Train_Sets" / "MR", plugin=folder / "bright.py")


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run on a task file."""
    folder = tmp_path_factory.mktemp("own")
    patients(folder / "patients")
    file = task_file(folder)
    run = kept_run(plugin(folder), folder / "runs", task=str(file))
    return SimpleNamespace(run=run, file=file, data=folder / "patients", plugin=folder / "bright.py")
