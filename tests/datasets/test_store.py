"""The prepared store: what is in it, what is reused, and what happens when something goes wrong."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from kit.tiny_set import OBLIQUE, SETTINGS, write_case, write_index, write_set

import usbench.datasets.store as store_module
from usbench.contracts.data import Task
from usbench.contracts.settings import DataSettings
from usbench.datasets.store import Store, prepare
from usbench.datasets.tasks import task_from_folder
from usbench.errors import UsbenchError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_set(tmp_path / "tiny")


@pytest.fixture
def make(data: Path, tmp_path: Path) -> Callable[..., Store]:
    def run(settings: DataSettings = SETTINGS, workers: int = 1, **options: object) -> Store:
        return prepare(task_from_folder(data), data, settings, workers, tmp_path / "cache", **options)  # type: ignore[arg-type]

    return run


def stamps(store: Store) -> dict[str, int]:
    return {c: (store.path / "cases" / c / "meta.json").stat().st_ino for c in store.case_ids}


def test_what_a_prepared_case_holds(make: Callable[..., Store], data: Path) -> None:
    store = make()
    assert store.case_ids == ("a1", "a2", "a10")
    case = store.case("a2")
    assert (case.images.dtype, case.images.shape) == (np.float16, (3, 2, 16, 16))
    assert (case.mask.dtype, case.mask.shape) == (np.uint8, (3, 16, 16))
    for array in (case.images, case.mask):
        with pytest.raises(TypeError, match="item assignment"):
            array[0] = 0  # type: ignore[index]
    raw = nib.load(data / "labelsTr" / "a2.nii.gz")
    np.testing.assert_array_equal(case.truth(), np.asarray(raw.dataobj))
    np.testing.assert_allclose(case.affine, OBLIQUE, atol=1e-6)
    np.testing.assert_allclose(case.spacing, raw.header.get_zooms(), rtol=1e-5)
    np.testing.assert_array_equal(case.foreground, [False, True, False])
    np.testing.assert_array_equal(case.mask.any(axis=(1, 2)), case.foreground)
    assert set(np.unique(case.mask)) == {0, 1, 2}
    assert case.geometry.side == 24
    slices = case.geometry.to_slices(case.truth())
    np.testing.assert_array_equal(case.geometry.from_slices(slices), case.truth())


def test_zscore_is_the_formula_and_padding_has_no_edge(make: Callable[..., Store], data: Path) -> None:
    """At the native size nothing is resized, so every pixel can be compared."""
    case = make(DataSettings(size=24)).case("a1")
    raw = np.asarray(nib.load(data / "imagesTr" / "a1.nii.gz").dataobj).astype(np.float64)
    for channel in range(2):
        volume = raw[..., channel]
        brain = volume[volume != 0]
        wanted = np.clip((volume - brain.mean()) / brain.std(), -5, 5)
        stack = case.images[:, channel].astype(np.float64)
        np.testing.assert_allclose(case.geometry.from_slices(stack), wanted, atol=2e-3)
        rows, columns = case.geometry.window
        inside = np.zeros((24, 24), dtype=bool)
        inside[rows, columns] = True
        assert (~inside).any()
        np.testing.assert_array_equal(stack[:, ~inside], stack.min())


def test_minmax_and_none(make: Callable[..., Store], data: Path) -> None:
    raw = np.asarray(nib.load(data / "imagesTr" / "a1.nii.gz").dataobj)[..., 1].astype(np.float64)
    low, high = np.percentile(raw, (0.5, 99.5))
    scaled = make(DataSettings(size=24, normalise="minmax")).case("a1")
    back = scaled.geometry.from_slices(scaled.images[:, 1].astype(np.float64))
    np.testing.assert_allclose(back, np.clip((raw - low) / (high - low), 0, 1), atol=1e-3)
    plain = make(DataSettings(size=24, normalise="none")).case("a1")
    np.testing.assert_array_equal(plain.geometry.from_slices(plain.images[:, 1].astype(np.float64)), raw)


def test_finished_cases_are_reused_and_changes_followed(make: Callable[..., Store], data: Path) -> None:
    first = make()
    before, content = stamps(first), first.fingerprint
    assert stamps(make()) == before

    write_case(data, "a2", 77)
    again = make()
    after = stamps(again)
    assert {c for c in before if before[c] != after[c]} == {"a2"}
    assert again.fingerprint != content

    write_case(data, "b1", 5)
    write_index(data, ["a1", "a2", "b1"])
    store = make()
    assert store.case_ids == ("a1", "a2", "b1")
    assert stamps(store)["a1"] == before["a1"]
    assert sorted(p.name for p in (store.path / "cases").iterdir()) == ["a1", "a2", "b1"]

    assert all(stamps(make(overwrite=True))[c] != stamps_before for c, stamps_before in stamps(store).items())


def test_a_fingerprint_is_of_content_alone(make: Callable[..., Store], data: Path, tmp_path: Path) -> None:
    store = make()
    assert make(DataSettings(size=24, plane="coronal")).fingerprint == store.fingerprint
    assert make(workers=2, overwrite=True).fingerprint == store.fingerprint
    copy = tmp_path / "elsewhere"
    shutil.copytree(data, copy)
    for case_id in store.case_ids:
        image = nib.load(data / "imagesTr" / f"{case_id}.nii.gz")
        nib.save(image, copy / "imagesTr" / f"{case_id}.nii")
    index = (copy / "dataset.json").read_text()
    for case_id in store.case_ids:
        index = index.replace(f"imagesTr/{case_id}.nii.gz", f"imagesTr/{case_id}.nii")
    (copy / "dataset.json").write_text(index)
    moved = prepare(task_from_folder(copy), copy, SETTINGS, 1, tmp_path / "cache")
    assert moved.path != store.path
    assert moved.fingerprint == store.fingerprint
    write_index(data, ["a1", "a2"])
    assert make().fingerprint != store.fingerprint


def test_a_subset_is_prepared_alone(make: Callable[..., Store]) -> None:
    store = make(case_ids=["a10", "a1"])
    assert store.case_ids == ("a1", "a10")
    assert sorted(p.name for p in (store.path / "cases").iterdir()) == ["a1", "a10"]
    before = stamps(store)
    assert before.items() <= stamps(make()).items()
    assert len(make(case_ids=["a2"]).case_ids) == 1
    with pytest.raises(UsbenchError, match="did you mean 'a10'"):
        make(case_ids=["a100"])
    with pytest.raises(UsbenchError, match="holds 2 cases"):
        store.case("a2")


@pytest.mark.parametrize("name", ["images.slices", "mask.slices", "truth.slices"])
def test_a_changed_array_is_named_and_made_anew(
    make: Callable[..., Store], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make()
    file = store.path / "cases" / "a1" / name
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(UsbenchError, match=f"a1/{name}: prepared data changed underneath.*--verify"):
        store.case("a1")
    capsys.readouterr()
    assert make().contents == store.contents
    assert f"a1/{name}" in capsys.readouterr().err.replace("\n", "")
    store.case("a1")


def test_a_store_does_not_change_under_a_run(make: Callable[..., Store], data: Path) -> None:
    store = make()
    fingerprint = store.fingerprint
    write_case(data, "a2", 77)
    assert make().fingerprint != fingerprint
    assert store.fingerprint == fingerprint
    store.case("a1")
    with pytest.raises(UsbenchError, match=r"a2/meta.json: prepared data changed"):
        store.case("a2")


def test_notes_that_were_edited_or_truncated_are_not_believed(make: Callable[..., Store]) -> None:
    store = make()
    notes = store.path / "cases" / "a1" / "meta.json"
    text = notes.read_text()
    for broken in (text.replace('"truth_voxels": 36', '"truth_voxels": 37'), text[:-30], "[]", ""):
        assert broken != text
        notes.write_text(broken)
        with pytest.raises(UsbenchError, match=r"meta.json: prepared data changed"):
            store.case("a1")
        assert make().case("a1").truth().any()
    (notes.parent / "mask.slices").unlink()
    with pytest.raises(UsbenchError, match=r"mask.slices"):
        Store(store.path, store.task, store.settings, store.contents).case("a1")
    assert make().case("a1").mask.any()


def test_an_interrupted_preparation_keeps_what_is_finished(
    make: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = store_module._save, []

    def save(file: Path, array: np.ndarray) -> dict[str, object]:
        seen.append(file)
        if len(seen) == 5:  # the second array of the second case
            raise KeyboardInterrupt
        return real(file, array)

    monkeypatch.setattr(store_module, "_save", save)
    with pytest.raises(KeyboardInterrupt):
        make()
    cases = seen[0].parent.parent
    assert [p.name for p in cases.iterdir()] == ["a1"]
    kept = (cases / "a1" / "meta.json").stat().st_ino
    monkeypatch.undo()
    assert stamps(make())["a1"] == kept


SCRIPT = """
import sys, time
from pathlib import Path
import usbench.datasets.store as store
from usbench.datasets.tasks import task_from_folder
data, cache, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
if len(sys.argv) > 4:
    real = store._save
    def slow(file, array):
        print("saving", flush=True)
        time.sleep(60 * (file.name == "mask.slices"))
        return real(file, array)
    store._save = slow
