"""Fusions that plugins bring: found, built, told apart, and nothing changed for the three protocols."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.built_in_cell import built_in_cell
from kit.handmade import add_row, write_run
from kit.installing import PLUGIN as TINY
from kit.installing import install
from kit.places import ROOT

import usbench
from usbench.config import make_config
from usbench.contracts.fusion import Fusion
from usbench.contracts.method import FUSIONS, Method
from usbench.errors import UsbenchError
from usbench.fusions.build import build_model
from usbench.fusions.networks import Late
from usbench.fusions.registry import get_fusion, search_fusions
from usbench.leaderboards.board import build
from usbench.leaderboards.formats import as_dict
from usbench.methods.registry import all_problems, get_method
from usbench.results.io import load_result, write_result
from usbench.results.usable import row_key, settings
from usbench.testing import mock_task

GATED = ROOT / "examples" / "gated_late.py"

# Of version 3 of the protocol: whoever changes one makes every result of that version another cell.
HASHES = {
    ("chaos", "early"): "246b6b1dec7c634efd38a61da1fe48d1d7af89e779cb5b5e0ac3e825293b6f66",
    ("chaos", "hybrid"): "1ffa8362b5df9987494e9f297f58773e3d7b6f8faca9cdd38d5f7e729962a380",
    ("chaos", "late"): "aa5e215d6d7b6aadd5304e661b85d1b86ada2ed3cbfbdf189df5e9beabe45fe9",
    ("msd-prostate", "early"): "314a42fd2c93250f56bce95c66aae865f42a746f98721b679235de4dd5d5abe7",
    ("msd-prostate", "hybrid"): "3cd973bce3cde7f246ae36d9e20f3f0d22005b9f43b1bcbc4dc2810d591c1d68",
    ("msd-prostate", "late"): "e338925c2338f08a227c4b3285e918ba0a4ba919e5de0d30dab0ba0591d4f245",
    ("msd-brain", "early"): "0073d45ff6ab79e4791401396bc1ff21c6759cc39640ad75b8981eb82b945ab3",
    ("msd-brain", "hybrid"): "d211eed996c2a341380abf762edcff601e573a52a4c44ba0404f8b3007bc0da5",
    ("msd-brain", "late"): "00d44cc170bec824305bffe0eedd9b66b05c6183dd1d063b9dc6708b982b3efc",
}

MEAN = """
from torch import nn
from usbench import Fusion

