"""Whether the files of a phantom in the cache are what was written."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from usbench.datasets.notes import settled, sign_of
from usbench.errors import UsbenchError
from usbench.runtime.console import say
from usbench.storage.files import sha256_file
from usbench.storage.sealed import read_sealed, write_sealed


def _notes(root: Path) -> Path:
    return root.with_name(f".{root.name}.files.json")


def _files(root: Path) -> dict[str, Path]:
    found = (file for file in sorted(root.rglob("*")) if file.is_file())
    return {file.relative_to(root).as_posix(): file for file in found}


def remember(root: Path) -> None:
    """Write down the digests of the files of a phantom, and by which signs they are known.

    Args:
        root: Its folder, just made.
    """
    _write(root, {name: sha256_file(file) for name, file in _files(root).items()})


def _write(root: Path, digests: dict[str, str]) -> None:
    signs = {name: sign_of(file, device=False) for name, file in _files(root).items()}
    known = {name: sign for name, sign in signs.items() if settled(sign)}
    with suppress(UsbenchError):  # A cache that cannot be written to costs time, not correctness.
        write_sealed(_notes(root), {"sha256": digests, "signs": known}, durable=False)


def unchanged(root: Path, told: bool = False) -> bool:
    """Whether a phantom is what was written; files that show no sign of a change are not read.

    One that an older version of usbench made is taken as it is, and known from then on.

    Args:
        root: Its folder.
        told: Say what is wrong.
    """
    notes, files = _notes(root), _files(root)
    wrong = ""
    try:
        if not notes.exists():
            remember(root)
            return True
        known: dict[str, Any] = read_sealed(notes, "what is known of a phantom", "it is made again")
        digests, signs = known["sha256"], known["signs"]
        if set(files) != set(digests):
            wrong = f"{root}: has other files than were written"
        touched = {
            name: file for name, file in files.items() if signs.get(name) != sign_of(file, device=False)
        }
        for name, file in touched.items():
            if not wrong and sha256_file(file) != digests[name]:
                wrong = f"{file}: not what was written"
        if touched and not wrong:
            _write(root, digests)
    except (OSError, KeyError, TypeError, AttributeError) as error:
        wrong = f"{root}: cannot be checked ({error})"
    except UsbenchError as error:
        wrong = str(error)
    if wrong and told:
        say(f"{wrong}; the phantom is made again")
    return not wrong
