"""Downloading a data set: resumed where it stopped, verified, and unpacked without trusting the archive."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import stat
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from usbench.console import console, say
from usbench.datasets.base import Download, Task
from usbench.datasets.readers import download_command
from usbench.errors import UsbenchError
from usbench.files import atomic_folder, os_errors

if TYPE_CHECKING:
    from rich.progress import Progress

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 60


def download(task: Task, target: Path, url: str | None = None) -> Path:
    """Download the data of `task` into the data folder `target` and return the folder of its cases.

    `url` names a mirror of the same archive. What is there already is kept: unpacked data is not
    fetched again, an archive of the right name is verified and unpacked, and `<archive>.part` of an
    interrupted download is continued. Of the archive, only the task's folder is unpacked, at once
    or not at all. Raises `UsbenchError` if the disk is too small, the server fails, the size or a
    checksum is wrong, or a member of the archive would leave the folder.
    """
    if task.download is None:
        raise UsbenchError(f"task {task.name} has no download; give its folder with --task-dir or --data-dir")
    target = Path(target)
    folder = target / task.folder
    if folder.is_dir() and any(folder.iterdir()):
        say(f"{folder} is there already, nothing to download; remove it to download again")
        return folder
    source = task.download
    address = url or source.url
    name = PurePosixPath(urllib.parse.urlsplit(address).path).name
    if urllib.parse.urlsplit(address).scheme not in ("http", "https") or not name:
        raise UsbenchError(f"{address}: not the http or https address of an archive; correct --url")
    with os_errors(target, "write"):
        target.mkdir(parents=True, exist_ok=True)
    archive, part = target / name, target / f"{name}.part"
    if archive.is_file():
        say(f"{archive} is there already, verifying it")
        _verify(archive, source)
        _unpack(archive, task, folder)
        return folder
    _fetch(address, part, source, download_command(task, target))
    try:
        _verify(part, source)
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


def _fetch(url: str, part: Path, source: Download, command: str) -> None:
    """Bring `part` to the full size of what is at `url`, going on where it stops."""
    try:
        _fetch_rest(url, part, source)
    except UsbenchError:
        raise
    except KeyboardInterrupt:
        say(f"stopped at {_size(part)} bytes of {part}; to go on: {command}")
        raise
    except urllib.error.HTTPError as error:
        what = f"the server answered {error.code} {error.reason}"
        raise UsbenchError(f"{url}: {what}; try later, or name a mirror with --url") from error
    except (OSError, http.client.HTTPException) as error:
        what = f"the download stopped at {_size(part)} bytes ({getattr(error, 'reason', None) or error!r})"
        raise UsbenchError(f"{url}: {what}, which are kept in {part}; to go on: {command}") from error


def _fetch_rest(url: str, part: Path, source: Download) -> None:
    have = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "usbench", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        # Nothing lies beyond what is here: it is whole, or it is not this archive.
        total = _total(error.headers.get("Content-Range"))
        if have != (total or source.bytes):
            part.unlink()
            _fetch_rest(url, part, source)
        return
    with response:
        length = response.headers.get("Content-Length")
        content = response.headers.get("Content-Range", "")
        resumed = response.status == 206 and content.startswith(f"bytes {have}-")
        if have and not resumed:
            say(f"{part}: the server does not continue downloads, starting again")
            have = 0
        total = have + int(length) if length else source.bytes
        if source.bytes and total and total != source.bytes:
            what = f"the server offers {total} bytes, the data set has {source.bytes}"
            raise UsbenchError(f"{url}: {what}; name the right archive with --url, or remove {part}")
        # Twice: the archive, and at least as much again unpacked.
        _need_space(part.parent, 2 * (total or 0) - have, "download and unpack")
        with _bytes_bar(part.stem, total, have) as advance, open(part, "ab" if have else "wb") as stream:
            while chunk := response.read(_CHUNK):
                with os_errors(part, "write"):
                    stream.write(chunk)
                advance(len(chunk))
    if total and _size(part) < total:
        raise http.client.IncompleteRead(b"", total - _size(part))


def _total(content_range: str | None) -> int | None:
    number = (content_range or "").rpartition("/")[2]
    return int(number) if number.isdigit() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _need_space(folder: Path, needed: int, doing: str) -> None:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        what = f"{needed / 1e9:.2f} GB are needed to {doing}, {free / 1e9:.2f} GB are free"
        raise UsbenchError(f"{folder}: {what}; free some space or choose another folder")


@contextmanager
def _bytes_bar(description: str, total: int | None, done: int) -> Iterator[Callable[[int], None]]:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    bar: Progress
    with Progress(*columns, console=console()) as bar:
        task = bar.add_task(description, total=total, completed=done)
        yield lambda count: bar.advance(task, count)


def _verify(path: Path, source: Download) -> None:
    """Raise `UsbenchError` unless `path` has the size and the checksums of `source`."""
    size = _size(path)
    if source.bytes and size != source.bytes:
        raise UsbenchError(f"{path}: {size} bytes, expected {source.bytes}; the archive is not whole")
    hashes = [hashlib.md5(usedforsecurity=False), hashlib.sha256()]
    with _bytes_bar(f"verifying {path.name}", size, 0) as advance, open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            for h in hashes:
                h.update(chunk)
            advance(len(chunk))
    for h, expected in zip(hashes, (source.md5, source.sha256), strict=True):
        if expected and h.hexdigest() != expected.lower():
            what = f"its {h.name.upper()} is {h.hexdigest()}, expected {expected}"
            raise UsbenchError(f"{path}: {what}; the archive is damaged or another one")


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
        _refuse_unsafe(archive, member)
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


def _refuse_unsafe(archive: Path, member: _Member) -> None:
    """Raise `UsbenchError` for a member that is no plain file or folder, or that leads elsewhere."""
    name = member.name.replace("\\", "/")
    reason = member.oddity
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        reason = "an absolute path"
    elif ".." in name.split("/"):
        reason = "a path out of the folder"
    if reason:
        what = f"member {member.name!r} is {reason}, nothing was unpacked"
        raise UsbenchError(f"{archive}: {what}; do not trust this archive, remove it")


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

        kind = stat.S_IFMT(info.external_attr >> 16)
        oddity = "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "a link or a device"
        return _Member(info.filename, info.file_size, not info.is_dir(), oddity, write)

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