class Mean(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network
    def forward(self, images):
        return self.network(images.mean(dim=1, keepdim=True))

def build(method, task, settings):
    return Mean(method.build_network(1, len(task.classes), **settings))

FUSION = Fusion("mean-image", "nobody", build)
"""

SEGMENTER = """
from torch import nn
from usbench import Method

def build(task, fusion):
    print("built for", fusion)
    return nn.Conv2d(len(task.modalities), len(task.classes), 3, padding=1)

METHOD = Method("seg", "nobody", build_segmenter=build, fusions=("early", "mean-image"), size_multiple=1)
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Plugin files: a fusion, an encoder and decoder, a segmenter that declares the fusion."""
    texts = {"mean": MEAN, "tiny": TINY, "seg": SEGMENTER}
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    return {name: tmp_path / f"{name}.py" for name in texts}


@pytest.fixture
def words(files: dict[str, Path], small_prostate: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "preset": "smoke",
        "data_dir": small_prostate,
        "device": "cpu",
        "plugins": [files["mean"], files["tiny"]],
        "runs_dir": tmp_path / "runs",
    }


def state_fusion(folder: Path, block: dict[str, str]) -> None:
    """Write a run again, with what it says of its fusion."""
    write_result(folder, {**json.loads((folder / "result.json").read_text()), "fusion": block})


@pytest.mark.parametrize(("task", "fusion"), HASHES)
def test_cells_of_the_three_protocols_keep_their_hashes(task: str, fusion: str) -> None:
    assert built_in_cell(fusion, task).key == HASHES[task, fusion]


def test_rows_of_the_three_protocols_keep_their_key(tmp_path: Path) -> None:
    """With and without the block that results got for the fusion."""
    block = {"name": "late", "origin": "built in", "version": "9", "source_hash": "", "paper": "x"}
    expected = (
        "unet",
        "late",
        "none",
        (("code", "'bbbbbbbbbb'"), ("devices", "1"), ("fusion.merge", "'mean-logits'"), ("version", "''")),
    )
    folder = write_run(tmp_path / "run", {"p": {"liver": 0.9}}, fusion="late")
    assert row_key(load_result(folder).data) == expected
    state_fusion(folder, block)
    assert row_key(load_result(folder).data) == expected


def test_gated_late_starts_as_the_mean_of_logits_and_learns_to_weigh() -> None:
    """With the same networks it is late fusion by mean of logits, until the gate moves."""
    method, _ = get_method("unet-classic")
    task, config = mock_task(3, 2), make_config("smoke", method.settings, method.presets, {})
    brought = get_fusion("gated-late", [GATED])
    gated = build_model(method, task, brought.fusion, config).network.eval()
    late = Late(method, 3, 2, config.method, "mean-logits").eval()
    late.networks.load_state_dict(gated.networks.state_dict())
    images = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(gated(images), late(images), atol=1e-5, rtol=1e-5)
        gated.gate[-1].bias.copy_(torch.tensor([50.0, 0.0, 0.0]))
        torch.testing.assert_close(gated(images), late.networks[0](images[:, :1]), atol=1e-4, rtol=1e-4)
    gated.train()(images).square().mean().backward()
    assert all(p.grad is not None for p in gated.parameters())


@pytest.mark.slow
def test_any_encoder_and_decoder_runs_under_it(files: dict[str, Path], words: dict[str, Any]) -> None:
    results = {}
    for method in ("tiny", "unet-classic"):
        (results[method],) = usbench.run(method, "mean-image", "msd-prostate", **words)
    for method, result in results.items():
        assert result.path.parent.name == f"{method}-mean-image"
        fusion = result.data["fusion"]
        assert fusion["origin"] == f"file {files['mean']}"
        assert (fusion["name"], fusion["paper"], fusion["version"]) == ("mean-image", "nobody", "")
        assert len(fusion["source_hash"]) == 64
    (plain,) = usbench.run("tiny", "early", "msd-prostate", **words)
    assert plain.data["fusion"]["origin"] == "built in"
    # One input channel in place of two, in a layer of 4 filters of 3 x 3.
    cost = results["tiny"].data["cost"]
    assert plain.data["cost"]["parameters"] - cost["parameters"] == 4 * 9


@pytest.mark.slow
def test_other_code_of_the_fusion_is_another_cell_and_its_older_row_is_folded(
    files: dict[str, Path], words: dict[str, Any]
) -> None:
    (first,) = usbench.run("tiny", "mean-image", "msd-prostate", **words)
    (early,) = usbench.run("tiny", "early", "msd-prostate", **words)
    (again,) = usbench.run("tiny", "mean-image", "msd-prostate", **words)
    assert again.data["digest"] == first.data["digest"]
    files["mean"].write_text(MEAN + "\n# changed\n")
    (second,) = usbench.run("tiny", "mean-image", "msd-prostate", **words)
    (same,) = usbench.run("tiny", "early", "msd-prostate", **words)
    assert same.data["digest"] == early.data["digest"]
    assert second.data["cell"]["hash"] != first.data["cell"]["hash"]
    assert second.scores == first.scores
    assert "fusion-code" in settings(second.data)
    assert "fusion-code" not in settings(early.data)
    (table,) = build(words["runs_dir"]).tables
    rows = {row.fusion: row for row in table.rows}
    assert sorted(row.fusion for row in table.rows) == ["early", "mean-image"]
    (older,) = rows["mean-image"].also
    assert "fusion-code" in older.name
    assert rows["mean-image"].runs[0]["path"] == str(second.path)
    assert older.runs[0]["path"] == str(first.path)
    assert not rows["early"].also


def test_the_leaderboard_compares_it_with_the_three(tmp_path: Path) -> None:
    """A plugin's code is no setting in which its fusion differs from early: the effect is computed."""
    block = {
        "name": "gated-late",
        "origin": "package gates 1.0",
        "version": "1.0",
        "source_hash": "e" * 64,
        "paper": "",
    }
    better = [0.7, 0.72, 0.74, 0.76, 0.78, 0.8]
    add_row(tmp_path, "net", better, fusion="gated-late")
    (file,) = tmp_path.rglob("result.json")
    state_fusion(file.parent, block)
    add_row(tmp_path, "net", [value - 0.1 for value in better], fusion="early")
    (table,) = build(tmp_path).tables
    (effect,) = table.fusion_effects
    assert (effect.a, effect.b, effect.n) == ("early", "gated-late", 6)
    assert effect.difference == pytest.approx(-0.1)
    rows = as_dict(build(tmp_path))["tables"][0]["rows"]
    assert {row["fusion"] for row in rows} == {"early", "gated-late"}


def test_a_segmenter_runs_under_it_only_if_it_says_so(
    files: dict[str, Path], words: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    more = {**words, "plugins": [*words["plugins"], files["seg"]]}
    (result,) = usbench.run("seg", "mean-image", "msd-prostate", **more)
    assert "built for mean-image" in capsys.readouterr().out
    assert result.data["cell"]["fusion"] == "mean-image"
    with pytest.raises(
        UsbenchError, match="'zeus' does not apply to mean-image fusion; choose hybrid or late"
    ):
        usbench.run("zeus", "mean-image", "msd-prostate", **more)


def test_what_a_method_may_declare() -> None:
    Method("m", "p", build_segmenter=lambda task, fusion: None, fusions=("early", "gated-late"))
    for build_what, fusions in (
        ("build_network", ("gated-late",)),
        ("build_segmenter", ("hybird",)),
        ("build_segmenter", ("a b",)),
    ):
        with pytest.raises(UsbenchError, match=f"declares fusion '{fusions[0]}'; choose from early"):
            Method("m", "p", **{build_what: lambda *_: None}, fusions=fusions)
    with pytest.raises(UsbenchError, match="fusion 'a/b' has no sound name; use letters, digits and hyphens"):
        Fusion("a/b", "p", lambda *_: None)


def test_an_unknown_fusion_proposes_the_nearest(files: dict[str, Path], words: dict[str, Any]) -> None:
    with pytest.raises(UsbenchError, match="unknown fusion 'mean-imag', did you mean 'mean-image'"):
        usbench.run("tiny", "mean-imag", "msd-prostate", **words)
    with pytest.raises(UsbenchError, match="unknown fusion 'hybird', did you mean 'hybrid'"):
        usbench.run("tiny", "hybird", "msd-prostate", **words)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (MEAN.replace('"mean-image"', '"late"'), "fusion 'late' is there already (built in); rename yours"),
        (MEAN + "\nFUSIONS = 3", "FUSIONS is a int; make it a list"),
        ("FUSION = 'gated'", "is a str, not a usbench.Fusion; make FUSION = Fusion(...)"),
        ("FUSIONS = [3]", "is a int, not a usbench.Fusion"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, code: str, message: str) -> None:
    file = tmp_path / "bad.py"
    file.write_text(code)
    with pytest.raises(UsbenchError) as caught:
        get_fusion("late" if "'late'" in message else "mean-image", [file])
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert get_fusion("early", [file]).found.origin == "built in"


def test_a_file_may_use_the_names_of_the_protocols(tmp_path: Path) -> None:
    file = tmp_path / "uses.py"
    file.write_text("from usbench.contracts.method import FUSIONS\n" + TINY)
    searched = search_fusions([file])
    assert (set(searched.found), searched.problems) == ({"early", "hybrid", "late"}, [])
    assert get_method("tiny", [file])[0].fusions == FUSIONS


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3", "fusion 'mean-image' built a int, not a network; return an nn.Module"),
        ("raise KeyError('gate')", "cannot be built for method 'tiny': KeyError: 'gate'; mend it"),
    ],
)
def test_a_fusion_that_does_not_build(
    files: dict[str, Path], words: dict[str, Any], body: str, message: str
) -> None:
    files["mean"].write_text(MEAN.replace("    return Mean(", f"    {body}\n    return Mean("))
    with pytest.raises(UsbenchError) as caught:
        usbench.run("tiny", "mean-image", "msd-prostate", **words)
    assert message in str(caught.value)


