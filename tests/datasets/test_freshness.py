"""When a prepared case is used again: only if all that it was made from is what it was."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from kit.tiny_set import SETTINGS, write_case, write_index, write_set

import usbench.datasets.freshness as freshness
import usbench.datasets.notes as notes
import usbench.datasets.store as store_module
import usbench.plugins.code_sense as code_sense
from usbench.contracts.data import Case, Layout, Reader, Structure
from usbench.datasets.older import older_notice, older_stores
from usbench.datasets.readers.msd import MsdReader
from usbench.datasets.store import Store, prepare
from usbench.datasets.tasks import get_task, task_from_folder
from usbench.errors import UsbenchError

Make = Callable[..., Store]

FINGERPRINT = "f336a214ee9c62521ab375c30949e2679dafec6aebf42b43f8b3ad295d6993c8"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The tiny set, unpacked, so that another content can have the same size."""
    folder = write_set(tmp_path / "tiny")
    for file in [*folder.glob("*Tr/*.nii.gz")]:
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    index = folder / "dataset.json"
    index.write_text(index.read_text().replace(".nii.gz", ".nii"))
    return folder


@pytest.fixture
def make(data: Path, tmp_path: Path) -> Make:
    def run(**options: Any) -> Store:
        return prepare(task_from_folder(data), data, SETTINGS, 1, tmp_path / "cache", **options)

    return run


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are read to compare their digests; a tiny set counts as old enough."""
    names: list[str] = []
    real = notes.sha256_file

    def counting(file: Path) -> str:
        names.append(file.name)
        return real(file)

    for module in (notes, freshness):
        monkeypatch.setattr(module, "sha256_file", counting)
    monkeypatch.setattr(notes, "_SETTLED_NS", -(10**12))
    return names


def written(store: Store) -> dict[str, tuple[int, int]]:
    """By case, inode and time of its notes, which are written when it is prepared and never again."""
    states = {c: (store.path / "cases" / c / "meta.json").stat() for c in store.case_ids}
    return {case_id: (state.st_ino, state.st_mtime_ns) for case_id, state in states.items()}


def other_mask(file: Path) -> bytes:
    """The file of a mask with another content, of the same size."""
    content = bytearray(file.read_bytes())
    assert 1 in content[352:]
    content[352 + content[352:].index(1)] = 2
    return bytes(content)


def in_place(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def replaced(file: Path, content: bytes) -> None:
    new = file.with_name("new")
    new.write_bytes(content)
    os.replace(new, file)


@pytest.mark.parametrize("put", [in_place, replaced])
def test_other_content_of_the_same_size_and_time_is_seen(
    make: Make, data: Path, hashed: list[str], put: Callable[[Path, bytes], None]
) -> None:
    before = make()
    file = data / "labelsTr" / "a2.nii"
    state = file.stat()
    put(file, other_mask(file))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (state.st_size, state.st_mtime_ns)
    after = make()
    assert after.fingerprint != before.fingerprint
    old, new = written(before), written(after)
    assert {c for c in old if old[c] != new[c]} <= {"a2"}
    np.testing.assert_array_equal(after.case("a2").truth(), np.asarray(nib.load(file).dataobj))


@pytest.mark.parametrize("how", ["touched", "copied", "moved away and back", "linked"])
def test_the_same_content_is_read_once_and_kept(
    make: Make, data: Path, hashed: list[str], how: str, tmp_path: Path
) -> None:
    before = written(make())
    file = data / "imagesTr" / "a2.nii"
    if how == "touched":
        os.utime(file, ns=(1, 1))
    elif how == "copied":
        replaced(file, file.read_bytes())
    elif how == "moved away and back":
        shutil.copy(file, tmp_path / "away")
        file.unlink()
        shutil.copy(tmp_path / "away", file)
    else:
        os.link(file, tmp_path / "second")
    hashed.clear()
    assert written(make()) == before
    assert hashed == ["a2.nii", "a2.nii"]  # the image and the mask of the one case
    hashed.clear()
    assert written(make()) == before
    assert hashed == []


def test_with_nothing_to_do_nothing_is_read(make: Make, hashed: list[str]) -> None:
    store = make()
    hashed.clear()
    again = make()
    for case_id in again.case_ids:
        again.case(case_id)
    assert hashed == []
    assert written(again) == written(store)


def test_a_file_too_young_to_be_known_by_its_times_is_read_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A content that is written twice within one tick of the clock has the same signs."""
    monkeypatch.setattr(notes, "_SETTLED_NS", 10**12)  # However slow this machine is, they are young.
    make()
    read: list[Path] = []
    real = freshness._digest
    monkeypatch.setattr(freshness, "_digest", lambda file: read.append(file) or real(file))
    make()
    assert len(read) == 6
    monkeypatch.setattr(notes, "_SETTLED_NS", -(10**12))
    make()
    read.clear()
    make()
    assert read == []


