"""The robustness track: the clean condition is the run itself, each other what its definition says."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit.kept_runs import FROZEN, kept_run
from kit.places import TINY

import usbench
from usbench.contracts.method import Feature
from usbench.datasets.resolve import find_data
from usbench.datasets.store import PreparedCase, Store, prepare
from usbench.errors import UsbenchError
from usbench.results.tracks import TrackResult, load_track
from usbench.runs.frozen import features_of
from usbench.runs.network import TrainedNetwork, load_network
from usbench.runs.predict import BATCH
from usbench.scores.robustness import AVERAGES, CLEAN, Condition, conditions_of
from usbench.tracks import robustness
from usbench.tracks.damage import Scans
from usbench.tracks.folder import TrackFolder
from usbench.tracks.predicting import Predictor

SMALL = {"train.epochs": 1, "data.size": 32}


@pytest.fixture(scope="module")
def late(small_prostate: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return kept_run(small_prostate, tmp_path_factory.mktemp("runs"), fusion="late")


@pytest.fixture(scope="module")
def track(late: Any, small_prostate: Path) -> TrackResult:
    return usbench.evaluate(late.path, "robustness", data_dir=small_prostate, device="cpu")[0]


def opened(result: Any, data: Path, **options: Any) -> tuple[TrainedNetwork, Store]:
    trained = load_network(result, device="cpu", **options)
    return trained, prepare(trained.task, find_data(trained.task, data).root, trained.config.data)


def predicted(result: Any, data: Path, conditions: list[Condition], **options: Any) -> dict[str, np.ndarray]:
    """The masks of the first test case by name of the condition."""
    trained, store = opened(result, data, **options)
    case_id = result.data["split"]["test"][0]
    masks = Predictor(trained, store, [case_id], 1.0).predict(store.case(case_id), conditions)
    return {one.name: masks.volume(one.name) for one in conditions}


def branches(trained: TrainedNetwork) -> Any:
    """The networks of the modalities under late fusion."""
    padded: Any = trained.network
    return padded.network.networks


def by_hand(case: PreparedCase, images: np.ndarray, logits: Any) -> np.ndarray:
    """The mask on the native grid: logits of images [Z, M, S, S], enlarged, the one class where above 0."""
    side = case.geometry.side
    with torch.inference_mode():
        made = torch.cat([logits(some) for some in torch.from_numpy(images).split(BATCH)])
        large = torch.nn.functional.interpolate(made, (side, side), mode="bilinear", align_corners=False)
    return case.geometry.from_slices((large[:, 0] > 0).numpy().astype(np.uint8))


def per_modality(monkeypatch: pytest.MonkeyPatch, calls: list[int]) -> None:
    """Let the feature of the frozen method say that it looks at each modality by itself, which it does."""
    from usbench.tracks import predicting

    def saying_so(*words: Any) -> list[Feature]:
        (feature,) = features_of(*words)

        def compute(images: torch.Tensor) -> Any:
            calls.append(len(images))
            return feature.compute(images)

        return [replace(feature, compute=compute, per_modality=True)]

    monkeypatch.setattr(predicting, "features_of", saying_so)


def test_the_clean_condition_is_the_run_itself(late: Any, track: TrackResult) -> None:
    assert [one["name"] for one in track.data["conditions"]] == [
        one.name for one in conditions_of(("t2", "adc"))
    ]
    for case_id in late.data["split"]["test"]:
        ours = track.path / "predictions" / "clean" / f"{case_id}.nii.gz"
        assert gzip.decompress(ours.read_bytes()) == gzip.decompress(
            (late.path / "predictions" / f"{case_id}.nii.gz").read_bytes()
        )
    with (
        open(late.path / "cases.csv", newline="") as of_run,
        open(track.path / "cases.csv", newline="") as own,
    ):
        expected = list(csv.DictReader(of_run))
        found = [row for row in csv.DictReader(own) if row["condition"] == "clean"]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert {k: v for k, v in one.items() if k != "condition"} == {
            k: other[k] for k in one if k != "condition"
        }


def test_means_are_those_of_the_patients(track: TrackResult) -> None:
    """Written out for two modalities, from the rows alone."""
    cases = track.data["data"]["cases"]
    dsc = {(row["condition"], row["case"]): row["dsc"] for row in track.rows}  # one class
    for name in AVERAGES:
        assert name in track.data["scores"]
        assert f"iou_{name}" in track.data["scores"]
    avg = [(dsc["missing-t2", c] + dsc["missing-adc", c]) / 2 for c in cases]
    assert track.data["scores"]["emm_avg"] == pytest.approx(np.mean(avg))
    p = 0.2
    top = [
        (1 - p) ** 2 * dsc["clean", c] + p * (1 - p) * (dsc["missing-t2", c] + dsc["missing-adc", c])
        for c in cases
    ]
    assert track.data["scores"]["emm_e20"] == pytest.approx(np.mean(top) / (1 - p**2))
    every = [
        dsc[f"random-{r:g}-{s}", c] for c in cases for r in (0.25, 0.5, 0.75) for s in ("t2", "adc", "t2+adc")
    ]
    assert track.data["scores"]["rmm_avg"] == pytest.approx(np.mean(every))


def test_late_fusion_leaves_a_missing_modality_out_or_gives_it_zeros(
    late: Any, small_prostate: Path, tmp_path: Path
) -> None:
    missing = Condition("missing", ("t2",))
    trained, store = opened(late, small_prostate)
    case = store.case(late.data["split"]["test"][0])
    images = np.asarray(case.images, dtype=np.float32)
    own = branches(trained)
    alone = by_hand(case, images, lambda x: own[1](x[:, 1:]))
    assert np.array_equal(predicted(late, small_prostate, [missing])[missing.name], alone)

    zero = kept_run(small_prostate, tmp_path, fusion="late", settings={**SMALL, "fusion.absent": "zero"})
    pair = branches(opened(zero, small_prostate)[0])
    images[:, 0] = 0
    both = by_hand(case, images, lambda x: (pair[0](x[:, :1]) + pair[1](x[:, 1:])) / 2)
    assert np.array_equal(predicted(zero, small_prostate, [missing])[missing.name], both)


@pytest.mark.parametrize(
    "condition", [Condition("random", ("t2",), 0.5), Condition("gaussian", ("t2", "adc"), 0.2)]
)
def test_a_share_missing_and_noise_reach_the_network_as_drawn(
    condition: Condition, late: Any, small_prostate: Path
) -> None:
    """All modalities are there then, and late fusion merges both."""
    trained, store = opened(late, small_prostate)
    case = store.case(late.data["split"]["test"][0])
    clean = np.asarray(case.images, dtype=np.float32)
    scans = Scans(case.case_id, clean, ("t2", "adc"), "zscore")
    damaged = clean.copy()
    for m, name in enumerate(("t2", "adc")):
        if name in condition.modalities:
            damaged[:, m] = scans.modality(m, condition)
    own = branches(trained)
    mask = by_hand(case, damaged, lambda x: (own[0](x[:, :1]) + own[1](x[:, 1:])) / 2)
    assert np.array_equal(predicted(late, small_prostate, [condition])[condition.name], mask)


def test_a_track_that_was_stopped_goes_on_to_the_same_bytes(
    track: TrackResult, late: Any, small_prostate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(late.path, run, ignore=shutil.ignore_patterns("tracks"))
    keep, kept = TrackFolder.keep, []

    def stops(self: TrackFolder, case_id: str, part: Any) -> None:
        keep(self, case_id, part)
        kept.append(case_id)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrackFolder, "keep", stops)
        with pytest.raises(KeyboardInterrupt):
            usbench.evaluate(run, data_dir=small_prostate, device="cpu")
    assert not (run / "tracks" / "robustness" / "track.json").exists()
    half = run / "tracks" / "robustness" / "predictions" / "clean" / ".x.nii.gz.abc.part.nii.gz"
    half.write_bytes(b"half a mask")
    done = usbench.evaluate(run, data_dir=small_prostate, device="cpu")[0]
    names = {name for name in track.data["files"] if name != "figure.png"}
    assert names == {name for name in done.data["files"] if name != "figure.png"}
    for name in names:
        assert (done.path / name).read_bytes() == (track.path / name).read_bytes(), name
    assert not list(done.path.rglob(".*")), "no part, lock or half file stays"


def test_a_finished_track_is_given_back_unless_its_run_is_another(
    track: TrackResult, late: Any, small_prostate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(late.path, run)

    def refuse(*words: Any, **options: Any) -> Any:
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(robustness, "evaluate", refuse)
        again = usbench.evaluate(run, data_dir=small_prostate, device="cpu")[0]
    assert again.data == track.data
    file = run / "tracks" / "robustness" / "track.json"
    other = json.loads(file.read_text())
    other["of"] = "0" * 64  # as after the run was computed anew
    file.write_text(json.dumps(other))
    done = usbench.evaluate(run, data_dir=small_prostate, device="cpu")[0]
    assert done.data["of"] == late.data["digest"]
    assert (done.path / "cases.csv").read_bytes() == (track.path / "cases.csv").read_bytes()


def test_an_edited_track_is_named(track: TrackResult, tmp_path: Path) -> None:
    folder = tmp_path / "robustness"
    shutil.copytree(track.path, folder)
    table = folder / "cases.csv"
    table.write_text(table.read_text().replace("clean", "clear", 1))
    with pytest.raises(UsbenchError, match=r"cases\.csv: was edited after the evaluation"):
        load_track(folder)


@pytest.fixture(scope="module", params=["late", "hybrid"])
def frozen(
    request: pytest.FixtureRequest, small_prostate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    runs = tmp_path_factory.mktemp("frozen")
    return kept_run(small_prostate, runs, method="frozen", fusion=request.param, plugins=[FROZEN])


def test_rows_put_together_from_modalities_are_those_of_the_whole(
    frozen: Any, small_prostate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [one for one in conditions_of(("t2", "adc")) if one.level in (None, 0.5)]
    whole = predicted(frozen, small_prostate, some)
    calls: list[int] = []
    per_modality(monkeypatch, calls)
    composed = predicted(frozen, small_prostate, some)
    for name in whole:
        assert np.array_equal(whole[name], composed[name]), name
    case = opened(frozen, small_prostate)[1].case(frozen.data["split"]["test"][0])
    groups = -(-len(case.foreground) // BATCH)
    told = frozen.data["cell"]["fusion"] == "late"
    # Clean, random, gaussian and, where nobody is told, missing: each once, whatever the subsets.
    assert len(calls) == (3 if told else 4) * groups


@pytest.mark.parametrize("says_so", [True, False])
def test_nothing_of_a_missing_modality_reaches_a_mask(
    says_so: bool, frozen: Any, small_prostate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another image there changes nothing, also for a network that does not listen to what it is told."""
    if says_so:
        per_modality(monkeypatch, [])
    missing = Condition("missing", ("t2",))
    trained, store = opened(frozen, small_prostate)
    case = store.case(frozen.data["split"]["test"][0])
    masks = []
    for factor in (1, -30):
        images = np.asarray(case.images).copy()
        images[:, 0] *= factor
        predictor = Predictor(trained, store, [case.case_id], 1.0)
        masks.append(predictor.predict(replace(case, images=images), [missing, CLEAN]).volume(missing.name))
    assert np.array_equal(*masks)


def test_only_a_network_that_takes_it_is_told(
    late: Any, small_prostate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    network = type(load_network(late, device="cpu").network)
    forward = network.forward

    def listening(self: Any, images: torch.Tensor, **words: torch.Tensor) -> torch.Tensor:
        said.append(words["present"][0].tolist() if words else None)
        logits: torch.Tensor = forward(self, images, **words)
        return logits

    monkeypatch.setattr(network, "forward", listening)
    kinds = [CLEAN, Condition("missing", ("adc",)), Condition("random", ("adc",), 0.5)]
    predicted(late, small_prostate, kinds)
    assert said[:3] == [None, [True, False], None]
    tiny = kept_run(small_prostate, tmp_path, method="tiny", fusion="early", plugins=[TINY])
    done = usbench.evaluate(tiny.path, data_dir=small_prostate, device="cpu", masks=False)[0]
    assert done.data["told"] is False
    assert not [name for name in done.data["files"] if "/" in name], "no masks were asked for"
