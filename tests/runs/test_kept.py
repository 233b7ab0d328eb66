"""Networks are kept unless told otherwise; a dry run says what they take, a finished cell what it lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.places import TINY
from safetensors import SafetensorError
from torch import nn

import usbench
from usbench.contracts.request import Request
from usbench.errors import UsbenchError
from usbench.matrices.summary import listing, summary
from usbench.results.network_file import network_state
from usbench.runs.disk import bytes_of_plan, bytes_of_plans, network_bytes, network_line, size_words
from usbench.runs.network import FILE, write_network
from usbench.runs.plan import make_plan

ODD = """
import torch
from torch import nn
from usbench import Method


class Odd(nn.Module):
    def __init__(self, modalities, classes):
        super().__init__()
        self.head = nn.Conv2d(modalities, classes, 1)
        self.seen = float(torch.zeros(()).item())  # No value on the device meta: it is built in memory.

    def forward(self, images):
        return self.head(images)

    def get_extra_state(self):
        return {'seen': self.seen}

    def set_extra_state(self, state):
        self.seen = state['seen']


def build(task, fusion):
    return Odd(len(task.modalities), len(task.classes))


METHOD = Method('odd', 'no paper', build_segmenter=build, fusions=('early',))
"""


def words(data: Path, runs: Path, **options: Any) -> dict[str, Any]:
    usual = {"task": "msd-prostate", "preset": "smoke", "device": "cpu", "data_dir": data, "runs_dir": runs}
    return {**usual, "settings": {"train.epochs": 1, "data.size": 32}, "plugins": [TINY], **options}


def tensors_in(file: Path) -> int:
    """The bytes of the tensors of a safetensors file: all but its header and the length of that."""
    content = file.read_bytes()
    return len(content) - 8 - int.from_bytes(content[:8], "little")


def test_kept_unless_told_otherwise_and_missed_when_asked_for(
    small_prostate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = words(small_prostate, tmp_path / "runs")
    without = usbench.run("tiny", "early", **usual, keep_weights=False)[0]
    assert network_state(without) == "never"
    assert not (without.path / FILE).exists()
    capsys.readouterr()
    usbench.run("tiny", "early", **usual, keep_weights=False)
    assert "finished before, not computed again (--overwrite does)" in capsys.readouterr().err
    usbench.run("tiny", "early", **usual)
    said = capsys.readouterr().err
    assert f"{without.path}: finished before, without its network; --overwrite computes it again" in said
    kept = usbench.run("tiny", "early", **usual, overwrite=True)[0]
    assert kept.path == without.path, "whether it is kept is no part of the cell's key"
    assert kept.data["scores"] == without.data["scores"]
    assert network_state(kept) == "kept"
    assert tensors_in(kept.path / FILE) == bytes_of_plan(make_plan(Request("tiny", "early", **usual)))
    (kept.path / FILE).unlink()
    usbench.run("tiny", "early", **usual)
    assert "finished before, its network was removed since; --overwrite" in capsys.readouterr().err


def test_a_matrix_keeps_networks_and_counts_those_that_are_absent(
    small_prostate: Path, tmp_path: Path
) -> None:
    usual = words(
        small_prostate, tmp_path / "runs", methods="tiny", fusions="early,late", tasks="msd-prostate"
    )
    del usual["task"]
    usual |= {"folds": "0", "workers": 1}
    ahead = usbench.matrix(**usual, dry_run=True)
    text = listing(ahead)
    assert "kept for each of 2 cells (--no-keep-weights leaves it out)" in text
    assert f"are free in {tmp_path / 'runs'}" in text
    assert "network:" not in listing(usbench.matrix(**usual, keep_weights=False, dry_run=True))
    usbench.matrix(**{**usual, "fusions": "early"}, keep_weights=False)
    made = usbench.matrix(**usual)
    early, late = sorted(made.results, key=lambda result: result.data["cell"]["fusion"])
    assert (network_state(early), network_state(late)) == ("never", "kept")
    sizes = {planned.plan.fusion: size for planned, size in ahead.networks.items()}
    assert sizes["late"] == tensors_in(late.path / FILE)
    line = "1 of the finished cells has no network; usbench run --overwrite computes one again and keeps it"
    assert summary(made).count(line) == 1
    (late.path / FILE).unlink()
    assert "2 of the finished cells have no network (1 removed since)" in summary(made)
    assert "no network" not in summary(usbench.matrix(**usual, keep_weights=False))


def test_a_network_with_more_than_tensors_is_said_and_left_out(
    small_prostate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "odd.py"
    plugin.write_text(ODD)
    result = usbench.run("odd", "early", **words(small_prostate, tmp_path / "runs", plugins=[plugin]))[0]
    assert network_state(result) == "never"
    (remark,) = result.data["remarks"]
    assert "'network._extra_state' of its state is of type dict and only tensors are" in remark
    assert remark in capsys.readouterr().err


def test_a_full_disk_under_the_network_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(UsbenchError, match=r"network\.safetensors: cannot write .*No space left") as caught:
        write_network(nn.Linear(2, 2), tmp_path / FILE)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_sizes_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution of 8 x 3 x 3 x 3 weights and 8 biases, in four bytes each; buffers count, too."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    by_hand = 4 * (8 * 3 * 3 * 3 + 8) + 4 * (8 + 8) + 4 * (8 + 8) + 8
    assert network_bytes(network) == by_hand
    with torch.device("meta"):
        assert network_bytes(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))) == by_hand
    monkeypatch.setattr("usbench.runs.disk.free_bytes", lambda folder: 12_300_000_000)
    assert network_line([57_300_000] * 5, Path("runs")) == (
        "network: 57.3 MB kept for each of 5 cells (--no-keep-weights leaves it out), 286.5 MB in all; "
        "12.3 GB are free in runs"
    )
    assert network_line([57_300_000], Path("runs")).startswith("network: 57.3 MB kept for 1 cell (--no-keep")
    assert "57.3 MB to 2.0 GB kept" in network_line([57_300_000, 2_000_000_000], Path("runs"))
    many = network_line([2_000_000_000] * 7, Path("runs"))
    assert "14.0 GB in all; that is more than the 12.3 GB that are free in runs; usbench prune" in many
    assert network_line([], Path("runs")) == ""
    assert network_line([], Path("runs"), {"zeus": "no weights"}) == "network: unknown for zeus (no weights)"
    assert [size_words(size) for size in (0, 57_300_000, 1e9)] == ["0.0 MB", "57.3 MB", "1.0 GB"]


def test_a_network_that_cannot_be_built_leaves_the_dry_run_going(
    small_prostate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAGILE", "raise")
    before = torch.random.get_rng_state()
    plans = [
        make_plan(Request(method, "early", **words(small_prostate, tmp_path)))
        for method in ("fragile", "tiny")
    ]
    sizes, unknown = bytes_of_plans(plans)
    assert unknown == {"fragile": "the kernel is not there"}
    assert list(sizes) == [id(plans[1])]
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.slow
def test_the_dry_run_of_a_run_counts_what_is_left(command: Any, small_prostate: Path, tmp_path: Path) -> None:
    usual = words(small_prostate, tmp_path / "runs")
    kept = usbench.run("tiny", "early", **usual, folds="1")[0]
    shared = ["--method", "tiny", "--fusion", "early", "--task", "msd-prostate", "--preset", "smoke"]
    shared += ["--device", "cpu", "--data-dir", small_prostate, "--runs-dir", tmp_path / "runs"]
    shared += ["--plugin", TINY, "--set", "train.epochs=1", "--set", "data.size=32", "--folds", "0,1,2"]
    done = command("run", *shared, "--dry-run")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("network:")]
    assert line.startswith(f"network: {tensors_in(kept.path / FILE) / 1e6:.1f} MB kept for each of 2 cells")
    assert "network:" not in command("run", *shared, "--no-keep-weights", "--dry-run").stdout
    names = json.loads((kept.path / "result.json").read_text())["files"]
    assert FILE in names