def test_a_lost_or_damaged_note_of_signs_costs_a_reading_and_no_more(make: Make, hashed: list[str]) -> None:
    store = make()
    before = written(store)
    file = store.path / "cases" / "a1" / "signs.json"
    for content in ("", "[]", '{"of": "another case"}', file.read_text()[:-20]):
        file.write_text(content)
        hashed.clear()
        again = make()
        again.case("a1")
        assert written(again) == before
        assert sorted(hashed) == ["a1.nii", "a1.nii", "images.slices", "mask.slices", "truth.slices"]
    file.unlink()
    assert written(make()) == before


@pytest.mark.parametrize("verify", [False, True])
def test_verify_reads_everything_and_what_is_damaged_is_mended_without_it_too(
    make: Make, hashed: list[str], capfd: pytest.CaptureFixture[str], verify: bool
) -> None:
    store = make()
    before = written(store)
    hashed.clear()
    assert written(make(verify=True)) == before
    assert len(hashed) == 3 * 5
    file = store.path / "cases" / "a10" / "mask.slices"
    state, content = file.stat(), bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(bytes(content))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(UsbenchError, match=r"a10/mask.slices: prepared data changed underneath.*--verify"):
        store.case("a10")  # Of a store that was opened before.
    after = written(make(verify=verify))
    assert {c for c in before if before[c] != after[c]} == {"a10"}
    assert "mask.slices: not what was written; case a10 is prepared again" in capfd.readouterr().err
    assert make().case("a10").mask.any()


