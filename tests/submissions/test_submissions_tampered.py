"""Tampered submissions: each is consistent but for one thing, and refused in one line that names it."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import stat
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.tampering import (
    EXAMPLE,
    Members,
    added,
    broken_mask,
    card,
    change_cases,
    change_mask,
    change_result,
    displaced,
    dropped,
    edited_result,
    folder_of_fold,
    from_another_fold,
    history,
    huge,
    image,
    lacking_a_fold,
    manifest,
    mask,
    not_finite,
    one_voxel,
    other_classes,
    put_together,
    raised,
    raised_everywhere,
    renamed,
    result,
    spaced,
    swapped,
    taken_apart,
    text_of_result,
    to_chaos,
    trained_on_test,
    twice,
    undefined,
)

from usbench.errors import UsbenchError
from usbench.submissions.verify import verify

SECONDS, BYTES = 10, 64 << 20
TRACE = "USBENCH_TEST_TRACE"


class Trap:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f'touch "${TRACE}"',)


@pytest.fixture(scope="module", autouse=True)
def ready(cache: Path) -> None:
    """The phantom is made, its masks are prepared and torch is imported before anything is timed."""
    found = verify(EXAMPLE)
    assert (found.runs, found.predictions, found.largest_difference) == (5, 10, 0.0)


@pytest.fixture
def refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | Members, str], None]:
    """Verify an archive; it must be refused with these words, in time and memory, leaving no trace."""
    work = tmp_path / "outer" / "work"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    monkeypatch.setenv(TRACE, str(tmp_path / "trace"))

    def check(made: Path | Members, words: str) -> None:
        path = made if isinstance(made, Path) else put_together(work / "entry.zip", made)
        before = tree(tmp_path)
        tracemalloc.start()
        start = time.perf_counter()
        try:
            with pytest.raises(UsbenchError) as caught:
                verify(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        seconds = time.perf_counter() - start
        message = str(caught.value)
        assert words in message
        assert path.name in message
        assert "\n" not in message
        assert len(message) < 1000
        assert seconds < SECONDS
        assert peak < BYTES
        assert tree(tmp_path) == before
        assert not (tmp_path / "trace").exists()

    return check


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns if path.is_file() else 0)
        for path in sorted(folder.rglob("*"))
    }


TAMPERED: dict[str, tuple[Callable[[Members], None], str]] = {
    "score raised": (raised, "dsc of case prostate_02, class prostate is claimed as"),
    "all scores of a case raised": (raised_everywhere, "case prostate_02, class prostate is claimed as"),
    "summary raised": (
        lambda m: change_result(m, lambda data: data["scores"].update(dsc=0.99)),
        "scores.dsc of result.json is not what its cases give",
    ),
    "NaN score": (undefined, "is claimed as undefined"),
    "NaN in JSON": (text_of_result(b'"epochs": 4', b'"epochs": NaN'), "NaN is not a number"),
    "infinity in JSON": (result(paper_style={"paper_dsc": 1e999}), "Infinity is not a number"),
    "endless number": (text_of_result(b'"cases": 10', b'"cases": 1' + b"0" * 5000), "not valid JSON"),
    "large number": (
        lambda members: change_result(
            members, lambda data: data["config"]["train"].update(lr=1e30), fold=None
        ),
        "number that is out of range",
    ),
    "large cost": (result(cost__parameters=10**39), "should be less than 9223372036854775808"),
    "longer number": (result(cost__parameters=10**40), "a whole number has 41 digits"),
    "endless folds": (result(split__folds=10**9), "folds 1000000000 is out of range"),
    "nested JSON": (text_of_result(b'"remarks": []', b'"remarks": ' + b"[" * 10**5), "not valid JSON"),
    "masks swapped": (swapped, "the mask of case prostate_02 has shape"),
    "mask emptied": (mask(lambda v, a, h: image(v * 0, a)), "case prostate_02, class prostate is claimed"),
    "mask improved by a voxel": (mask(one_voxel(1)), "is claimed as"),
    "mask exchanged": (broken_mask, "is not what the run wrote"),
    "case dropped": (dropped, "test cases are not those of fold 0"),
    "case twice": (twice, "rows that are not of its test fold"),
    "case of another fold": (from_another_fold, "test cases are not those of fold 0"),
    "fold dropped": (lacking_a_fold, "lacks fold 3 of 5"),
    "trained on the test fold": (
        lambda m: change_result(m, trained_on_test),
        "train cases are not those of fold 0",
    ),
    "other split": (result(split__digest="0" * 64), "digest or the rule of its split"),
    "limited": (result(data__limit=8), "--limit 8"),
    "spacing": (mask(spaced), "spacing"),
    "affine": (mask(displaced), "has another affine than its case"),
    "mirrored affine": (mask(lambda v, a, h: image(v, a @ np.diag([-1, 1, 1, 1]))), "another affine"),
    "affine not finite": (mask(not_finite), "not finite"),
    "label out of range": (mask(one_voxel(2)), "holds label 2, the task has 0..1"),
    "negative labels": (mask(lambda v, a, h: image(v.astype(np.int8) - 1, a)), "data type 256"),
    "probabilities": (mask(lambda v, a, h: image(v.astype(np.float32) / 2, a)), "data type 16"),
    "labels scaled": (mask(lambda v, a, h: image(v, a, scl_slope=2.0, scl_inter=0.0)), "scales its labels"),
    "shape": (mask(lambda v, a, h: image(v[1:], a)), "has shape"),
    "four dimensions": (mask(lambda v, a, h: image(v[..., None].repeat(2, 3), a)), "has shape"),
    "huge header": (mask(huge), "has shape 32767 x 32767 x 32767"),
    "gzip bomb": (
        mask(lambda v, a, h: gzip.compress(image(v, a).to_bytes() + bytes(10**8))),
        "holds more than its voxels",
    ),
    "mask cut off": (mask(lambda v, a, h: gzip.compress(image(v, a).to_bytes()[:-9])), "is cut off"),
    "bytes after the mask": (
        mask(lambda v, a, h: gzip.compress(image(v, a).to_bytes()) + b"#!/bin/sh\n"),
        "bytes after its end",
    ),
    "pickle for a mask": (mask(lambda v, a, h: pickle.dumps(Trap())), "no gzipped NIfTI"),
    "packed pickle for a mask": (mask(lambda v, a, h: gzip.compress(pickle.dumps(Trap()) * 20)), "NIfTI"),
    "pickle inside": (added("model.pkl", pickle.dumps(Trap())), "'model.pkl' is no file of a submission"),
    "weights inside": (added("runs/a/b/c/weights.pt", b"x"), "is no file of a submission"),
    "code inside": (added("setup.py", b"import os"), "'setup.py' is no file of a submission"),
    "mask of no run": (added("runs/a/b/c/predictions/x.nii.gz", b"x"), "holds no result.json"),
    "path that escapes": (added("../evil.nii.gz", b"x"), "leads out of the archive"),
    "deep path that escapes": (added("runs/a/b/../../../../evil.csv", b"x"), "leads out of the archive"),
    "backslashes": (added("runs\\..\\..\\evil.csv", b"x"), "leads out of the archive"),
    "absolute path": (added("/tmp/usbench-evil.csv", b"x"), "has an absolute path"),
    "folder": (added("runs/", b""), "is a folder"),
    "control characters": (added("a\x1b[2J.csv", b""), r"a\x1b[2J.csv"),
    "schema of a result": (result(schema=99), "has schema version 99"),
    "key that results lack": (result(payload="x"), "has the key 'payload'"),
    "key absent": (lambda m: change_result(m, lambda d: d.pop("cost"), rehash=False), "lacks 'cost'"),
    "value of another type": (result(task__classes=["a", {}]), "'task.classes.1' is {}, not text"),
    "result edited": (edited_result, "was edited after the run (its digest does not fit)"),
    "codes for a terminal": (result(**{"\x1b[2Jx": 1}), "has the key '\ufffd[2Jx'"),
    "endless word": (result(preset="x" * 10**6), "holds a text of more than 2000 characters"),
    "endless version": (result(schema="9" * 10**6), "has schema version 999"),
    "hash of other settings": (
        lambda m: change_result(m, lambda data: data["config"]["method"].update(depth=9), rehash=False),
        "its hash is not the digest of its settings",
    ),
    "other protocol": (
        lambda m: change_result(m, lambda data: data["config"]["train"].update(epochs=9), rehash=False),
        "its protocol is not the digest of its settings",
    ),
    "renamed, hash left": (
        lambda m: change_result(
            m, lambda d: (d["cell"].update(method="unet"), d["method"].update(name="unet")), rehash=False
        ),
        "its hash is not the digest of its settings",
    ),
    "renamed in the cell alone": (
        lambda m: change_result(m, lambda data: data["cell"].update(method="unet")),
        "its task is msd-prostate and its method unext-small",
    ),
    "renamed to another built-in method": (renamed("unet"), "the paper it names is not that method's"),
    "renamed to a new name": (renamed("better-net"), "'better-net' and comes from 'built in'"),
    "built-in name for a package": (renamed("unet", origin="package evil 1"), "a method built into usbench"),
    "two methods": (
        lambda m: change_result(
            m, lambda d: (d["cell"].update(method="unext"), d["method"].update(name="unext"))
        ),
        "has runs of 2 methods",
    ),
    "other modalities": (result(task__modalities=["adc", "t2"]), "its modalities are adc, t2"),
    "no such modality": (result(task__modalities=["t2", "flair"]), "unknown modality"),
    "other classes": (other_classes, "its classes are tumour"),
    "merged labels": (result(task__merge_labels="gland"), "its classes are prostate"),
    "another task": (lambda m: change_result(m, to_chaos, fold=None), "its classes are prostate"),
    "no such task": (
        lambda m: change_result(
            m, lambda d: (d["cell"].update(task="lung"), d["task"].update(name="lung")), fold=None
        ),
        "is on task 'lung', which is not built in; give the folder of its data or its task file",
    ),
    "phantoms called real": (result(data__kind="real"), "usbench data download msd-prostate"),
    "more cases": (result(data__cases=32), "its data has 32 cases"),
    "words in the history": (history(b"epoch,loss\n1,import os\n"), "no table of numbers"),
    "control characters in a name": (result(method__weights="x\u202ey"), "control characters"),
    "half a surrogate": (text_of_result(b'"remarks": []', b'"remarks": ["\\ud800"]'), "not valid JSON"),
    "object in the card": (
        card(b"notes:", b"notes: !!python/object/apply:os.system [touch x]\nx:"),
        "card.yaml: is not plain YAML",
    ),
    "alias in the card": (card(b"notes:", b"x: &a [1, 1]\ny: [*a, *a]\nnotes:"), "uses an alias"),
    "endless card": (card(b"notes:", b"notes: " + b"x" * (64 << 10) + b"\nx:"), "at most 16,384 are read"),
    "unknown key in the card": (card(b"notes:", b"note:"), "unknown key 'note', did you mean 'notes'?"),
    "card without authors": (
        card(b"authors:\n- The usbench authors\n", b""),
        "'authors' is missing",
    ),
    "card with a key twice": (card(b"authors:", b"paper:"), "the key 'paper' is there twice"),
    "escape in the card": (card(b"entry: ", b'entry: "\\e[2J"  # '), "'entry' has control characters"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_submission_is_refused(name: str, refuse: Callable[[Members, str], None]) -> None:
    change, words = TAMPERED[name]
    members = taken_apart()
    change(members)
    refuse(members, words)


def test_untouched_members_put_together_again_verify(tmp_path: Path) -> None:
    """So that what is refused above is refused for what was changed, not for how it was put together."""
    members = taken_apart()
    change_result(members, lambda data: None, fold=None)
    change_cases(members, lambda rows: None)
    change_mask(members, lambda labels, affine, header: image(labels, affine))
    assert verify(put_together(tmp_path / "same.zip", members)).predictions == 10


KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "symbolic link": ({"external_attr": (stat.S_IFLNK | 0o777) << 16}, "is a symbolic link"),
    "device": ({"external_attr": (stat.S_IFCHR | 0o644) << 16}, "is no plain file"),
    "executable": ({"external_attr": (stat.S_IFREG | 0o755) << 16}, "is executable"),
    "compressed": ({"compress_type": zipfile.ZIP_DEFLATED}, "is compressed"),
    "extra field": ({"extra": b"\x01\x00\x04\x00abcd"}, "has extra fields or a comment"),
    "comment": ({"comment": b"hidden"}, "has extra fields or a comment"),
}


@pytest.mark.parametrize("name", KINDS)
def test_members_of_another_kind_are_refused(name: str, refuse: Any, tmp_path: Path) -> None:
    attributes, words = KINDS[name]
    members = taken_apart()
    target = f"{folder_of_fold(members)}/cases.csv"
    made = put_together(
        tmp_path / "kind.zip", members, kind=lambda member: attributes if member == target else {}
    )
    refuse(made, words)


def test_zip_bombs_are_refused(refuse: Any, tmp_path: Path) -> None:
    members = taken_apart()
    folder = folder_of_fold(members)
    members[f"{folder}/history.csv"] = bytes(10**8)
    bomb = put_together(
        tmp_path / "bomb.zip", members, kind=lambda name: {"compress_type": zipfile.ZIP_DEFLATED}
    )
    assert bomb.stat().st_size < 1_000_000
    refuse(bomb, "is compressed")
    members[f"{folder}/history.csv"] = bytes(3 << 20)
    refuse(members, "at most 2,097,152 are read")
    for fold in range(36):
        members[f"runs/a/b/{fold}/result.json"] = bytes(2 << 20)
    del members[f"{folder}/history.csv"]
    refuse(members, "bytes of text, at most 67,108,864 are read")


def test_members_that_share_their_bytes_are_refused(refuse: Any, tmp_path: Path) -> None:
    """A bomb without compression: many names in the directory, one file behind them."""
    members = {"card.yaml": b"x", "runs/a/b/c/result.json": bytes(1 << 20)}
    raw = put_together(tmp_path / "plain.zip", members).read_bytes()
    start = struct.unpack("<L", raw[-6:-2])[0]
    entry = raw[raw.rindex(b"PK\x01\x02") : -22]
    clones = b"".join(entry.replace(b"runs/a/b/c", b"runs/a/b/%1d" % n) for n in range(9))
    directory = raw[start:-22] + clones
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 12, 12, len(directory), start, 0)
    overlapping = tmp_path / "overlapping.zip"
    overlapping.write_bytes(raw[:start] + directory + end)
    assert len(zipfile.ZipFile(overlapping).namelist()) == 12
    refuse(overlapping, "belong to no file, or to two")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: b"", "is an empty file"),
        (lambda raw: b"PK\x05\x06" + bytes(18), "is an empty archive"),
        (lambda raw: raw[: len(raw) // 2], "is cut off or no zip archive"),
        (lambda raw: raw[:-1], "is cut off or no zip archive"),
        (lambda raw: b"#!/bin/sh\ntouch $USBENCH_TEST_TRACE\n" + raw, "is cut off, or has bytes"),
        (lambda raw: raw + b"more", "is cut off or no zip archive"),
        (lambda raw: b"not a zip" * 99, "is cut off or no zip archive"),
        (lambda raw: raw[:-12] + b"\xff" * 4 + raw[-8:], "files, at most"),
        (lambda raw: raw.replace(b'"schema": 1', b'"schema": 2', 1), "cannot be read"),
        (lambda raw: raw[:-30] + bytes(8) + raw[-22:], "PK"),
    ],
    ids=[
        "empty", "empty archive", "truncated", "byte lost", "program before", "bytes after", "text",
        "endless directory", "bit changed", "directory broken",
    ],
)  # fmt: skip
def test_broken_archives_are_refused(change: Any, words: str, refuse: Any, tmp_path: Path) -> None:
    path = tmp_path / "broken.zip"
    path.write_bytes(change(EXAMPLE.read_bytes()))
    if words == "PK":  # What zipfile says of it differs between versions; it must be refused.
        words = "broken.zip"
    refuse(path, words)


def test_encrypted_and_repeated_members_are_refused(refuse: Any, tmp_path: Path) -> None:
    raw = bytearray(EXAMPLE.read_bytes())
    entry = raw.index(b"PK\x01\x02")
    raw[entry + 8] |= 1
    path = tmp_path / "encrypted.zip"
    path.write_bytes(raw)
    refuse(path, "is encrypted")

    members = taken_apart()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in (("manifest.json", manifest(members)), *members.items()):
            archive.writestr(zipfile.ZipInfo(name), content)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(zipfile.ZipInfo("card.yaml"), b"entry: another")
    path.write_bytes(buffer.getvalue())
    refuse(path, "card.yaml is there twice")


def test_manifests_that_do_not_fit_are_refused(refuse: Any, tmp_path: Path) -> None:
    members = taken_apart()
    some = next(iter(members))
    wrong = {**members, some: members[some] + b" "}
    refuse(put_together(tmp_path / "1.zip", members, manifest(wrong)), "is not what the manifest says")
    less = {name: content for name, content in members.items() if "history" not in name}
    refuse(put_together(tmp_path / "2.zip", members, manifest(less)), "is not in the manifest")
    refuse(put_together(tmp_path / "3.zip", less, manifest(members)), "is in the manifest and not in")
    refuse(put_together(tmp_path / "4.zip", members, manifest(members, schema=9)), "has schema version 9")
    refuse(put_together(tmp_path / "5.zip", members, b"{"), "manifest.json is not valid JSON")
    refuse({"card.yaml": members["card.yaml"]}, "holds no run")
    del members["card.yaml"]
    refuse(members, "holds no card.yaml")


def test_nothing_of_a_submission_is_executed_or_imported(command: Any, tmp_path: Path) -> None:
    """Traps under the names of modules lie in the working folder's archive; the command leaves no trace."""
    work = tmp_path / "work"
    work.mkdir()
    members = taken_apart()
    members["sitecustomize.py"] = f'import os\nopen(os.environ["{TRACE}"], "w")\n'.encode()
    members["numpy.py"] = members["sitecustomize.py"]
    members["data.pkl"] = pickle.dumps(Trap())
    made = put_together(work / "trap.zip", members)
    trace = tmp_path / "trace"
    done = command("verify", made, **{TRACE: str(trace)})
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "'sitecustomize.py' is no file of a submission" in done.stderr
    assert "Traceback" not in done.stderr
    assert not trace.exists()
    assert [path.name for path in work.iterdir()] == ["trap.zip"]
