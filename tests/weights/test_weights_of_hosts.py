"""Weights from a host: a file, a member of an archive, a repository; resumed and verified."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kit.fake_weights import CONTENT, SHA256, table, visible
from kit.serving import damaged, zipped

from usbench.errors import UsbenchError
from usbench.weights.store import (
    fetch_weight,
    weight_digest,
    weight_path,
)
from usbench.weights.table import HuggingFace, Url


def test_url_is_resumed_and_verified(server, folder, monkeypatch):
    server.content, server.cut = CONTENT, 50_000
    url = f"http://127.0.0.1:{server.http.server_port}/files/fake.pth?download=1"
    table(monkeypatch, Url(url, md5=hashlib.md5(CONTENT).hexdigest()))
    with pytest.raises(UsbenchError, match=r"stopped at 50000 bytes .*to go on: usbench weights fetch fake"):
        fetch_weight("fake")
    assert visible(folder) == {"fake.pth.part"}
    server.cut = None
    assert fetch_weight("fake").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=50000-"]
    assert visible(folder) == {"fake.pth"}


@pytest.mark.parametrize(
    ("facts", "md5", "message"),
    [
        ({"sha256": "0" * 64}, None, f"its SHA256 is {SHA256}, expected 000"),
        ({"sha256": None, "bytes": None}, "1" * 32, "its MD5 is [0-9a-f]{32}, expected 111"),
    ],
)
def test_url_with_another_content_is_refused(server, folder, monkeypatch, facts, md5, message):
    server.content = CONTENT
    table(monkeypatch, Url(f"http://127.0.0.1:{server.http.server_port}/fake.pth", md5=md5), **facts)
    with pytest.raises(
        UsbenchError, match=rf"fake\.pth\.part: {message}.*removed, fetch again: usbench weights"
    ):
        fetch_weight("fake")
    assert visible(folder) == set()


def test_url_of_another_size_and_server_errors(server, folder, monkeypatch):
    server.content = CONTENT + b"x"
    table(monkeypatch, Url(f"http://127.0.0.1:{server.http.server_port}/fake.pth"))
    with pytest.raises(UsbenchError, match="the server offers 128001 bytes, expected 128000"):
        fetch_weight("fake")
    server.status = 404
    with pytest.raises(
        UsbenchError, match=r"the server answered 404 .*; try later: usbench weights fetch fake"
    ):
        fetch_weight("fake")
    table(monkeypatch, Url("http://127.0.0.1:1/fake.pth"))
    with pytest.raises(
        UsbenchError, match=r"stopped at 0 bytes .*refused.*to go on: usbench weights fetch fake"
    ):
        fetch_weight("fake")
    assert visible(folder) == set()


@pytest.mark.parametrize("prefix", ["", "medclip/"])
def test_member_of_a_zip_is_resumed(server, folder, monkeypatch, prefix):
    member = {f"{prefix}pytorch_model.bin": os.urandom(90_000), "__MACOSX/pytorch_model.bin": b"junk"}
    server.content, server.cut = zipped(member), 40_000
    url = f"http://127.0.0.1:{server.http.server_port}/files/some.zip"
    table(monkeypatch, Url(url, "pytorch_model.bin"), file="fake.bin", bytes=None, sha256=None)
    with pytest.raises(UsbenchError, match="stopped at 40000 bytes"):
        fetch_weight("fake")
    server.cut = None
    path = fetch_weight("fake")
    assert server.asked == [None, "bytes=40000-"]
    assert path.read_bytes() == member[f"{prefix}pytorch_model.bin"]
    assert visible(folder) == {"fake.bin"}
    assert weight_digest("fake") == hashlib.sha256(path.read_bytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no zip", r"some\.zip\.part: broken archive .*remove it and fetch again: usbench weights fetch"),
        (damaged(zipped({"pytorch_model.bin": CONTENT})), r"some\.zip\.part: broken archive"),
        (zipped({"other": b""}), r"holds no members 'pytorch_model\.bin'"),
        (zipped({"a/pytorch_model.bin": b"1", "b/pytorch_model.bin": b"2"}), r"holds 2 members"),
        (zipped({"pytorch_model.bin": b"1", "../x": b"2"}), r"'\.\./x' is a path out of the folder"),
        (zipped({"pytorch_model.bin": b""}), r"pytorch_model\.bin of some\.zip\.part: is empty"),
    ],
)
def test_zip_that_is_broken_or_another(server, folder, monkeypatch, content, message):
    server.content = content
    url = f"http://127.0.0.1:{server.http.server_port}/some.zip"
    table(monkeypatch, Url(url, "pytorch_model.bin"), bytes=None, sha256=None)
    with pytest.raises(UsbenchError, match=message):
        fetch_weight("fake")
    assert visible(folder) == {"some.zip.part"}


def test_two_that_fetch_at_once_fetch_once(server, monkeypatch):
    server.content = CONTENT
    table(monkeypatch, Url(f"http://127.0.0.1:{server.http.server_port}/fake.pth"))
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(fetch_weight("fake"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() == CONTENT for path in paths] == [True] * 3
    assert server.asked == [None]


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_hugging_face_folder(folder, monkeypatch, kind):
    import huggingface_hub

    hub = {"config.json": b"{}", "tokenizer.model": b"t", "run.py": b"no", "README.md": b"no", "tf.h5": b"no"}
    hub |= {"m-1.bin": b"weights"} if kind == "bin" else {"m-1.bin": b"twice", "m-1.safetensors": b"weights"}
    asked = []

    def snapshot(
        repository: str, *, revision: str, local_dir: Path, allow_patterns: list[str], dry_run: bool = False
    ) -> Any:
        asked.append((repository, revision))
        wanted = [name for name in hub if any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns)]
        if dry_run:
            return [SimpleNamespace(filename=name, file_size=len(hub[name])) for name in wanted]
        for name, data in hub.items():
            if name in wanted:
                local_dir.mkdir(parents=True, exist_ok=True)
                (local_dir / name).write_bytes(data)
        (local_dir / ".cache/huggingface").mkdir(parents=True, exist_ok=True)
        return str(local_dir)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    source = HuggingFace("some/model", "abc")
    table(monkeypatch, source, file="fake", bytes=None, sha256=None, key="config.json")
    path = fetch_weight("fake")
    assert {p.name for p in path.rglob("*")} == {"config.json", "tokenizer.model", f"m-1.{kind}"}
    assert set(asked) == {("some/model", "abc")}
    assert visible(folder) == {f"fake/{name}" for name in ("config.json", "tokenizer.model", f"m-1.{kind}")}


def test_hugging_face_folder_that_is_too_large_is_not_fetched(folder, monkeypatch):
    import huggingface_hub

    def snapshot(repository: str, *, dry_run: bool = False, **options: Any) -> Any:
        assert dry_run
        return [SimpleNamespace(filename="m.safetensors", file_size=10**15)]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    table(monkeypatch, HuggingFace("some/model"), file="fake", bytes=None, sha256=None, key="config.json")
    with pytest.raises(UsbenchError, match=r"some/model: is 1000000000000000 bytes large, at most"):
        fetch_weight("fake")


def test_hugging_face_failure_keeps_what_came(folder, monkeypatch):
    import huggingface_hub

    def snapshot(repository: str, *, local_dir: Path, **options: Any) -> str:
        local_dir.mkdir(parents=True)
        (local_dir / "config.json").write_bytes(b"{}")
        raise ConnectionError("no route\nto the host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    table(monkeypatch, HuggingFace("some/model"), file="fake", bytes=None, sha256=None, key="config.json")
    with pytest.raises(UsbenchError) as caught:
        fetch_weight("fake")
    assert str(caught.value) == (
        "some/model: cannot be fetched from Hugging Face (ConnectionError: no route to the host); "
        "connect and repeat: usbench weights fetch fake"
    )
    assert visible(folder) == {"fake.part/config.json"}
    with pytest.raises(UsbenchError, match=r"'fake' are not in .*; get them: usbench weights fetch fake"):
        weight_path("fake")
