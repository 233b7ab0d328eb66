"""The archive of a submission: a zip of plain stored files, always written alike, and read without trust."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote

from usbench import __version__
from usbench.errors import UsbenchError
from usbench.storage.files import atomic_path, os_errors
from usbench.storage.regular import open_regular
from usbench.storage.texts import parse_json
from usbench.submissions.card import LARGEST

MANIFEST, CARD = "manifest.json", "card.yaml"
MANIFEST_VERSION = 1

# Every key of manifest.json and what it says.
MANIFEST_SCHEMA: dict[str, Any] = {
    "schema": "version of this layout",
    "usbench": "version of usbench that packed it",
    "files": {"name of a file": {"bytes": "its size", "sha256": "SHA-256 of its content"}},
}

MAX_MEMBERS = 60_000
"""Files of an archive, below the 65,535 of a zip: the robustness track of 484 patients with four modalities
has 43,560 masks."""

MAX_BYTES = 2 << 30
"""Bytes of a whole archive; its files are stored as they are, so this bounds what it unpacks to as well."""

# The largest file of each kind; a real one is a hundredth of it.
_LARGEST = {
    MANIFEST: 24 << 20,
    CARD: LARGEST,
    "result.json": 2 << 20,
    "track.json": 4 << 20,
    "cases.csv": 4 << 20,
    "history.csv": 2 << 20,
    ".nii.gz": 64 << 20,
}
_MAX_DIRECTORY = 16 << 20
LARGEST_TEXT = 64 << 20
"""Bytes of all files but the masks together, which are all held at once."""

_PART = r"[A-Za-z0-9_%][A-Za-z0-9_.+=%-]{0,239}"
_MEMBER = re.compile(
    rf"(manifest\.json|card\.yaml|runs/{_PART}/{_PART}/{_PART}/"
    rf"(result\.json|cases\.csv|history\.csv|predictions/{_PART}\.nii\.gz|"
    rf"tracks/{_PART}/(track\.json|cases\.csv|predictions/{_PART}/{_PART}\.nii\.gz)))"
)
_LONGEST_REASON = 800
_AGAIN = "make it anew with usbench submit"
_END = "<4s4H2LH"  # the end record of a zip archive, PKWARE APPNOTE 4.3.16
_TIME = (1980, 1, 1, 0, 0, 0)


def member_name(name: str) -> str:
    """The name that a file of a run has in a submission.

    Args:
        name: of the file, its folders divided by "/"; names of tasks, methods and cases may be any text.

    Returns:
        The same name with every character besides letters, digits and `. _ - + =` written as the `%XX` of
        its UTF-8 bytes, as in addresses of the web (RFC 3986); so is a `. - + =` at the beginning.
    """
    return "/".join(map(_quoted, name.split("/")))


def _quoted(part: str) -> str:
    text = quote(part, safe="+=").replace("~", "%7E")
    return f"%{ord(text[0]):02X}{text[1:]}" if text[:1] in (".", "-", "+", "=") and text else text


def name_of_member(member: str) -> str:
    """The name of a file of a run, from its name in a submission: the way back from `member_name`."""
    return unquote(member, errors="strict")


def is_member_name(name: str) -> bool:
    """Whether a submission may hold a file of this name: one that `member_name` gives."""
    if _MEMBER.fullmatch(name) is None or len(name) > 999:
        return False
    try:
        plain = name_of_member(name)
    except UnicodeDecodeError:
        return False
    return member_name(plain) == name and not {".", ".."} & set(plain.split("/"))


def largest(name: str) -> int:
    """How many bytes a file of this name may have; `name` is one that `is_member_name` accepts."""
    return next(size for end, size in _LARGEST.items() if name.endswith(end))


def set_problem(sizes: Mapping[str, int]) -> str:
    """Why some files cannot be one submission: too many, too large, or names that clash.

    Args:
        sizes: Bytes of each file, by its name in the archive.

    Returns:
        The end of a sentence about the archive; "" where nothing is wrong.
    """
    text = sum(size for name, size in sizes.items() if not name.endswith(".nii.gz"))
    if len(sizes) >= MAX_MEMBERS:
        return f"has {len(sizes):,} files, at most {MAX_MEMBERS:,} are read"
    if text > LARGEST_TEXT:
        return f"has {text:,} bytes of text, at most {LARGEST_TEXT:,} are read"
    if (total := sum(sizes.values())) > MAX_BYTES - _MAX_DIRECTORY:
        return f"has {total:,} bytes, at most {MAX_BYTES - _MAX_DIRECTORY:,} are read"
    seen: dict[str, str] = {}
    for name in sizes:
        # Names that differ in case alone are one file on some systems.
        if (other := seen.setdefault(name.lower(), name)) != name:
            return f"has {other} and {name}, whose names differ in case alone"
    return ""


def write_archive(path: Path, members: Mapping[str, bytes]) -> None:
    """Write files and their manifest to a zip, atomically; equal files make equal bytes.

    Args:
        path: The zip.
        members: Content by name outside the archive (`member_name` gives those inside), without the manifest.

    Raises:
        UsbenchError: Where the zip cannot be written.
    """
    members = {member_name(name): content for name, content in members.items()}
    files = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(members.items())
    }
    manifest = {"schema": MANIFEST_VERSION, "usbench": __version__, "files": files}
    text = json.dumps(manifest, indent=1, allow_nan=False) + "\n"
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, content in ((MANIFEST, text.encode()), *sorted(members.items())):
            info = zipfile.ZipInfo(name, _TIME)
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)


class Archive:
    """An open submission of which every name, size and digest has been checked; `read` gives a member.

    Args:
        path: Of the archive, for messages.
        sha256: Of the whole archive, hex.
        archive: The open zip.

    Raises:
        UsbenchError: Where the manifest is absent or does not fit the members.
    """

    def __init__(self, path: Path, sha256: str, archive: zipfile.ZipFile) -> None:
        self.path = path
        self.sha256 = sha256
        self._archive = archive
        self._members = {info.filename: info for info in archive.infolist()}
        self._digests = self._check_manifest()

    @property
    def names(self) -> tuple[str, ...]:
        """The files but the manifest, sorted, by their names outside the archive."""
        return tuple(sorted(map(name_of_member, self._digests)))

    def digest(self, name: str) -> str:
        """The SHA-256 (hex) of a file, as the manifest has it and its content was found to have."""
        return self._digests[member_name(name)]

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            UsbenchError: Where it cannot be read or is not as it was when the archive was opened.
        """
        content = self._content(member_name(name))
        if hashlib.sha256(content).hexdigest() != self.digest(name):
            raise refused(self.path, f"{name} is not what the manifest says (SHA-256)")
        return content

    def _content(self, name: str) -> bytes:
        info = self._members[name]
        try:
            with self._archive.open(info) as stream:
                content = stream.read(info.file_size)
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as e:
            raise refused(self.path, f"{name} cannot be read ({e})") from e
        if len(content) != info.file_size:
            raise refused(self.path, f"{name} is cut off")
        return content

    def _check_manifest(self) -> dict[str, str]:
        for name in (MANIFEST, CARD):
            if name not in self._members:
                raise refused(self.path, f"holds no {name}")
        manifest = read_json(self._content(MANIFEST), self.path, MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("schema") != MANIFEST_VERSION:
            found = manifest.get("schema") if isinstance(manifest, dict) else None
            raise refused(
                self.path,
                f"{MANIFEST} has schema version {shown(found)}, this usbench reads {MANIFEST_VERSION}",
            )
        files = manifest.get("files")
        if set(manifest) != set(MANIFEST_SCHEMA) or not isinstance(files, dict):
            raise refused(self.path, f"{MANIFEST} does not have the keys {', '.join(MANIFEST_SCHEMA)}")
        there = set(self._members) - {MANIFEST}
        if more := sorted(there - set(files)):
            raise refused(self.path, f"{more[0]} is not in the manifest")
        if lost := sorted(set(files) - there):
            raise refused(self.path, f"{shown(lost[0])} is in the manifest and not in the archive")
        digests = {}
        for name, said in sorted(files.items()):
            found = hashlib.sha256(self._content(name)).hexdigest()
            if said != {"bytes": self._members[name].file_size, "sha256": found}:
                raise refused(self.path, f"{name} is not what the manifest says (SHA-256 or size)")
            digests[name] = found
        return digests


@contextmanager
def opened(path: str | Path) -> Iterator[Archive]:
    """Open a submission and check its container, its manifest and the digest of every member.

    Nothing is extracted.

    Args:
        path: The archive.

    Yields:
        The archive, which is closed in the end.

    Raises:
        UsbenchError: One line that names the archive and what is wrong: a file that is cut off or no zip;
            encryption, compression, links, folders, executable files, names that repeat or that a submission
            does not have; more or larger files than it may have; bytes that belong to no member; a manifest
            that does not fit.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise refused(path, "is no file", "name the .zip of a submission")
    try:
        yield from _opened(path)
    except UsbenchError as error:
        # A line, not a page of what a submission says of itself.
        if len(str(error)) <= _LONGEST_REASON:
            raise
        raise UsbenchError(f"{str(error)[:_LONGEST_REASON]}...") from error


def _opened(path: Path) -> Iterator[Archive]:
    with os_errors(path, "read the submission"):
        stream = open_regular(path)
    with stream:
        size = stream.seek(0, 2)
        _check_end(path, stream, size)
        stream.seek(0)
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        try:
            archive = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError) as error:
            raise refused(path, f"is cut off or no zip archive ({error})") from error
        with archive:
            _check_members(path, archive)
            yield Archive(path, sha256, archive)


def refused(path: Path, why: str, remedy: str = _AGAIN) -> UsbenchError:
    """The error for a submission that is not accepted.

    Args:
        path: The archive.
        why: What is wrong, as the end of a sentence about the archive.
        remedy: What to do about it.
    """
    return UsbenchError(f"{path}: {why}; {remedy}")


def shown(value: Any) -> str:
    """A value from a submission, short and in plain characters, for a message."""
    text = ascii(value)
    return text if len(text) <= 120 else text[:117] + "..."


def read_json(content: bytes, path: Path, name: str) -> Any:
    """JSON of a member of a submission.

    Args:
        content: The member's bytes.
        path: The archive, for messages.
        name: The member, for messages.

    Raises:
        UsbenchError: Where it is not JSON in UTF-8, or holds NaN or infinity, which usbench never writes.
    """

    try:
        return parse_json(content.decode("utf-8"))
    except ValueError as error:
        raise refused(path, f"{name} is not valid JSON ({shown(str(error))})") from error


def _check_end(path: Path, stream: IO[bytes], size: int) -> None:
    """Check the end of the archive, before anything reads as much as it promises."""
    length = struct.calcsize(_END)
    if size < length:
        raise refused(path, "is an empty file" if not size else "is cut off or no zip archive")
    if size > MAX_BYTES:
        raise refused(path, f"has {size:,} bytes, at most {MAX_BYTES:,} are read", "submit fewer runs")
    stream.seek(max(0, size - length - 20))
    tail = stream.read()
    mark, *_, entries, directory, start, _ = struct.unpack(_END, tail[-length:])
    if mark != b"PK\x05\x06":
        raise refused(path, "is cut off or no zip archive (no end record)")
    if tail.startswith(b"PK\x06\x07"):
        raise refused(path, "is a zip64 archive")
    if not entries:
        raise refused(path, "is an empty archive")
    if entries > MAX_MEMBERS or directory > _MAX_DIRECTORY:
        raise refused(path, f"has {entries:,} files, at most {MAX_MEMBERS:,} are read", "submit fewer runs")
    if start + directory + length != size:
        raise refused(path, "is cut off, or has bytes that belong to no file")


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    infos = archive.infolist()
    for info in infos:
        if why := _wrong_name(info.orig_filename) or _wrong_kind(info):
            raise refused(path, f"member {shown(info.orig_filename)} {why}")
    if repeated := [name for name, count in Counter(info.filename for info in infos).items() if count > 1]:
        raise refused(path, f"member {repeated[0]} is there twice")
    if why := set_problem({info.filename: info.file_size for info in infos}):
        raise refused(path, why, "submit fewer runs")
    place = 0
    for info in sorted(infos, key=lambda one: one.header_offset):
        if info.header_offset != place:
            raise refused(path, f"bytes before {info.filename} belong to no file, or to two")
        place += 30 + len(info.filename) + info.file_size
    if place != archive.start_dir:
        raise refused(path, "bytes after the last file belong to none")


def _wrong_name(name: str) -> str:
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "has an absolute path"
    if ".." in re.split(r"[/\\]", name):
        return "leads out of the archive"
    if name.endswith("/"):
        return "is a folder"
    return "" if is_member_name(name) else "is no file of a submission"


def _wrong_kind(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "is a symbolic link"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "is no plain file"
    if mode & 0o111:
        return "is executable"
    if info.flag_bits & 0x2041:
        return "is encrypted"
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        packed, size = info.compress_size, info.file_size
        return f"is compressed, {size:,} bytes in {packed:,}: a submission stores its files as they are"
    if info.extra or info.comment:
        return "has extra fields or a comment"
    if info.file_size > largest(info.filename):
        return f"has {info.file_size:,} bytes, at most {largest(info.filename):,} are read"
    return ""
