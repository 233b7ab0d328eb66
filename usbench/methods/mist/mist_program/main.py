"""Trains MIST on a data set in nnU-Net's raw layout and predicts its test images.

Run as `python main.py JOB.json` by an interpreter that has `mist-medical`; it needs nothing of usbench. What
it has to say goes to standard output, a JSON object a line that begins with `{"usbench"`.

Everything is kept below `work`, so that the same call after a kill goes on: what is prepared is not prepared
again, training goes on after MIST's own checkpoint of the last epoch, and cases that have a mask are not
predicted again.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import resource
import secrets
import shutil
import sys
import time
from pathlib import Path
from typing import Any

FOLD = 0
"""MIST trains by folds: of fold 0 it trains on all cases that are not in it."""
PEEK = "peek"
"""The case that MIST validates on after each epoch, which is all that fold 0 has."""


def tell(kind: str, **facts: Any) -> None:
    """A line for the program that started this one."""
    print("\n" + json.dumps({"usbench": kind, **facts}), flush=True)


def write_json(path: Path, value: Any) -> None:
    """Writes a file whole or not at all."""
    half = path.with_name(f".{path.name}.{secrets.token_hex(8)}.half")
    half.write_text(json.dumps(value, indent=1))
    half.replace(path)


def digest_of(value: Any) -> str:
    """SHA-256, in hex, of what JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_sealed(path: Path, value: Any) -> None:
    """Writes what JSON can hold, with its digest."""
    write_json(path, {"content": value, "sha256": digest_of(value)})


def read_sealed(path: Path, then: str) -> Any:
    """What `write_sealed` wrote; None where nothing is there, or where it changed, which is said."""
    if not path.exists():
        return None
    with contextlib.suppress(ValueError, KeyError, TypeError):
        kept = json.loads(path.read_text())
        if kept["sha256"] == digest_of(kept["content"]):
            return kept["content"]
    tell("stage", text=f"{path.name} is damaged (its digest does not fit): {then}")
    return None


def digests_below(folder: Path) -> dict[str, str]:
    """SHA-256, in hex, of every file below a folder."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with open(file, "rb") as stream:
            found[file.relative_to(folder).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


_LINE = b"\nusbench sha256 %s\n"
_LENGTH = len(_LINE % bytes(64))


def seal(path: Path) -> None:
    """Puts a line with the digest behind a checkpoint; torch reads over it."""
    with open(path, "r+b") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0, os.SEEK_END)
        stream.write(_LINE % digest.encode())


def drop_damaged(path: Path) -> None:
    """Removes a checkpoint without a digest that fits, and says so."""
    if not path.exists():
        return
    with open(path, "rb") as stream:
        digest, left = hashlib.sha256(), path.stat().st_size - _LENGTH
        while left > 0 and (data := stream.read(min(left, 1 << 24))):
            digest.update(data)
            left -= len(data)
        line = stream.read()
    if line != _LINE % digest.hexdigest().encode():
        tell("stage", text=f"{path.name} is damaged (its digest does not fit): training starts anew")
        path.unlink()


class Notes:
    """Numbers that add up over all starts of the same job, in a file; "lost" where some are not known."""

    def __init__(self, path: Path) -> None:
        self.path = path
        kept = read_sealed(path, "times of earlier starts are lost")
        self.values: dict[str, float] = dict(kept or ({"lost": 1.0} if path.exists() else {}))

    def add(self, name: str, seconds: float) -> None:
        """Adds seconds to a number, and notes the most memory so far."""
        self.values[name] = self.values.get(name, 0.0) + seconds
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            1024 if sys.platform != "darwin" else 1 << 20
        )
        self.values["peak_memory_mb"] = max(self.values.get("peak_memory_mb", 0.0), peak)
        write_sealed(self.path, self.values)


def images_of(job: dict[str, Any], folder: str, case: str) -> dict[str, str]:
    """The file of each channel."""
    raw = Path(job["raw"]) / folder
    return {f"channel_{c}": str(raw / f"{case}_{c:04d}.nii.gz") for c in range(job["channels"])}


def write_data_set(job: dict[str, Any], place: Path) -> Path:
    """The training cases as MIST wants them: a folder a case, and a description.

    Cases are numbered: MIST reads ids from CSV files by pandas, which takes `007` for a number and `NA` for
    nothing. A single training case stands there twice, since MIST divides what it has into folds.
    """
    cases = {f"case_{n:04d}": case for n, case in enumerate(job["train"])}
    if len(cases) == 1:
        cases[PEEK] = job["train"][0]
    for name, case in cases.items():
        (place / "cases" / name).mkdir(parents=True)
        for channel, path in images_of(job, "imagesTr", case).items():
            (place / "cases" / name / f"usbench_{channel}.nii.gz").symlink_to(path)
        mask = Path(job["raw"]) / "labelsTr" / f"{case}.nii.gz"
        (place / "cases" / name / "usbench_reference.nii.gz").symlink_to(mask)
    description = {
        "task": "usbench",
        "modality": job["modality"],
        "train-data": str(place / "cases"),
        "mask": ["usbench_reference.nii.gz"],
        "images": {name: [f"usbench_{name}.nii.gz"] for name in images_of(job, "imagesTr", "")},
        "labels": job["labels"],
        "final_classes": {f"class_{value}": [value] for value in job["labels"] if value},
    }
    described = place / "dataset.json"
    described.write_text(json.dumps(description, indent=1))
    return described


def configure(job: dict[str, Any], path: Path) -> None:
    """What of MIST's configuration the settings change."""
    config = json.loads(path.read_text())
    training = config["training"]
    training["seed"] = job["seed"]
    training["epochs"] = job["epochs"]
    training["min_steps_per_epoch"] = job["steps"]
    training["warmup_epochs"] = job["warmup"]
    training["batch_size_per_gpu"] = job["batch"]
    training["hardware"]["num_cpu_workers"] = job["workers"]
    training["augmentation"]["transforms"]["flips"] = job["mirror"]
    config["inference"]["tta"]["enabled"] = job["mirror"] and job["tta"]
    config["inference"]["inferer"]["params"]["patch_overlap"] = job["overlap"]
    config["model"]["architecture"] = job["network"]
    if job["patch"]:
        config["spatial_config"]["patch_size"] = [job["patch"]] * 3
    path.write_text(json.dumps(config, indent=1))


