"""Digital patients: written to disk in the layout of the real data sets and read by the same readers.

`docs/phantoms.md` says what is simulated, from which published values, and what is not.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.errors import UsbenchError

if TYPE_CHECKING:
    from usbench.contracts.data import Phantom, Task

CASES = 10
"""Cases of a task's phantom: two for each of five folds."""

SEED = 0

_MARK = """These are digital patients that usbench simulated, no real ones. While this file lies beside them,
usbench takes them for a phantom wherever they are copied.
"""


def _phantom_of(task: Task) -> Phantom:
    if task.phantom is None:
        raise UsbenchError(f"task '{task.name}' has no phantom; give the folder of its data with --data-dir")
    return task.phantom


def phantom_version(phantom: Phantom) -> str:
    """A short digest of the code that makes a phantom: other code, other patients."""
    from usbench.plugins.code_hash import code_hash, module_of, of_usbench

    digest = hashlib.sha256(f"{CASES} {SEED}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    for part in (phantom.write_case, phantom.write_index, phantom.second_scanner):
        if part is not None and not of_usbench(part):
            digest.update(code_hash(module_of(part)).encode())
    return digest.hexdigest()[:8]


def phantom_root(task: Task, scanner: int = 1) -> Path:
    """The folder of a task's phantom in the cache, made on first use (some seconds) and kept.

    Args:
        task: One with a phantom.
        scanner: 1, or 2 for other patients in another scanner.

    Returns:
        The data folder: `task.folder` lies below it.

    Raises:
        UsbenchError: for a task without a phantom, or without that scanner.
    """
    from usbench.datasets.kept_phantom import remember, unchanged
    from usbench.storage.files import cache_dir, locked

    phantom = _phantom_of(task)
    other = "" if scanner == 1 else f"-scanner{scanner}"
    most = len(patients_of(task, scanner))
    root = cache_dir() / "phantoms" / f"{task.name}{other}-{phantom_version(phantom)}"
    if not (root.is_dir() and unchanged(root)):
        waiting = f"{root}: another process is making this phantom; waiting for it"
        with locked(root.with_name(f".{root.name}.lock"), waiting, remove=True):
            if not (root.is_dir() and unchanged(root, told=True)):
                make_phantom(task, root, min(CASES, most), SEED, scanner)
                remember(root)
    return root


def patients_of(task: Task, scanner: int = 1) -> tuple[str, ...]:
    """The names of the patients that a scanner of a task's phantom can have.

    Those of the second scanner begin where the ten usual ones of the first end, so that no network trained on
    those has seen them.

    Raises:
        UsbenchError: for a task without a phantom, or without that scanner.
    """
    phantom = _phantom_of(task)
    if scanner == 1:
        return phantom.case_ids
    if scanner != 2 or phantom.second_scanner is None:
        have = "1 and 2" if phantom.second_scanner is not None else "1 alone"
        raise UsbenchError(
            f"the phantom of {task.name} has scanner {have}, not {scanner}; choose one of them"
        )
    return phantom.case_ids[CASES:] or phantom.case_ids


def scanner_of(task: Task, case_ids: Sequence[str]) -> int:
    """The scanner of a task's phantom, made as by default, that has patients of these names; else 1."""
    phantom = task.phantom
    if phantom is None or phantom.second_scanner is None or set(case_ids) <= set(phantom.case_ids[:CASES]):
        return 1
    return 2 if set(case_ids) <= set(patients_of(task, 2)[:CASES]) else 1


def make_phantom(task: Task, target: Path, cases: int = CASES, seed: int = SEED, scanner: int = 1) -> None:
    """Write digital patients of a task in the layout of its real data set.

    The same seed gives the same files, and the first cases of a larger phantom are those of a smaller
    one. Data that does not say of itself that it is simulated gets a file beside the cases that says so.

    Args:
        task: one with a `phantom`.
        target: the data folder; it appears when it is complete and replaces a folder of that name.
        cases: how many patients, from 1 to the number of `task.phantom.case_ids`.
        seed: which patients.
        scanner: 1, or 2 for other patients in another scanner.

    Raises:
        UsbenchError: for a task without a phantom, for more cases than it has names for, and where what a
            plugin brings for it fails.
    """
    from usbench.contracts.data import PHANTOM_MARK
    from usbench.datasets.readers.layouts import open_reader
    from usbench.runtime.console import track
    from usbench.storage.files import atomic_folder

    phantom = _phantom_of(task)
    names = patients_of(task, scanner)
    write = phantom.write_case if scanner == 1 else phantom.second_scanner
    assert write is not None
    if not 1 <= cases <= len(names):
        most = len(names)
        raise UsbenchError(f"a phantom of {task.name} cannot have {cases} cases; ask for 1 to {most}")
    ids = names[:cases]
    first = phantom.case_ids.index(ids[0])
    with atomic_folder(Path(target)) as root:
        folder = root / task.folder
        folder.mkdir(parents=True, exist_ok=True)
        for index, case_id in enumerate(track(ids, f"making the {task.name} phantom", len(ids))):
            with _named(task, f"write_case of case {case_id}"):
                write(folder, case_id, seed, first + index)
        with _named(task, "write_index"):
            phantom.write_index(folder, ids)
        if not open_reader(task, root).is_phantom():
            (folder / PHANTOM_MARK).write_text(_MARK, encoding="utf-8")


@contextlib.contextmanager
def _named(task: Task, doing: str) -> Iterator[None]:
    """Name the task where what a plugin brings for its phantom raises; a full disk stays what it is."""
    try:
        yield
    except (UsbenchError, OSError):
        raise
    except Exception as error:
        from usbench.contracts.problem import plugin_raised

        raise plugin_raised(task.name, "its phantom", doing, error) from error