def test_damaged_notes_are_named_and_their_case_is_prepared_again(
    make: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    store = make()
    file = store.path / "cases" / "a10" / "meta.json"
    file.write_text(file.read_text().replace('"truth_voxels": ', '"truth_voxels": 1'))
    assert make().fingerprint == store.fingerprint
    assert "meta.json: not what was written; case a10 is prepared again" in capfd.readouterr().err


def describe(data: Path, **changes: Any) -> None:
    file = data / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_what_dataset_json_says_of_a_case_counts_and_other_words_do_not(make: Make, data: Path) -> None:
    first = make()
    one = np.asarray(first.case("a1").images)
    describe(data, modality={"0": "ADC", "1": "T2"})
    task = dataclasses.replace(task_from_folder(data), modalities=first.task.modalities)
    swapped = prepare(task, data, SETTINGS, 1, first.path.parent)
    assert swapped.path == first.path
    np.testing.assert_array_equal(np.asarray(swapped.case("a1").images), one[:, ::-1])
    describe(data, modality={"0": "T2", "1": "ADC"})
    kept = written(make())
    describe(data, description="other words", licence="CC BY", numTest=0)
    assert written(make()) == kept


def test_a_case_that_gets_another_file_by_the_index_is_prepared_anew(make: Make, data: Path) -> None:
    before = written(make())
    shutil.copy(data / "labelsTr" / "a1.nii", data / "labelsTr" / "a1_corrected.nii")
    index = data / "dataset.json"
    entries = json.loads(index.read_text())["training"]
    entries[0]["label"] = "./labelsTr/a1_corrected.nii"
    describe(data, training=entries)
    after = written(make())
    assert {c for c in before if before[c] != after[c]} == {"a1"}


def test_other_code_prepares_in_place_and_a_run_in_progress_is_told(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make()
    first.case("a1")
    before = written(first)
    monkeypatch.setattr(store_module, "preparation_code", lambda task: "of tomorrow")
    second = make()
    assert second.path == first.path
    assert second.fingerprint == first.fingerprint  # the raw content is the same
    assert not set(before.values()) & set(written(second).values())
    with pytest.raises(UsbenchError, match=r"a2/meta.json: prepared data changed underneath"):
        first.case("a2")
    assert make().case("a2").mask.any()


def test_the_code_of_the_reader_and_of_the_preparation_is_followed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    brain, chaos = get_task("msd-brain"), get_task("chaos")
    before = freshness.preparation_code(brain), freshness.preparation_code(chaos)
    assert before[0] != before[1]
    files = code_sense.consists_of(["usbench.datasets.readers.msd"], freshness._FOLLOWED)
    assert {"msd.py", "nifti.py", "masks.py", "voxel_grid.py", "names.py"} <= {file.name for file in files}
    assert "chaos.py" not in {file.name for file in files}
    real, name = code_sense.file_of, "usbench.datasets.preprocess"
    original, twin = real(name), tmp_path / "preprocess.py"
    assert original is not None
    monkeypatch.setattr(code_sense, "file_of", lambda module: twin if module == name else real(module))
    twin.write_text("# A comment.\n" + original.read_text().replace("The array steps", "Steps"))
    assert (freshness.preparation_code(brain), freshness.preparation_code(chaos)) == before
    twin.write_text(original.read_text().replace("CLIP = 5.0", "CLIP = 4.0"))
    assert freshness.preparation_code(brain) != before[0]
    assert freshness.preparation_code(chaos) != before[1]


class Two:
    """The least that a plugin's reader gives, with a recipe."""

    taken: Any = None

    def __init__(self, task: Any, root: Path) -> None:
        self.inner = MsdReader(dataclasses.replace(task, reader="msd"), root)

    def case_ids(self) -> list[str]:
        return self.inner.case_ids()

    def files(self, case_id: str) -> list[Path]:
        return self.inner.files(case_id)

    def read(self, case_id: str) -> Case:
        return self.inner.read(case_id)

    def recipe(self, case_id: str) -> Any:
        return self.taken


def test_a_plugins_recipe_counts(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout("two", "two scans", Two)
    task = dataclasses.replace(task_from_folder(data), reader=layout)

    def run() -> dict[str, tuple[int, int]]:
        return written(prepare(task, data, SETTINGS, 1, tmp_path / "cache"))

    stamps = [run()]
    for recipe in ({"channel": 0}, {"channel": 1}, {"channels": (1, 2)}):
        monkeypatch.setattr(Two, "taken", recipe)
        stamps.append(run())
        assert not set(stamps[-1].values()) & set(stamps[-2].values())
        assert run() == stamps[-1]
    for nonsense in ({"file": tmp_path}, float("nan"), {1, 2}):
        monkeypatch.setattr(Two, "taken", nonsense)
        with pytest.raises(UsbenchError, match=r"recipe of case a1 that JSON cannot hold.*dictionaries"):
            run()


def test_a_reader_without_a_recipe_has_none(data: Path) -> None:
    class Plain(Two):
        recipe = Reader.recipe  # type: ignore[assignment]

    from usbench.datasets.readers.own import OwnReader

    task = task_from_folder(data)
    assert OwnReader(task, data, Plain).recipe("a1") is None
    recipe = MsdReader(task.with_modalities(["adc"]), data).recipe("a1")
    assert recipe["channels"] == {"adc": 1}
    assert (recipe["image"], recipe["mask"]) == ("imagesTr/a1.nii", "labelsTr/a1.nii")
    other = dataclasses.replace(task, classes=(Structure("rim", "rim", labels=(2,)),))
    assert MsdReader(other, data).recipe("a1")["labels"] == {"rim": [2]}


def test_a_file_that_changes_while_it_is_read_is_named(
    make: Make, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MsdReader.examine

    def meanwhile(self: MsdReader, case_id: str, report: Any) -> Any:
        case = real(self, case_id, report)
        if case_id == "a2":
            in_place(data / "labelsTr" / "a2.nii", other_mask(data / "labelsTr" / "a2.nii"))
        return case

    monkeypatch.setattr(MsdReader, "examine", meanwhile)
    with pytest.raises(UsbenchError, match=r"a2.nii: the file was changed while it was being read; wait"):
        make()
    monkeypatch.undo()
    assert make().case("a2").mask.any()


def test_stores_of_another_version_are_left_alone_and_named(make: Make, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    old = cache / "tiny set-0123456789ab"
    (old / "cases" / "a1").mkdir(parents=True)
    (old / "cases" / "a1" / "images.npy").write_bytes(bytes(300_000_000 // 1000))
    (old / "index.json").write_text('{"version": 1, "task": "tiny"}')
    (cache / "broken").mkdir()
    (cache / "broken" / "index.json").write_text("{")
    store = make()
    assert store.path != old
    assert older_stores(cache) == [old]
    notice = older_notice(cache)
    assert "1 store of prepared data (0.0 GB)" in notice
    assert notice.endswith(f"rm -r '{old}'")
    assert (old / "cases" / "a1" / "images.npy").stat().st_size == 300_000
    shutil.rmtree(old)
    assert older_notice(cache) == ""


def test_the_fingerprint_knows_the_version_of_the_preparation(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make()
    # What usbench 0.2.0, which knew no versions, says of the same files.
    assert first.fingerprint == FINGERPRINT
    found = {first.fingerprint}
    for version in (2, 3):
        monkeypatch.setattr(store_module, "PREPARATION", version)
        again = make(overwrite=True)
        assert not set(again.contents.values()) & set(first.contents.values())
        found.add(again.fingerprint)
    assert len(found) == 3


def test_cases_that_come_and_go_leave_the_others(make: Make, data: Path) -> None:
    before = written(make())
    write_case(data, "b1", 9)
    for part in ("imagesTr", "labelsTr"):
        packed = data / part / "b1.nii.gz"
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    write_index(data, ["a1", "b1"])
    index = data / "dataset.json"
    index.write_text(index.read_text().replace(".nii.gz", ".nii"))
    store = make()
    assert store.case_ids == ("a1", "b1")
    assert written(store)["a1"] == before["a1"]