def test_packages_and_their_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is installed is found; broken ones and thieves of names break nothing but themselves."""
    install(tmp_path, "goodfusion", MEAN, "mean-image", "fusion")
    install(tmp_path, "badfusion", "raise OSError('no licence')", "broken", "fusion")
    install(tmp_path, "thieffusion", MEAN, "late", "fusion")
    install(tmp_path, "liarfusion", MEAN, "other-name", "fusion")
    monkeypatch.syspath_prepend(tmp_path)
    brought = get_fusion("mean-image")
    assert (brought.found.origin, brought.found.version) == ("package goodfusion 1.2", "1.2")
    assert get_fusion("late").found.origin == "built in"
    with pytest.raises(
        UsbenchError, match=r"'broken' \(package badfusion 1.2\) cannot be imported.*no licence"
    ):
        get_fusion("broken")
    with pytest.raises(UsbenchError, match="calls itself 'mean-image'; give the entry point that name"):
        get_fusion("other-name")
    lines = [problem.text for problem in all_problems()]
    assert "package thieffusion 1.2: fusion 'late' is there already (built in); rename yours" in lines
    copy = pickle.loads(pickle.dumps(brought))
    assert copy.fusion is brought.fusion


@pytest.mark.slow
def test_a_matrix_takes_it_by_name(files: dict[str, Path], words: dict[str, Any]) -> None:
    every = {**words, "tasks": "msd-prostate", "workers": 1, "methods": "tiny,zeus"}
    plain = usbench.matrix(**every, dry_run=True)
    assert {entry.plan.fusion for entry in plain.cells} == {"early", "hybrid", "late"}
    made = usbench.matrix(**every, fusions="mean-image,early", dry_run=True)
    assert [str(one).split(":")[0] for one in made.not_applicable] == [
        "msd-prostate zeus mean-image",
        "msd-prostate zeus early",
    ]
    done = usbench.matrix(**{**every, "methods": "tiny"}, fusions="mean-image")
    assert not done.failed
    (result,) = usbench.run("tiny", "mean-image", "msd-prostate", **words)
    assert result.data["digest"] == done.results[0].data["digest"]


@pytest.mark.slow
def test_a_worker_loads_it_by_path(files: dict[str, Path], words: dict[str, Any], tmp_path: Path) -> None:
    """A process that only gets the pickled job, from another folder, computes the cell."""
    from usbench.matrices import drive, pool

    jobs: list[Any] = []

    def keep(given: Any, *others: Any) -> Any:
        jobs.extend(given)
        yield from ()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "in_this_process", keep)
        patch.chdir(tmp_path)
        near = {**words, "plugins": [path.name for path in words["plugins"]]}
        usbench.matrix("tiny", "mean-image", "msd-prostate", workers=1, **near)
    assert drive.pool is pool
    (job,) = jobs
    (tmp_path / "job").write_bytes(pickle.dumps(job))
    code = (
        "import sys; from pathlib import Path; from usbench.matrices.worker import compute_packed; "
        "print(compute_packed(Path(sys.argv[1]).read_bytes(), '/', dict(eval(sys.argv[2]))).kind)"
    )
    call = [sys.executable, "-c", code, str(tmp_path / "job"), repr(dict(job.environment))]
    done = subprocess.run(call, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip().splitlines()[-1:] == ["computed"], done.stderr
    (result,) = usbench.run("tiny", "mean-image", "msd-prostate", **words)
    assert result.path == job.cell.folder


@pytest.mark.slow
def test_ray_workers_compute_it(words: dict[str, Any]) -> None:
    pytest.importorskip("ray")
    made = usbench.matrix("tiny", "mean-image,early", "msd-prostate", folds="0,1", workers=2, **words)
    assert (made.computed, made.failed) == (4, {})


@pytest.mark.slow
def test_usbench_methods_counts_it(files: dict[str, Path], tmp_path: Path) -> None:
    from usbench.methods.catalogue import catalogue

    broken = tmp_path / "broken.py"
    broken.write_text("import usbench\nFUSION = usbench.Fusion('broken', 'p', lambda *_: 1 / 0)\n")
    rows = {row["name"]: row for row in catalogue("msd-prostate", "smoke", [*files.values(), broken])}
    assert rows["tiny"]["costs"]["mean-image"]["parameters"] > 0
    assert rows["zeus"]["costs"]["mean-image"] is None
    # One that does not build breaks no method's row.
    assert all(row["error"] is None for row in rows.values() if row["name"] != "zeus")
    assert rows["tiny"]["costs"]["broken"] is None
    assert rows["zeus"]["costs"]["late"] is not None
