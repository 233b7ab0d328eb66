"""Several devices and nodes train together as one does alone, at the same global batch."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from kit.places import TINY
from torch import nn

from usbench.contracts.settings import TrainSettings
from usbench.errors import UsbenchError
from usbench.results.io import load_result
from usbench.runs.train import fit
from usbench.runtime.devices import require_devices

PLUGIN = TINY


@pytest.fixture
def words(small_prostate: Path) -> list[str]:
    """`usbench run` of a network that keeps no statistics of a batch."""
    given = ["--method", "tiny", "--fusion", "early", "--plugin", str(PLUGIN), "--task", "msd-prostate"]
    given += ["--data-dir", str(small_prostate), "--preset", "smoke", "--device", "cpu"]
    return [*given, "--set", "train.epochs=3", "--set", "train.batch=6", "--set", "train.lr=1e-2"]


def losses(runs: Path) -> tuple[Any, list[float]]:
    (file,) = runs.glob("*/*/*/result.json")
    rows = csv.DictReader((file.parent / "history.csv").open())
    return load_result(file).data, [float(row["loss"]) for row in rows]


def free_port() -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.slow
def test_two_processes_train_as_one(command: Any, words: list[str], tmp_path: Path, cache: Path) -> None:
    """Two devices of a node, and two nodes with a device each, reach the losses of one process."""
    alone = command("run", *words, "--runs-dir", tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    both = command("run", *words, "--devices", 2, "--runs-dir", tmp_path / "both")
    assert both.returncode == 0, both.stderr
    assert both.stdout.count("DSC") == alone.stdout.count("DSC"), "both processes speak"
    port = free_port()
    here = [*words, "--nodes", "2", "--runs-dir", str(tmp_path / "nodes")]
    nodes = []
    for rank in ("0", "1"):
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": rank}
        nodes.append(
            subprocess.Popen(
                [sys.executable, "-m", "usbench", "run", *here],
                env={**os.environ, "USBENCH_CACHE": str(cache), **place},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [node.communicate(timeout=300) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert "DSC" in said[0][0]
    assert "DSC" not in said[1][0]
    one, expected = losses(tmp_path / "alone")
    for runs in ("both", "nodes"):
        data, found = losses(tmp_path / runs)
        assert data["cost"]["devices"] == 2
        assert data["cell"]["hash"] != one["cell"]["hash"]
        assert found == pytest.approx(expected, abs=1e-4)
        assert data["scores"]["dsc"] == pytest.approx(one["scores"]["dsc"], abs=1e-3)
    assert expected[-1] < expected[0] - 0.05, "nothing was learnt, so nothing is shown"


@pytest.mark.slow
def test_a_cell_of_a_matrix_on_two_devices(command: Any, words: list[str], tmp_path: Path) -> None:
    """It is the cell of `usbench run --devices 2`, and not computed again by it."""
    table = [word.replace("--method", "--methods").replace("--fusion", "--fusions") for word in words]
    table = ["--tasks" if word == "--task" else word for word in table]
    made = command("matrix", *table, "--devices", 2, "--workers", 1, "--runs-dir", tmp_path / "runs")
    assert made.returncode == 0, made.stderr
    assert "1 cell: 1 computed, 0 finished before, 0 failed" in made.stdout
    again = command("run", *words, "--devices", 2, "--runs-dir", tmp_path / "runs")
    assert again.returncode == 0, again.stderr
    assert "finished before, not computed again" in again.stderr


class Converted(Exception):
    """Batch norms were made those of all devices."""


class Moved(Exception):
    """The network was sent to its device, as it was."""


@pytest.mark.parametrize(
    ("world", "device", "outcome"),
    [(1, "cpu", Moved), (2, "cpu", Moved), (1, "cuda", Moved), (2, "cuda", Converted)],
)
def test_batch_norms_are_synchronised_on_several_gpus_only(
    monkeypatch: pytest.MonkeyPatch, world: int, device: str, outcome: type[Exception]
) -> None:
    def converted(network: nn.Module) -> nn.Module:
        raise Converted

    def moved(self: nn.Module, *_: Any) -> nn.Module:
        raise Moved

    monkeypatch.setattr(nn.SyncBatchNorm, "convert_sync_batchnorm", converted)
    monkeypatch.setattr(nn.Module, "to", moved)
    fabric: Any = SimpleNamespace(world_size=world, device=torch.device(device))
    with pytest.raises(outcome):
        fit(nn.Sequential(nn.BatchNorm2d(2)), None, TrainSettings(), fabric, 0)  # type: ignore[arg-type]


def test_nodes_are_checked_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsbenchError, match="--nodes 0 is out of range"):
        require_devices("cpu", 1, 0)
    with pytest.raises(UsbenchError, match="--nodes 2: MASTER_ADDR is not set; start the same command on"):
        require_devices("cpu", 1, 2)
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(UsbenchError, match="--nodes 2: NODE_RANK is not set"):
        require_devices("cpu", 1, 2)
    monkeypatch.setenv("NODE_RANK", "1")
    require_devices("cpu", 1, 2)
    require_devices("cpu", 4, 1)
