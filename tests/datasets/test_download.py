"""Downloads from a server on this machine: resumed, verified, and unpacked without escaping."""

from __future__ import annotations

import dataclasses
import io
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.serving import CONTENT, TASK, Server, damaged, tar, zipped

import usbench.datasets.download as module
from usbench.datasets.download import download
from usbench.errors import UsbenchError


def unpacked(target: Path) -> dict[str, bytes]:
    return {str(p.relative_to(target)): p.read_bytes() for p in target.rglob("*") if p.is_file()}


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.mark.parametrize("prefix", ["", "outer/"])
@pytest.mark.parametrize("pack", [tar, zipped])
def test_download_unpacks_the_folder_of_the_task(server, tmp_path, pack, prefix):
    more = {"__MACOSX/Task05_Prostate/._x": b"junk", "other/readme": b"unused"}
    content = {prefix + name: data for name, data in CONTENT.items()}
    folder = download(server.task(pack({**content, **more}), f"set.{pack.__name__[:3]}"), tmp_path / "data")
    assert folder == tmp_path / "data/Task05_Prostate"
    assert unpacked(tmp_path / "data") == CONTENT  # and neither the archive nor anything half done
    asked = len(server.asked)
    assert download(server.task(b""), tmp_path / "data") == folder  # there already
    assert len(server.asked) == asked


def test_gzipped_tar_and_unknown_size(server, tmp_path):
    import gzip

    task = server.task(gzip.compress(tar(CONTENT)), "set.tar.gz", bytes=None, sha256=None)
    download(task, tmp_path)
    assert unpacked(tmp_path) == CONTENT


def test_mirror_is_verified_like_the_original(server, tmp_path):
    task = server.task(tar(CONTENT), url="http://127.0.0.1:9/never/asked.tar")
    port = server.http.server_port
    download(task, tmp_path, url=f"http://127.0.0.1:{port}/mirror.tar?x=1")
    assert unpacked(tmp_path) == CONTENT
    with pytest.raises(UsbenchError, match="not the http or https address"):
        download(task, tmp_path / "b", url="file:///etc/passwd")
    server.content += b"0"
    with pytest.raises(UsbenchError, match=r"the server offers [0-9]+ bytes, the data set has"):
        download(task, tmp_path / "b", url=f"http://127.0.0.1:{port}/mirror.tar")


def test_interrupted_download_is_kept_and_continued(server, tmp_path):
    task = server.task(tar(CONTENT))
    server.cut = 100_000
    with pytest.raises(
        UsbenchError, match=r"stopped at 100000 bytes .*set\.tar\.part; to go on: usbench data download"
    ):
        download(task, tmp_path)
    assert (tmp_path / "set.tar.part").read_bytes() == server.content[:100_000]
    server.cut = None
    download(task, tmp_path)
    assert server.asked == [None, "bytes=100000-"]
    assert unpacked(tmp_path) == CONTENT


def test_ctrl_c_keeps_what_is_there(server, tmp_path, monkeypatch, capsys):
    task = server.task(tar(CONTENT))
    monkeypatch.setattr(module, "_CHUNK", 50_000)
    reads = []

    def interrupted(folder: Path, needed: int, doing: str) -> None:
        reads.append(needed)

    monkeypatch.setattr(module, "_need_space", interrupted)
    real_bar = module._bytes_bar

    import contextlib

    @contextlib.contextmanager
    def bar(*args):
        with real_bar(*args) as advance:

            def step(count: int) -> None:
                advance(count)
                raise KeyboardInterrupt

            yield step

    monkeypatch.setattr(module, "_bytes_bar", bar)
    with pytest.raises(KeyboardInterrupt):
        download(task, tmp_path)
    assert "stopped at 50000 bytes" in capsys.readouterr().err
    assert (tmp_path / "set.tar.part").stat().st_size == 50_000
    assert reads == [2 * len(server.content)]
    monkeypatch.undo()
    download(task, tmp_path)
    assert server.asked == [None, "bytes=50000-"]
    assert unpacked(tmp_path) == CONTENT


def test_server_that_ignores_ranges_starts_again(server, tmp_path):
    task = server.task(tar(CONTENT))
    server.ranges = False
    (tmp_path / "set.tar.part").write_bytes(b"x" * 1000)
    download(task, tmp_path)
    assert unpacked(tmp_path) == CONTENT


@pytest.mark.parametrize("extra", [0, 10])
def test_part_that_is_whole_or_too_long(server, tmp_path, extra):
    task = server.task(tar(CONTENT))
    (tmp_path / "set.tar.part").write_bytes(server.content + b"x" * extra)
    download(task, tmp_path)
    assert server.asked[1:] == ([None] if extra else [])
    assert unpacked(tmp_path) == CONTENT


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"md5": "0" * 32}, "its MD5 is .*expected 000"),
        ({"sha256": "f" * 64}, "its SHA256 is .*expected fff"),
    ],
)
def test_wrong_checksum_removes_the_file_and_says_so(server, tmp_path, wrong, message):
    task = server.task(tar(CONTENT), **wrong)
    with pytest.raises(
        UsbenchError, match=rf"set\.tar\.part: {message}.*it was removed, download again: usbench"
    ):
        download(task, tmp_path)
    assert unpacked(tmp_path) == {}


