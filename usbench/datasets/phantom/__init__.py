"""Digital patients: written to disk in the layout of the real data sets and read by the same readers.

`docs/phantoms.md` says what is simulated, from which published values, and what is not.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.errors import UsbenchError

if TYPE_CHECKING:
    from usbench.contracts.data import Task

CASES = 10
"""Cases of a task's phantom: two for each of five folds."""

SEED = 0


@dataclass(frozen=True)
class _Recipe:
    """How to make one task's phantom: its folder, its case ids, and what writes a case and the index."""

    folder: str
    case_ids: tuple[str, ...]
    write_case: Callable[[Path, str, int, int], None]
    header: dict[str, Any] | None = None


def _recipe(task: Task) -> _Recipe:
    if task.name == "chaos":
        from usbench.datasets.phantom import chaos

        def write_patient(folder: Path, case_id: str, seed: int, index: int) -> None:
            chaos.write_case(folder / case_id, case_id, seed, index)

        return _Recipe("Train_Sets/MR", chaos.CASE_IDS, write_patient)
    if task.name in ("msd-prostate", "msd-brain"):
        from usbench.datasets.phantom import msd

        if task.name == "msd-brain":
            return _Recipe("Task01_BrainTumour", msd.BRAIN_IDS, msd.write_brain, msd.BRAIN_HEADER)
        return _Recipe("Task05_Prostate", msd.PROSTATE_IDS, msd.write_prostate, msd.PROSTATE_HEADER)
    raise UsbenchError(f"task '{task.name}' has no phantom; give the folder of its data with --data-dir")


def phantom_version() -> str:
    """A short digest of the code that makes the phantoms: other code, other phantoms."""
    digest = hashlib.sha256(f"{CASES} {SEED}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def phantom_root(task: Task) -> Path:
    """The folder of `task`'s phantom in the cache, made on first use (some seconds) and kept.

    It is the data folder: `task.folder` lies below it. Raises `UsbenchError` for a task without one.
    """
    from usbench.storage.files import cache_dir, describe_os_error

    _recipe(task)
    root = cache_dir() / "phantoms" / f"{task.name}-{phantom_version()}"
    if not root.is_dir():
        # Two runs may start at once: whoever is second to finish keeps the folder of the first.
        own = root.with_name(f".{root.name}.{os.getpid()}")
        make_phantom(task, own, CASES, SEED)
        try:
            os.rename(own, root)
        except OSError as error:
            shutil.rmtree(own, ignore_errors=True)
            if not root.is_dir():
                raise describe_os_error(error, root, "write") from error
    return root


def make_phantom(task: Task, target: Path, cases: int = CASES, seed: int = SEED) -> None:
    """Write `cases` digital patients of `task` to `target`, in the layout of the real data set.

    The same seed gives the same files, and the first cases of a larger phantom are those of a smaller
    one. `target` appears when it is complete and replaces a folder of that name. Raises `UsbenchError`
    for a task without a phantom, or for more cases than the real data set has.
    """
    from usbench.runtime.console import track
    from usbench.storage.files import atomic_folder

    recipe = _recipe(task)
    if not 1 <= cases <= len(recipe.case_ids):
        most = len(recipe.case_ids)
        raise UsbenchError(f"a phantom of {task.name} cannot have {cases} cases; ask for 1 to {most}")
    ids = list(recipe.case_ids[:cases])
    with atomic_folder(Path(target)) as root:
        folder = root / recipe.folder
        for index, case_id in enumerate(track(ids, f"making the {task.name} phantom", len(ids))):
            recipe.write_case(folder, case_id, seed, index)
        if recipe.header is not None:
            from usbench.datasets.phantom.msd import write_index

            write_index(folder, recipe.header, ids)