def add_peek(results: Path, arrays: Path) -> None:
    """What MIST validates on: the middle of the first training case, as large as a patch.

    MIST insists on such a case and keeps the weights that do best on it. Nothing here uses those: the weights
    of the last epoch predict. So that no training case is lost to it, it is a piece of one.
    """
    import numpy as np
    import pandas as pd

    size = json.loads((results / "config.json").read_text())["spatial_config"]["patch_size"]
    for kind in ("images", "labels"):
        whole = np.load(arrays / kind / "case_0000.npy")
        middle = tuple(
            slice(max(0, (n - wanted) // 2), max(0, (n - wanted) // 2) + wanted)
            for n, wanted in zip(whole.shape[:3], size, strict=True)
        )
        np.save(arrays / kind / f"{PEEK}.npy", whole[middle])
    table = pd.read_csv(results / "train_paths.csv")
    table = table[table["id"] != PEEK].assign(fold=FOLD + 1)
    peek = table[table["id"] == "case_0000"].assign(id=PEEK, fold=FOLD)
    pd.concat([peek, table]).to_csv(results / "train_paths.csv", index=False)


def prepare(job: dict[str, Any], place: Path, notes: Notes) -> None:
    """MIST's analysis and preparation of the training cases, once."""
    done, results, arrays = place / "done.json", place / "results", place / "arrays"
    if (known := read_sealed(done, "MIST prepares again, and training starts anew")) is not None:
        if known == digests_below(arrays):
            return
        tell("stage", text="what MIST prepared is damaged (its digest does not fit): all starts anew")
    from mist.cli.analyze_entrypoint import analyze_entry
    from mist.cli.preprocess_entrypoint import preprocess_entry

    begin = time.monotonic()
    if place.exists():
        shutil.rmtree(place)
        for mask in Path(job["masks"]).glob("*.nii.gz"):
            mask.unlink()  # Of a network that is trained anew.
    place.mkdir(parents=True)
    tell("stage", text=f"MIST analyses {len(job['train'])} training cases")
    analyze_entry(["--data", str(write_data_set(job, place)), "--results", str(results), "--nfolds", "2"])
    configure(job, results / "config.json")
    tell("stage", text="MIST prepares them")
    preprocess_entry(["--results", str(results), "--numpy", str(arrays)])
    missing = [n for n in range(len(job["train"])) if not (arrays / "labels" / f"case_{n:04d}.npy").exists()]
    if missing:
        cases = ", ".join(job["train"][n] for n in missing)
        raise SystemExit(f"MIST did not prepare {cases}")
    add_peek(results, arrays)
    notes.add("prepare_seconds", time.monotonic() - begin)
    write_sealed(done, digests_below(arrays))


def trainer_of(job: dict[str, Any], place: Path, notes: Notes) -> Any:
    """MIST's trainer of patches, which says what an epoch gave once its checkpoint is written."""
    from mist.cli.train_entrypoint import _create_train_dirs, _parse_train_args
    from mist.training.trainers.patch_3d_trainer import Patch3DTrainer

    class Trainer(Patch3DTrainer):  # type: ignore[misc, no-any-unimported]
        """Trains as MIST does, and says how far it is."""

        losses: tuple[Any, ...] = ()
        since = time.monotonic()
        saving = False

        def training_step(self, **kwargs: Any) -> Any:
            """One step; its loss is remembered."""
            loss = super().training_step(**kwargs)
            self.losses = (*self.losses, loss.detach())
            return loss

        def _checkpoint_path(self, fold: int) -> Path:
            """MIST's, or while it is written another, so that none has its name without its digest."""
            path = Path(super()._checkpoint_path(fold))
            return path.with_name(f"unsealed_{path.name}") if self.saving else path

        def save_checkpoint(self, fold: int, state: dict[str, Any]) -> None:
            """The checkpoint of an epoch, and what it gave."""
            self.saving = True
            super().save_checkpoint(fold, state)
            half, self.saving = self._checkpoint_path(fold), False
            seal(half)
            half.replace(self._checkpoint_path(fold))
            now = time.monotonic()
            seconds, loss = now - self.since, sum(float(x) for x in self.losses) / max(1, len(self.losses))
            self.losses, self.since = (), now
            notes.add("train_seconds", seconds)
            rate = state["optimizer"].param_groups[0]["lr"]
            tell("epoch", epoch=state["epoch"] + 1, loss=loss, lr=rate, seconds=seconds)

    results = place / "results"
    _create_train_dirs(results, False)
    words = ["--results", str(results), "--numpy", str(place / "arrays"), "--folds", str(FOLD), "--resume"]
    return Trainer(_parse_train_args(words))


def train(job: dict[str, Any], place: Path, notes: Notes) -> dict[str, Any]:
    """Trains to the last epoch and leaves its weights for prediction; returns counts."""
    import torch

    trainer = trainer_of(job, place, notes)
    checkpoint = trainer._checkpoint_path(FOLD)
    drop_damaged(Path(checkpoint))
    done = (
        torch.load(checkpoint, weights_only=False, map_location="cpu")["epoch"] + 1
        if checkpoint.exists()
        else 0
    )
    tell("train", epochs=job["epochs"], done=done)
    if 0 < done < job["epochs"]:
        notes.add("resumed", 1)
    trainer.since = time.monotonic()
    trainer.fit()
    kept = (
        torch.load(checkpoint, weights_only=False, map_location="cpu")
        if checkpoint.exists()
        else {"epoch": -1}
    )
    if kept["epoch"] + 1 < job["epochs"]:
        raise SystemExit(
            f"MIST stopped in epoch {kept['epoch'] + 2} of {job['epochs']}: its loss was not a number"
        )
    (place / "final").mkdir(exist_ok=True)
    torch.save(kept["model_state_dict"], place / "final" / "fold_0.pt")
    network = trainer._build_model()
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "trainable": sum(p.numel() for p in network.parameters() if p.requires_grad),
    }


def predict(job: dict[str, Any], place: Path, notes: Notes) -> None:
    """A mask for each test case that has none yet, moved to its place when it is whole."""
    import pandas as pd
    from mist.inference.inference_runners import infer_from_dataframe

    masks, half = Path(job["masks"]), place / "predicted"
    config = json.loads((place / "results" / "config.json").read_text())
    for n, case in enumerate(job["test"]):
        target = masks / f"{case}.nii.gz"
        if target.exists():
            continue
        begin = time.monotonic()
        tell("stage", text=f"MIST predicts case {n + 1} of {len(job['test'])}")
        row = {"id": f"test_{n:04d}", **images_of(job, "imagesTs", case)}
        infer_from_dataframe(
            pd.DataFrame([row]), str(half), config, str(place / "final"), device=job["device"]
        )
        made = half / f"test_{n:04d}.nii.gz"
        if not made.exists():
            raise SystemExit(f"MIST made no mask of {case}")
        shutil.move(made, target)
        notes.add("predict_seconds", time.monotonic() - begin)


def outcome(job: dict[str, Any], place: Path, notes: Notes, counts: dict[str, Any]) -> dict[str, Any]:
    """What the row says besides the masks."""
    config = json.loads((place / "results" / "config.json").read_text())
    packages = ("mist-medical", "torch", "monai", "SimpleITK", "numpy")
    return {
        **counts,
        "epochs": job["epochs"],
        "train_seconds": notes.values.get("train_seconds"),
        "predict_seconds": notes.values.get("predict_seconds"),
        "prepare_seconds": notes.values.get("prepare_seconds"),
        "peak_memory_mb": notes.values.get("peak_memory_mb"),
        "lost": "lost" in notes.values,
        "resumed": bool(notes.values.get("resumed")),
        "patch": config["spatial_config"]["patch_size"],
        "spacing": config["spatial_config"]["target_spacing"],
        "mirrored": job["mirror"],
        "tta": config["inference"]["tta"]["enabled"],
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def main() -> None:
    """Reads the job, does what of it is not done, and writes `outcome.json` beside it."""
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    if job["device"] == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    work = path.parent
    notes = Notes(work / "notes.json")
    try:
        prepare(job, work / "mist", notes)
        counts = train(job, work / "mist", notes)
        predict(job, work / "mist", notes)
    except SystemExit as stop:
        tell("fault", text=str(stop))
        raise
    write_json(work / "outcome.json", outcome(job, work / "mist", notes, counts))


if __name__ == "__main__":
    main()