def test_damaged_resume_is_noticed(server, tmp_path):
    task = server.task(tar(CONTENT))
    (tmp_path / "set.tar.part").write_bytes(b"x" * 5000)
    with pytest.raises(UsbenchError, match="its MD5 is"):
        download(task, tmp_path)
    download(task, tmp_path)
    assert unpacked(tmp_path) == CONTENT


def test_archive_fetched_by_hand_is_used_and_kept(server, tmp_path):
    task = server.task(tar(CONTENT))
    (tmp_path / "set.tar").write_bytes(b"something else")
    with pytest.raises(UsbenchError, match=r"set\.tar: 14 bytes, expected [0-9]+"):
        download(task, tmp_path)
    (tmp_path / "set.tar").write_bytes(server.content)
    download(task, tmp_path)
    assert server.asked == []
    assert unpacked(tmp_path) == {**CONTENT, "set.tar": server.content}


def test_server_errors_are_named(server, tmp_path):
    task = server.task(tar(CONTENT))
    server.status = 503
    with pytest.raises(UsbenchError, match=r"/files/set\.tar: the server answered 503 .*--url"):
        download(task, tmp_path)
    with pytest.raises(UsbenchError, match=r"stopped at 0 bytes .*refused"):
        download(task, tmp_path, url="http://127.0.0.1:1/set.tar")


def test_disk_space_is_checked_first(server, tmp_path, monkeypatch):
    import shutil

    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(
        UsbenchError, match=r"are needed to download and unpack, 0\.00 GB are free; free some space"
    ):
        download(server.task(tar(CONTENT)), tmp_path)
    assert not unpacked(tmp_path)


def test_bomb_is_refused_before_it_is_unpacked(server, tmp_path, monkeypatch):
    import shutil

    content = zipped({**CONTENT, "Task05_Prostate/zeros": bytes(30_000_000)})
    free = shutil.disk_usage(tmp_path)._replace(free=10_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(UsbenchError, match=r"0\.03 GB are needed to unpack set\.zip"):
        download(server.task(content, "set.zip"), tmp_path)
    assert not (tmp_path / "Task05_Prostate").exists()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_link() -> bytes:
    stream = io.BytesIO(zipped(CONTENT))
    with zipfile.ZipFile(stream, "a") as archive:
        info = zipfile.ZipInfo("Task05_Prostate/link")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return stream.getvalue()


ESCAPING = {
    "tar parent": (
        tar({**CONTENT, "Task05_Prostate/../../x": b""}),
        "'Task05_Prostate/../../x' is a path out",
    ),
    "tar absolute": (tar({**CONTENT, "/tmp/x": b""}), "'/tmp/x' is an absolute path"),
    "tar symlink": (
        tar(CONTENT, link("Task05_Prostate/s", "/etc")),
        "'Task05_Prostate/s' is a link or a device",
    ),
    "tar hard link": (tar(CONTENT, link("h", "../../x", tarfile.LNKTYPE)), "'h' is a link or a device"),
    "tar device": (tar(CONTENT, link("d", "", tarfile.CHRTYPE)), "'d' is a link or a device"),
    "zip parent": (zipped({**CONTENT, "../x": b""}), "'../x' is a path out of the folder"),
    "zip absolute": (zipped({**CONTENT, "/tmp/x": b""}), "'/tmp/x' is an absolute path"),
    "zip drive": (zipped({**CONTENT, "C:/x": b""}), "'C:/x' is an absolute path"),
    "zip backslash": (zipped({**CONTENT, "a\\..\\..\\x": b""}), "is a path out of the folder"),
    "zip symlink": (zip_link(), "'Task05_Prostate/link' is a link or a device"),
}


@pytest.mark.parametrize("name", ESCAPING)
def test_escaping_archive_is_refused_whole(server, tmp_path, name):
    content, message = ESCAPING[name]
    with pytest.raises(UsbenchError, match=re.escape(message) + ".*nothing was unpacked"):
        download(server.task(content), tmp_path / "data")
    assert set(unpacked(tmp_path)) == {"data/set.tar"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"neither", r"neither a zip nor a tar archive"),
        (tar({"elsewhere/x": b""}), r"holds no folder Task05_Prostate"),
        (damaged(zipped(CONTENT)), r"broken archive \(.*"),
    ],
)
def test_archive_of_something_else_or_broken(server, tmp_path, content, message):
    with pytest.raises(UsbenchError, match=rf"set\.tar: {message}"):
        download(server.task(content), tmp_path)
    assert not (tmp_path / "Task05_Prostate").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["set.tar"]


def test_task_without_a_download(tmp_path):
    with pytest.raises(UsbenchError, match="has no download"):
        download(dataclasses.replace(TASK, download=None), tmp_path)
