"""Check that a method never gets at the reference mask of what it predicts.

The same patient is trained on and predicted twice by the code of a run, each time with another mask: in
memory, in the prepared store, everywhere. The learning rate is zero, so that the loss may teach nothing;
whatever differs then was read from the mask. Files that the network opens meanwhile are watched.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from usbench.checks.learning import prepared_case
from usbench.checks.outcome import Outcome, failed, passed
from usbench.checks.repeating import ROUNDING
from usbench.checks.subject import CPU, Subject, differs, shift, unwrapped
from usbench.datasets.notes import MASK, TRUTH
from usbench.datasets.resolve import data_folder
from usbench.storage.files import cache_dir
from usbench.storage.slices import SliceArray, write_slices

REFERENCE = {
    "mask", "masks", "target", "targets", "label", "labels", "truth", "ground_truth", "gt", "reference",
    "seg", "segmentation", "annotation", "annotations", "y", "y_true",
}  # fmt: skip
SIZE, SLICES = 32, 8

_watched: list[list[str]] = []
_hooked: list[bool] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        _watched[-1].append(os.fsdecode(arguments[0]))


@contextmanager
def _watch(opened: list[str]) -> Iterator[None]:
    """Write down every file that Python opens meanwhile."""
    if not _hooked:
        sys.addaudithook(_hook)  # It cannot be removed again; it does nothing outside of `_watch`.
        _hooked.append(True)
    _watched.append(opened)
    try:
        yield
    finally:
        _watched.pop()


class _Recorded(nn.Module):
    """A network called as its method is; it keeps logits and the names of files that were opened."""

    def __init__(self, subject: Subject, opened: list[str]) -> None:
        super().__init__()
        self.subject, self.opened = subject, opened
        with _watch(opened):
            self.network = subject.build(2, 1)
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        with _watch(self.opened):
            logits = self.subject.call(self.network, images, 1)
        if not self.training:
            self.seen.append(logits.detach().clone())
        return logits


def mask(subject: Subject) -> Outcome:
    """Another reference changes no logit, no file of a data set is opened, no forward asks for a mask."""
    if asked := _asked(subject):
        return failed(f"its forward takes '{asked}'", "let forward take the images and the method's features")
    opened: list[str] = []
    one, two = _place(subject, 0), _place(subject, 1)
    first = _run(subject, one, one, opened)
    if read := _of_data(subject, opened):
        return failed(
            f"opens {read} while it predicts", "use nothing but the images and features of the batch"
        )
    second = _run(subject, two, two, opened)
    if differs(first, second, ROUNDING):
        crossed = _run(subject, one, two, opened)
        when = "while predicting" if differs(first, crossed, ROUNDING) else "in training, beside the loss"
        return failed(
            f"another reference mask changes logits by {shift(first, second):.2g}; it is read {when}"
        )
    return passed("two references, the same logits")


def _asked(subject: Subject) -> str:
    """A parameter of the network's forward that is named like a reference, or ""."""
    names = {feature.name for feature in subject.features(2, 2)} if _has_rows(subject) else set()
    network = unwrapped(subject.network())
    parts: list[Any] = [network]
    if subject.method.build_network is not None:
        parts = [
            module
            for module in network.modules()
            if hasattr(module, "encoder") and hasattr(module, "decoder")
        ]
        parts += [part for module in parts for part in (module.encoder, module.decoder)]
        parts += list(network.children())
    for part in parts:
        for name in list(inspect.signature(part.forward).parameters)[1:]:
            if name.lower() in REFERENCE - names:
                return name
    return ""


def _has_rows(subject: Subject) -> bool:
    return subject.method.features is not None and subject.caller is None


def _place(subject: Subject, variant: int) -> Path:
    """A cache folder with the prepared phantom; in variant 1 masks are moved by a quarter of a side."""
    place = subject.folder / f"reference{variant}"
    if not place.is_dir():
        prepared_case(subject.folder, SIZE)
        shutil.copytree(subject.folder / "prepared", place / "prepared")
        if variant:
            for name in (MASK, TRUTH):
                for file in (place / "prepared").rglob(name):
                    write_slices(file, _moved(np.asarray(SliceArray(file))))
    return place


def _moved(mask: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.roll(mask, [side // 4 for side in mask.shape[-2:]], axis=(-2, -1)))


def _run(subject: Subject, train: Path, test: Path, opened: list[str]) -> Tensor:
    """Train with a learning rate of zero with one reference, predict with another: all logits [N, K, ...]."""
    from lightning_fabric import Fabric

    from usbench.contracts.settings import TrainSettings
    from usbench.datasets.ways import way_of
    from usbench.runs.predict import predict
    from usbench.runs.train import fit

    fabric = Fabric(accelerator="cpu", devices=1)
    case = prepared_case(subject.folder, SIZE)
    settings = TrainSettings(epochs=1, batch=8, lr=0.0, weight_decay=0.0)
    # Patches of training that are drawn by the mask would differ, and with them batch statistics.
    network, way = _Recorded(subject, opened), way_of(subject.config).blind()
    with _cache(subject, train):
        slices = way.training([_with(case, train)], 1, CPU, False)
        fit(network, slices, settings, fabric, seed=0)
    with _cache(subject, test), torch.no_grad():
        predict(network, _with(case, test), 1, CPU, way=way)
    return torch.cat(network.seen)


def _with(case: Any, place: Path) -> Any:
    """The middle slices of the case as the store below `place` has it."""
    (file,) = (f for f in (place / "prepared").rglob(MASK) if SliceArray(f).shape == case.mask.shape)
    array = SliceArray(file)
    start = max(0, len(array) // 2 - SLICES // 2)
    middle = slice(start, start + SLICES)
    shape = list(case.geometry.shape)
    shape[case.geometry.axes[0]] = len(array[middle])
    return dataclasses.replace(
        case,
        images=case.images[middle],
        mask=array[middle],
        foreground=case.foreground[middle],
        geometry=dataclasses.replace(case.geometry, shape=tuple(shape)),
        path=file.parent,
    )


@contextmanager
def _cache(subject: Subject, place: Path) -> Iterator[None]:
    """Let USBENCH_CACHE name a folder, as far as nothing that the method needs is in the user's own."""
    if subject.method.features is not None:
        yield
        return
    before = os.environ.get("USBENCH_CACHE")
    os.environ["USBENCH_CACHE"] = str(place)
    try:
        yield
    finally:
        if before is None:
            del os.environ["USBENCH_CACHE"]
        else:
            os.environ["USBENCH_CACHE"] = before


def _of_data(subject: Subject, opened: list[str]) -> str:
    """The first opened file that belongs to a data set, or ""."""
    cache = cache_dir()
    folders = [subject.folder, cache / "prepared", cache / "phantom", cache / "phantoms"]
    folders += [data_sets] if (data_sets := data_folder()) else []
    roots = [folder.resolve() for folder in folders]
    for name in dict.fromkeys(opened):
        path = Path(name).resolve()
        if any(path.is_relative_to(root) for root in roots) or path.name in (MASK, TRUTH):
            return name
    return ""
