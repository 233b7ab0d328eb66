"""The phantoms: real layouts that other programs read, true physics, and tasks where fusion pays."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from usbench.datasets.phantom import make_phantom, phantom_root, scanner_of, tissues
from usbench.datasets.phantom.msd import brain_signals
from usbench.datasets.phantom.scanner import FIRST, SECOND
from usbench.datasets.readers.layouts import open_reader
from usbench.datasets.resolve import find_data
from usbench.datasets.tasks import get_task
from usbench.errors import UsbenchError

FOLDERS = {
    "chaos": "Train_Sets/MR",
    "msd-prostate": "Task05_Prostate",
    "msd-brain": "Task01_BrainTumour",
}
CASES = {"chaos": 6, "msd-prostate": 8, "msd-brain": 6}


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One phantom a task, made once for all the tests: the data folder by the task's name."""
    root = tmp_path_factory.mktemp("phantoms")
    for name, cases in CASES.items():
        make_phantom(get_task(name), root / name, cases, seed=0)
    return {name: root / name for name in CASES}


def _patients(root: Path) -> list[Path]:
    return sorted((root / FOLDERS["chaos"]).iterdir(), key=lambda p: int(p.name))


def _series(folder: Path):
    """A DICOM folder as SimpleITK reads it, and the files in the order of their positions."""
    import SimpleITK as sitk

    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(names)
    return reader.Execute(), [Path(name) for name in names]


def _ground(folder: Path, files: list[Path], like) -> object:
    """The PNG masks named after `files`, as a SimpleITK image on the grid of `like`."""
    import SimpleITK as sitk
    from PIL import Image

    stack = np.stack([np.asarray(Image.open(folder / f"{f.stem}.png")) for f in files])
    mask = sitk.GetImageFromArray(stack)
    mask.CopyInformation(like)
    return mask