s = store.prepare(task_from_folder(data), data, store.DataSettings(size=16), workers, cache)
print(s.fingerprint)
"""  # no guard for __main__: a user's script needs none


def run_script(data: Path, cache: Path, *arguments: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(Path(store_module.__file__).parents[2]), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(data), str(cache), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


def test_after_a_kill_the_lock_is_free_and_nothing_half_written_stays(
    make: Callable[..., Store], data: Path, tmp_path: Path
) -> None:
    process = run_script(data, tmp_path / "cache", "1", "slow")
    assert process.stdout is not None
    assert process.stdout.readline() == "saving\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (cases,) = (tmp_path / "cache").glob("*/cases")
    assert [p for p in cases.iterdir() if p.name.endswith(".part")]
    store = make()
    assert sorted(p.name for p in cases.iterdir()) == ["a1", "a10", "a2"]
    assert store.case("a1").mask.any()


def test_two_processes_at_once_make_one_sound_store(
    make: Callable[..., Store], data: Path, tmp_path: Path
) -> None:
    processes = [run_script(data, tmp_path / "cache", "2") for _ in range(2)]
    outcomes = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outcomes
    store = make()
    assert {out.strip() for out, _ in outcomes} == {store.fingerprint}
    for case_id in store.case_ids:
        store.case(case_id)


def test_an_error_in_a_worker_comes_back_as_the_same_line(make: Callable[..., Store], data: Path) -> None:
    image = data / "imagesTr" / "a2.nii.gz"
    image.write_bytes(image.read_bytes()[:900])
    lines = []
    for workers in (1, 2):
        with pytest.raises(UsbenchError, match=r"a2.nii.gz") as caught:
            make(workers=workers)
        lines.append(str(caught.value))
        assert type(pickle.loads(pickle.dumps(caught.value))) is type(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert lines[0] == lines[1]
    assert "\n" not in lines[0]


def test_a_worker_that_is_killed_is_reported(tmp_path: Path) -> None:
    from usbench.datasets.workers import run_jobs

    assert sorted(run_jobs(divmod, [(7, 2), (9, 4), (5, 5)], 2)) == [(1, 0), (2, 1), (3, 1)]
    with pytest.raises(UsbenchError, match=r"worker process was stopped.*--workers"):
        list(run_jobs(os._exit, [(9,), (9,)], 2))
    with pytest.raises(ZeroDivisionError):
        list(run_jobs(divmod, [(1, 0), (1, 0)], 2))


def test_a_full_disk_and_a_folder_that_cannot_be_written(
    make: Callable[..., Store], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path, array: np.ndarray) -> tuple[int, str]:
        file.write_bytes(b"some of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module, "write_slices", full)
    with pytest.raises(UsbenchError, match=r"No space left on device.*free some space"):
        make()
    monkeypatch.undo()
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UsbenchError, match="file stands where a folder is needed"):
        prepare(task_from_folder(data), data, SETTINGS, 1, blocked)


def test_an_empty_mask_is_allowed_but_not_everywhere(make: Callable[..., Store], data: Path) -> None:
    write_case(data, "a1", 0, empty=True)
    case = make().case("a1")
    assert not case.truth().any()
    assert not case.foreground.any()
    for case_id in ("a2", "a10"):
        write_case(data, case_id, 1, empty=True)
    with pytest.raises(UsbenchError, match=r"none of the 3 cases.*rim, core"):
        make()


def test_intensities_beyond_half_precision_are_refused_unless_normalised(
    make: Callable[..., Store], data: Path
) -> None:
    image = nib.load(data / "imagesTr" / "a1.nii.gz")
    loud = np.asarray(image.dataobj).astype(np.float32) * 1000
    nib.save(nib.Nifti1Image(loud, image.affine), data / "imagesTr" / "a1.nii.gz")
    with pytest.raises(UsbenchError, match=r"case a1: t2 .*half precision"):
        make(DataSettings(size=16, normalise="none"))
    assert np.isfinite(make().case("a1").images).all()


def test_a_store_pickles_and_checks_anew(make: Callable[..., Store]) -> None:
    store = make()
    store.case("a1")
    twin: Store = pickle.loads(pickle.dumps(store))
    assert (twin.fingerprint, twin.case_ids, twin._checked) == (store.fingerprint, store.case_ids, set())


def test_other_modalities_classes_and_settings_are_other_stores(data: Path, tmp_path: Path) -> None:
    task = task_from_folder(data)
    variants: list[tuple[Task, DataSettings]] = [
        (task, SETTINGS),
        (task, DataSettings(size=32)),
        (task.with_modalities(["adc"]), SETTINGS),
        (task.merged("whole"), SETTINGS),
    ]
    stores = [prepare(t, data, s, 1, tmp_path / "cache") for t, s in variants]
    assert len({store.path for store in stores}) == 4
    assert stores[2].case("a1").images.shape[1] == 1
    np.testing.assert_array_equal(stores[2].case("a1").images[:, 0], stores[0].case("a1").images[:, 1])
    np.testing.assert_array_equal(stores[3].case("a1").mask, stores[0].case("a1").mask > 0)


def test_nonsense_is_refused(make: Callable[..., Store]) -> None:
    with pytest.raises(UsbenchError, match="0 workers"):
        make(workers=0)
    with pytest.raises(UsbenchError, match="did you mean 'nearest'"):
        DataSettings(resize="neares")  # type: ignore[arg-type]
    for size in (8, 16.0, True):
        with pytest.raises(UsbenchError, match="whole number from 16 to 4096"):
            DataSettings(size=size)  # type: ignore[arg-type]
