"""Downloading a data set: resumed where it stopped, verified, and unpacked without trusting the archive."""

from __future__ import annotations

import os
import shutil
import tarfile
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from usbench.contracts.data import Download, Task
from usbench.datasets.readers.layouts import download_command
from usbench.errors import UsbenchError
from usbench.runtime.console import say
from usbench.storage.download import CHUNK as _CHUNK
from usbench.storage.download import bytes_bar as _bytes_bar
from usbench.storage.download import need_space as _need_space
from usbench.storage.download import receive, refuse_unsafe, transfer_errors, verify, zip_oddity
from usbench.storage.files import atomic_folder, locked, os_errors


def download(task: Task, target: Path, url: str | None = None) -> Path:
    """Download the data of a task and unpack it.

    What is there already is kept: unpacked data is not fetched again, an archive of the right name is
    verified and unpacked, and `<archive>.part` of an interrupted download is continued. Of the archive, only
    the task's folder is unpacked, at once or not at all.

    Args:
        task: one with a `download`.
        target: the data folder.
        url: the address of a mirror of the same archive.

    Returns:
        The folder of the cases.

    Raises:
        UsbenchError: if the disk is too small, the server fails, the size or a checksum is wrong, or a member
            of the archive would leave the folder.
    """
    if task.download is None:
        raise UsbenchError(f"task {task.name} has no download; give its folder with --task-dir or --data-dir")
    target = Path(target)
    folder = target / task.folder
    if folder.is_dir() and any(folder.iterdir()):
        say(f"{folder} is there already, nothing to download; remove it to download again")
        return folder
    stated = task.download
    address = url or stated.url
    name = PurePosixPath(urllib.parse.urlsplit(address).path).name
    if urllib.parse.urlsplit(address).scheme not in ("http", "https") or not name:
        raise UsbenchError(f"{address}: not the http or https address of an archive; correct --url")
    with os_errors(target, "write"):
        target.mkdir(parents=True, exist_ok=True)
    waiting = f"{target}: another process is downloading {name}; waiting for it"
    with locked(target / f".{name}.lock", waiting, remove=True):
        if folder.is_dir() and any(folder.iterdir()):
            return folder
        return _bring(task, target, stated, address, name)


def _bring(task: Task, target: Path, stated: Download, address: str, name: str) -> Path:
    """Download and unpack what is not there, or go on with it; gives the folder of the cases."""
    folder, archive, part = target / task.folder, target / name, target / f"{name}.part"
    if archive.is_file():
        say(f"{archive} is there already, verifying it")
        _verify(archive, stated)
        _unpack(archive, task, folder)
        return folder
    _fetch(address, part, stated, download_command(task, target))
    try:
        _verify(part, stated)
    except UsbenchError as error:
        part.unlink(missing_ok=True)
        raise UsbenchError(
            f"{error}; it was removed, download again: {download_command(task, target)}"
        ) from error
    os.replace(part, archive)
    _unpack(archive, task, folder)
    archive.unlink()
    say(f"{folder} is ready; the archive was removed")
    return folder


def _fetch(url: str, part: Path, stated: Download, command: str) -> None:
    """Bring `part` to the full size of what is at `url`, going on where it stops."""
    remedy = f"the data set has {stated.bytes}; name the right archive with --url, or remove {part}"
    with (
        transfer_errors(url, part, command, "try later, or name a mirror with --url"),
        closing(receive(url, part, stated.bytes, remedy, _CHUNK)) as steps,
    ):
        # The first step comes before the first byte; the inner loop takes all the others.
        for have, total in steps:
            # Twice: the archive, and at least as much again unpacked.
            _need_space(part.parent, 2 * (total or 0) - have, "download and unpack")
            with _bytes_bar(part.stem, total, have) as advance:
                for done, _ in steps:
                    advance(done - have)
                    have = done


def _verify(path: Path, stated: Download) -> None:
    verify(path, stated.bytes, stated.md5, stated.sha256)


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    is_file: bool
    oddity: str  # "" for plain files and folders
    write: Callable[[Path, str], None]  # into a folder, under a name there


def _unpack(archive: Path, task: Task, folder: Path) -> None:
    """Unpack the part of `archive` that is the task's folder to `folder`, whole or not at all."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                _unpack_members(archive, _zip_members(zipped), task, folder)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tarred:
                _unpack_members(archive, _tar_members(tarred), task, folder)
        else:
            raise UsbenchError(f"{archive}: neither a zip nor a tar archive; remove it and download again")
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        EOFError,
        zlib.error,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise UsbenchError(f"{archive}: broken archive ({error}); remove it and download again") from error


def _unpack_members(archive: Path, members: list[_Member], task: Task, folder: Path) -> None:
    for member in members:
        refuse_unsafe(archive, member.name, member.oddity)
    wanted = _below(members, PurePosixPath(task.folder).parts)
    if not any(member.is_file for _, member in wanted):
        raise UsbenchError(f"{archive}: holds no folder {task.folder}; give the archive of task {task.name}")
    total = sum(member.size for _, member in wanted)
    _need_space(folder, total, f"unpack {archive.name}")
    with atomic_folder(folder) as temporary, _bytes_bar(f"unpacking {archive.name}", total, 0) as advance:
        for name, member in wanted:
            if member.is_file:
                member.write(temporary, name)
            advance(member.size)


def _below(members: list[_Member], parts: tuple[str, ...]) -> list[tuple[str, _Member]]:
    """The members below the folder `parts`, wherever the archive keeps it, named relative to it."""
    found: dict[tuple[str, ...], list[tuple[str, _Member]]] = {}
    for member in members:
        path = PurePosixPath(member.name).parts
        for start in range(len(path) - len(parts)):
            if path[start : start + len(parts)] == parts and "__MACOSX" not in path[:start]:
                rest = "/".join(path[start + len(parts) :])
                found.setdefault(path[:start], []).append((rest, member))
                break
    return found[min(found, key=len)] if found else []


def _zip_members(archive: zipfile.ZipFile) -> list[_Member]:
    def describe(info: zipfile.ZipInfo) -> _Member:
        def write(folder: Path, name: str) -> None:
            with archive.open(info) as stream:
                _write(folder / name, stream)

        return _Member(info.filename, info.file_size, not info.is_dir(), zip_oddity(info), write)

    return [describe(info) for info in archive.infolist()]


def _tar_members(archive: tarfile.TarFile) -> list[_Member]:
    def describe(info: tarfile.TarInfo) -> _Member:
        def write(folder: Path, name: str) -> None:
            archive.extract(info.replace(name=name, deep=False), folder, set_attrs=False, filter="data")

        oddity = "" if info.isfile() or info.isdir() else "a link or a device"
        return _Member(info.name, info.size, info.isfile(), oddity, write)

    return [describe(info) for info in archive.getmembers()]


def _write(path: Path, stream: IO[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as out:
        shutil.copyfileobj(stream, out, _CHUNK)