def _chaos_cases(root: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images [3, Z, Y, X] on the in-phase grid and mask [Z, Y, X], by SimpleITK and not by our reader."""
    import SimpleITK as sitk

    cases = []
    for patient in _patients(root):
        inside, files = _series(patient / "T1DUAL" / "DICOM_anon" / "InPhase")
        outside, _ = _series(patient / "T1DUAL" / "DICOM_anon" / "OutPhase")
        t2, _ = _series(patient / "T2SPIR" / "DICOM_anon")
        mask = _ground(patient / "T1DUAL" / "Ground", files, inside)
        t2 = sitk.Resample(t2, inside, sitk.Transform(), sitk.sitkLinear)
        arrays = [sitk.GetArrayFromImage(i).astype(np.float32) for i in (inside, outside, t2)]
        cases.append((np.stack(arrays), sitk.GetArrayFromImage(mask) // 63))
    return cases


def _msd_cases(root: Path, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    import nibabel as nib

    folder = root / FOLDERS[name]
    cases = []
    for path in sorted((folder / "imagesTr").glob("*.nii.gz")):
        image = np.asarray(nib.load(path).dataobj, np.float32)
        mask = np.asarray(nib.load(folder / "labelsTr" / path.name).dataobj)
        cases.append((np.moveaxis(image, -1, 0), mask))
    return cases


# --- layout, read by programs that are not ours -----------------------------------------------------


@pytest.mark.slow
def test_simpleitk_reads_every_dicom_series(phantoms):
    import pydicom

    for patient in _patients(phantoms["chaos"]):
        for part in ("T1DUAL/DICOM_anon/InPhase", "T1DUAL/DICOM_anon/OutPhase", "T2SPIR/DICOM_anon"):
            folder = patient / part
            image, files = _series(folder)
            header = pydicom.dcmread(files[0])
            assert len(files) == len(list(folder.glob("*.dcm")))
            assert image.GetSize() == (header.Columns, header.Rows, len(files))
            wanted = (*header.PixelSpacing[::-1], header.SpacingBetweenSlices)
            assert image.GetSpacing() == pytest.approx([float(v) for v in wanted], abs=1e-3)
            assert header.Modality == "MR"
            assert header.PatientID == patient.name
            assert header.SOPClassUID.name == "MR Image Storage"
            assert header.pixel_array.dtype == np.uint16


def test_chaos_quirks(phantoms):
    import pydicom

    patient = _patients(phantoms["chaos"])[0]
    dual = patient / "T1DUAL"
    inside, outside = (sorted((dual / "DICOM_anon" / n).glob("*.dcm")) for n in ("InPhase", "OutPhase"))
    numbers = [int(p.stem[-5:]) for p in inside], [int(p.stem[-5:]) for p in outside]
    assert numbers[0] == [n + 1 for n in numbers[1]]
    assert numbers[0][:2] == [2, 4]
    first, second = pydicom.dcmread(inside[0]), pydicom.dcmread(outside[0])
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.ImagePositionPatient == second.ImagePositionPatient
    assert (float(first.EchoTime), float(second.EchoTime)) == (4.6, 2.3)
    assert {p.stem for p in (dual / "Ground").iterdir()} == {p.stem for p in inside}
    # Instance numbers run against the positions.
    last = pydicom.dcmread(inside[-1])
    assert last.InstanceNumber > first.InstanceNumber
    assert last.ImagePositionPatient[2] < first.ImagePositionPatient[2]
    t2 = pydicom.dcmread(next((patient / "T2SPIR" / "DICOM_anon").iterdir()))
    assert t2.SeriesInstanceUID != first.SeriesInstanceUID
    assert t2.PixelSpacing != first.PixelSpacing
    assert t2.ImageOrientationPatient != first.ImageOrientationPatient
    assert [p.name for p in _patients(phantoms["chaos"])] == ["1", "2", "3", "5", "8", "10"]


@pytest.mark.parametrize(("task", "channels"), [("Task05_Prostate", 2), ("Task01_BrainTumour", 4)])
def test_monai_reads_the_msd_phantoms(phantoms, task, channels):
    from monai.apps import DecathlonDataset
    from monai.transforms import LoadImaged

    name = next(n for n, folder in FOLDERS.items() if folder == task)
    data = DecathlonDataset(
        root_dir=phantoms[name],
        task=task,
        section="training",
        transform=LoadImaged(keys=["image", "label"]),
        download=False,
        val_frac=0.0,
        num_workers=0,
        cache_num=0,
        progress=False,
    )
    assert len(data) == CASES[name]
    case = data[0]
    assert case["image"].shape == (*case["label"].shape, channels)
    assert data.get_properties("modality")["modality"]["0"] in ("T2", "FLAIR")


@pytest.mark.parametrize("name", CASES)
def test_every_class_is_in_every_case(phantoms, name):
    cases = _chaos_cases(phantoms[name]) if name == "chaos" else _msd_cases(phantoms[name], name)
    wanted = {"chaos": [0, 1, 2, 3, 4], "msd-prostate": [0, 1, 2], "msd-brain": [0, 1, 2, 3]}[name]
    for images, mask in cases:
        assert np.unique(mask).tolist() == wanted
        assert np.bincount(mask.ravel()).min() > 150
        assert images.shape[1:] == mask.shape
        assert images.std() > 0


def test_organs_are_on_their_sides(phantoms):
    """In scanner coordinates x grows to the patient's left: the right kidney is below the liver."""
    import SimpleITK as sitk

    for patient in _patients(phantoms["chaos"]):
        image, files = _series(patient / "T1DUAL" / "DICOM_anon" / "InPhase")
        mask = np.asarray(sitk.GetArrayFromImage(_ground(patient / "T1DUAL/Ground", files, image)))
        place = {}
        for grey in (63, 126, 189, 252):
            z, y, x = np.argwhere(mask == grey).mean(axis=0)
            place[grey] = image.TransformContinuousIndexToPhysicalPoint((x, y, z))
        assert place[63][0] < 0
        assert place[126][0] < -30
        assert place[189][0] > 30
        assert place[252][0] > 60
        assert place[126][2] < place[63][2]


def test_brain_background_is_zero(phantoms):
    for images, mask in _msd_cases(phantoms["msd-brain"], "msd-brain"):
        outside = images[0] == 0
        assert 0.3 < outside.mean() < 0.8
        assert (images[:, outside] == 0).all()
        assert (images[:, ~outside] > 0).all()
        assert not mask[outside].any()


def test_annotations_agree_through_scanner_coordinates(phantoms):
    import SimpleITK as sitk

    for patient in _patients(phantoms["chaos"])[:3]:
        dual, dual_files = _series(patient / "T1DUAL" / "DICOM_anon" / "InPhase")
        spir, spir_files = _series(patient / "T2SPIR" / "DICOM_anon")
        one = _ground(patient / "T1DUAL" / "Ground", dual_files, dual)
        two = _ground(patient / "T2SPIR" / "Ground", spir_files, spir)
        two = sitk.Resample(two, one, sitk.Transform(), sitk.sitkNearestNeighbor)
        a, b = sitk.GetArrayFromImage(one), sitk.GetArrayFromImage(two)
        for grey in (63, 126, 189, 252):
            both = ((a == grey) & (b == grey)).sum()
            assert 0.85 < 2 * both / ((a == grey).sum() + (b == grey).sum()) < 1.0


# --- physics ----------------------------------------------------------------------------------------


def test_contrast_agent_brightens_the_rim_on_disk(phantoms):
    for images, mask in _msd_cases(phantoms["msd-brain"], "msd-brain"):
        flair, t1, t1gd, t2 = images
        brain = (flair > 0) & (mask == 0)
        relative = [np.median(i[mask == 3]) / np.median(i[brain]) for i in (t1, t1gd)]
        assert relative[1] > 1.5 * relative[0]
        assert np.median(flair[mask == 1]) > 1.3 * np.median(flair[brain])
        assert np.median(t1[mask == 1]) < np.median(t1[brain]) < np.median(t2[mask == 1]) * 10


# --- determinism and the cache ----------------------------------------------------------------------


def _digests(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("name", CASES)
def test_same_seed_same_bytes(phantoms, tmp_path, name):
    make_phantom(get_task(name), tmp_path / "again", 1, seed=0)
    again, first = _digests(tmp_path / "again"), _digests(phantoms[name])
    index = f"{FOLDERS[name]}/dataset.json"
    assert len(again) >= 3 or name == "chaos"
    assert all(first[path] == digest for path, digest in again.items() if path != index)
    make_phantom(get_task(name), tmp_path / "other", 1, seed=1)
    changed = _digests(tmp_path / "other")
    assert not {d for p, d in changed.items() if p != index and "Ground" not in p} & set(again.values())


def test_phantom_root_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("USBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr("usbench.datasets.phantom.CASES", 1)
    root = phantom_root(get_task("msd-prostate"))
    assert root.parent == tmp_path / "phantoms"
    assert root.name.startswith("msd-prostate-")
    assert (root / "Task05_Prostate" / "dataset.json").is_file()
    stamp = (root / "Task05_Prostate" / "dataset.json").stat().st_mtime_ns
    assert phantom_root(get_task("msd-prostate")) == root
    assert (root / "Task05_Prostate" / "dataset.json").stat().st_mtime_ns == stamp
    assert {p.name for p in root.parent.iterdir()} == {root.name, f".{root.name}.files.json"}


def test_errors_name_the_remedy(tmp_path):
    with pytest.raises(UsbenchError, match=r"'mine' has no phantom.*--data-dir"):
        phantom_root(replace(get_task("chaos"), name="mine", phantom=None))
    with pytest.raises(UsbenchError, match="cannot have 99 cases; ask for 1 to 20"):
        make_phantom(get_task("chaos"), tmp_path / "x", 99)


# --- the second scanner -----------------------------------------------------------------------------


def test_second_scanner_has_patients_that_the_first_has_not_and_says_so(tmp_path, monkeypatch, command):
    monkeypatch.setenv("USBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("usbench.datasets.phantom.CASES", 2)
    task = get_task("msd-prostate")
    found = find_data(task, mode="phantom", scanner=2)
    assert found.kind == "phantom"
    assert "its phantom of scanner 2" in found.notice
    assert found.root.name.startswith("msd-prostate-scanner2-")
    assert tuple(open_reader(task, found.root).case_ids()) == task.phantom.case_ids[2:4]
    assert scanner_of(task, task.phantom.case_ids[2:4]) == 2
    assert scanner_of(task, task.phantom.case_ids[:2]) == scanner_of(task, ["nobody"]) == 1
    with pytest.raises(UsbenchError, match="has scanner 1 and 2, not 3; choose"):
        make_phantom(task, tmp_path / "x", 1, scanner=3)
    with pytest.raises(UsbenchError, match="has scanner 1 alone, not 2"):
        phantom_root(replace(task, phantom=replace(task.phantom, second_scanner=None)), 2)
    (tmp_path / "real").mkdir()
    make_phantom(task, tmp_path / "own", 2, scanner=2)
    (tmp_path / "own/Task05_Prostate/dataset.json").write_text(
        (tmp_path / "own/Task05_Prostate/dataset.json").read_text().replace("usbench phantom", "a hospital")
    )
    with pytest.raises(UsbenchError, match="--scanner 2 is for phantoms"):
        find_data(task, tmp_path / "own", scanner=2)
    done = command("data", "phantom", "msd-prostate", tmp_path / "z", "--scanner", "3")
    assert done.returncode == 1
    assert "has scanner 1 and 2, not 3; choose one of them" in done.stderr


@pytest.mark.parametrize("name", list(FOLDERS))
def test_second_scanner_sees_the_same_patient_otherwise(name, tmp_path):
    """One patient in both scanners: the same mask, and contrasts that follow from the other timing."""
    task = get_task(name)
    for scanner, write in ((1, task.phantom.write_case), (2, task.phantom.second_scanner)):
        folder = tmp_path / str(scanner) / task.folder
        folder.mkdir(parents=True)
        write(folder, task.phantom.case_ids[0], 0, 0)
        task.phantom.write_index(folder, task.phantom.case_ids[:1])
    one, two = (open_reader(task, tmp_path / n).read(task.phantom.case_ids[0]) for n in ("1", "2"))
    np.testing.assert_array_equal(one.mask, two.mask)
    np.testing.assert_allclose(one.affine, two.affine)
    for name_of, first, second in zip(task.modality_names, one.images, two.images, strict=True):
        inside = one.mask > 0
        alike = np.corrcoef(first[first > 0], second[first > 0])[0, 1]
        assert alike < 0.99, f"{name_of} is the same scan"
        assert alike > 0.3, f"{name_of} shows another patient"
        assert second[inside].std() > 0


def test_second_scanner_s_timing_by_hand():
    """Oedema against white matter on FLAIR: exp(-140/T2) in place of exp(-110/T2), and another recovery."""
    oedema, white = tissues.OEDEMA, tissues.WHITE

    def flair(tissue, tr, te):
        ti = 4300 * (np.log(2) - np.log1p(np.exp(-tr / 4300)))
        return (
            tissue.pd * (1 - 2 * np.exp(-ti / tissue.t1) + np.exp(-tr / tissue.t1)) * np.exp(-te / tissue.t2)
        )

    for scanner, tr, te in ((FIRST, 9000, 110), (SECOND, 7000, 140)):
        ratio = brain_signals(oedema, 0.0, scanner)[0] / brain_signals(white, 0.0, scanner)[0]
        assert ratio == pytest.approx(flair(oedema, tr, te) / flair(white, tr, te), rel=1e-6)
    # 0.6 times the agent: less of its shortening of T1, so the rim is darker on t1gd.
    lit = [brain_signals(tissues.TUMOUR, 0.3, replace(FIRST, uptake=share))[2] for share in (1.0, 0.6)]
    assert lit[0] > lit[1]


# --- fusion pays ------------------------------------------------------------------------------------


def _classify(cases, channels: list[int], classes: int, train: int) -> float:
    """Mean foreground Dice of a per-voxel classifier that sees some channels and the position.

    Scored on every third voxel of the body, which is enough and saves time.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng(0)

    def table(images, mask):
        body = images[0] > 0.12 * np.percentile(images[0], 99)
        columns = [(images[c][body] - images[c][body].mean()) / images[c][body].std() for c in channels]
        columns += [i[body] / n for i, n in zip(np.indices(mask.shape), mask.shape, strict=True)]
        return np.stack(columns, axis=1), mask[body]

    rows, labels = [], []
    for x, y in (table(*case) for case in cases[:train]):
        for k in range(classes + 1):
            found = np.flatnonzero(y == k)
            chosen = rng.choice(found, min(len(found), 3000 if k else 12000), replace=False)
            rows.append(x[chosen])
            labels.append(y[chosen])
    model = HistGradientBoostingClassifier(max_iter=50, random_state=0)
    model.fit(np.concatenate(rows), np.concatenate(labels))
    scores = []
    for x, y in (table(*case) for case in cases[train:]):
        x, y = x[::3], y[::3]
        guess = model.predict(x)
        for k in range(1, classes + 1):
            scores.append(2 * ((guess == k) & (y == k)).sum() / ((guess == k).sum() + (y == k).sum()))
    return float(np.mean(scores))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "channels", "margin"), [("chaos", 3, 0.05), ("msd-prostate", 2, 0.05), ("msd-brain", 4, 0.1)]
)
def test_no_single_modality_shows_everything(phantoms, name, channels, margin):
    if name == "chaos":
        cases, classes = _chaos_cases(phantoms[name]), 4
    else:
        cases = [(i, (m > 0).astype(np.uint8)) for i, m in _msd_cases(phantoms[name], name)]
        classes = 1
    train = len(cases) - 2
    single = [_classify(cases, [c], classes, train) for c in range(channels)]
    fused = _classify(cases, list(range(channels)), classes, train)
    print(f"{name}: single {np.round(single, 3).tolist()}, all {fused:.3f}")
    assert fused > max(single) + margin
