"""Augmented views of training cases, for methods whose frozen parts see every slice only once.

A network that is fed stored features cannot be shown a new rotation in every epoch: its encoder would have
to run again. Instead every slice with foreground gets a few fixed views (`usbench.datasets.augment.light`),
whose features are stored like those of the slice itself, and training draws among them. A view depends on the
case and its number alone, so that folds, seeds and fusions share it.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from usbench.datasets.augment import light
from usbench.datasets.batches import View
from usbench.storage.arrays import load_arrays, save_arrays
from usbench.storage.files import cache_dir, digest_of, locked
from usbench.storage.in_use import use

if TYPE_CHECKING:
    from usbench.contracts.data import Task
    from usbench.datasets.store import PreparedCase, Store

# Raise it when the same case would get other views.
VERSION = 1


def view_key(number: int, mirror: bool) -> list[int]:
    """What decides a view besides its case."""
    return [VERSION, number, int(mirror)]


def view_place(task: Task, store: Store, case_id: str, number: int, mirror: bool = False) -> Path:
    """The folder in which a view of a case is, or will be; the arguments are those of `view_of`."""
    data = digest_of([view_key(number, mirror), task.name, task.modality_names, asdict(store.settings)])
    content = digest_of(store.contents[case_id])
    return cache_dir() / "views" / data[:16] / f"{case_id}-{content[:12]}"


def view_of(task: Task, store: Store, case_id: str, number: int, mirror: bool = False) -> View:
    """A view of a case: read from the cache, or made now and stored there.

    Args:
        task: The task.
        store: Its prepared data.
        case_id: The case.
        number: Of the view, from 1.
        mirror: Whether left and right may be exchanged.
    """
    content, place = store.contents[case_id], view_place(task, store, case_id, number, mirror)
    names = ("images", "mask")
    use(place.parent)
    stored = load_arrays(place, names)
    if stored is None:
        waiting = f"{place.parent}: another process is making these views; waiting for it"
        with locked(place.parent.with_name(f".{place.parent.name}.lock"), waiting):
            stored = load_arrays(place, names)
            if stored is None:
                seed = int(digest_of([content, number])[:12], 16)
                images, mask = changed(store.case(case_id), seed, mirror)
                save_arrays(place, {"images": images, "mask": mask}, {"case": case_id, "view": number})
                stored = load_arrays(place, names)
                assert stored is not None
    arrays, _ = stored
    return View(case_id, arrays["images"], arrays["mask"])


def changed(case: PreparedCase, seed: int, mirror: bool) -> tuple[np.ndarray, np.ndarray]:
    """The slices with foreground of a case, rotated, scaled, shifted and re-contrasted at random.

    Args:
        case: The prepared case.
        seed: Of the random changes.
        mirror: Whether left and right may be exchanged.

    Returns:
        Images float16 [F, M, S, S] and mask uint8 [F, S, S] of the F slices with foreground.
    """
    full = np.flatnonzero(case.foreground)
    images = torch.from_numpy(np.asarray(case.images[full], dtype=np.float32))
    mask = torch.from_numpy(np.asarray(case.mask[full], dtype=np.float32)).unsqueeze(1)
    images, mask = light(images, mask, torch.Generator().manual_seed(seed), mirror=mirror)
    return images.half().numpy(), mask.squeeze(1).to(torch.uint8).numpy()
