"""The reader of task files, against nibabel, scipy-free geometry worked by hand, and broken folders."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from kit.own_folders import TASK, patients, task_file
from kit.own_task import CASES, SHAPE, save, volumes

from usbench.datasets.check import check
from usbench.datasets.readers.layouts import open_reader
from usbench.datasets.readers.patterns import match
from usbench.datasets.tasks import get_task
from usbench.errors import UsbenchError


def reader_of(path):
    task = get_task(str(path))
    return open_reader(task, task.files.folder)


def problems(path) -> list[str]:
    task = get_task(str(path))
    return [str(problem) for problem in check(task, task.files.folder)]


def test_cases_are_read_as_nibabel_reads_the_files(tmp_path):
    patients(tmp_path / "patients")
    reader = reader_of(task_file(tmp_path))
    assert reader.case_ids() == list(CASES)
    for case_id in CASES:
        case = reader.read(case_id)
        for row, name in enumerate(("t1", "t2")):
            image = nibabel.load(tmp_path / f"patients/{case_id}/{case_id}_{name}.nii.gz")
            assert np.array_equal(case.images[row], image.get_fdata(dtype=np.float32))
            assert np.allclose(case.affine, image.affine)
        mask = nibabel.load(tmp_path / f"patients/{case_id}/{case_id}_seg.nii.gz")
        assert np.array_equal(case.mask, mask.get_fdata())
        assert reader.files(case_id)[-1] == reader.mask_file(case_id)
    assert check(reader.task, reader.root) == []


def test_regions_overlap_in_the_mask_that_is_read(tmp_path):
    patients(tmp_path / "patients")
    path = task_file(
        tmp_path, TASK, ("classes: {liver: 1, lesion: 2}", "regions: {whole: [1, 2], lesion: 2}")
    )
    case = reader_of(path).read("patient-02")
    raw = volumes(1)[0]["mask"]
    assert np.array_equal(case.mask & 1 > 0, raw > 0)
    assert np.array_equal(case.mask & 2 > 0, raw == 2)


def test_channels_of_a_file_with_four_axes_are_modalities(tmp_path):
    for number, case in enumerate(CASES):
        arrays, affine = volumes(number)
        save(tmp_path / f"patients/{case}.nii.gz", np.stack([arrays["t1"], arrays["t2"]], 3), affine)
        save(tmp_path / f"patients/masks/{case}.nii.gz", arrays["mask"], affine)
    pairs = (
        ('t1: "{case}/{case}_t1.nii.gz"', 't1: {pattern: "{case}.nii.gz", channel: 1}'),
        ('t2: "{case}/{case}_t2.nii.gz"', 't2: {pattern: "{case}.nii.gz", channel: 0}'),
        ('mask: "{case}/{case}_seg.nii.gz"', 'mask: "masks/{case}.nii.gz"'),
    )
    case = reader_of(task_file(tmp_path, TASK, *pairs)).read("patient-03")
    assert np.array_equal(case.images, np.stack([volumes(2)[0]["t2"], volumes(2)[0]["t1"]]))
    wrong = task_file(tmp_path, TASK, pairs[0], (pairs[1][0], pairs[1][1].replace("0}", "5}")), pairs[2])
    assert "no channel 5 for t2" in problems(wrong)[0]
    unsaid = task_file(
        tmp_path, TASK, (pairs[0][0], 't1: "{case}.nii.gz"'), (pairs[1][0], pairs[1][1]), pairs[2]
    )
    assert "holds 2 volumes, and the task file does not say which is t1" in problems(unsaid)[0]


@pytest.fixture
def other_grid(tmp_path):
    """Patients whose T2 lies on a turned, coarser grid; each scan shows a field that is linear in space."""

    def field(shape, affine):
        i, j, k = np.meshgrid(*map(np.arange, shape), indexing="ij")
        x, y, z = (affine[r, 0] * i + affine[r, 1] * j + affine[r, 2] * k + affine[r, 3] for r in range(3))
        return (3 * x - 2 * y + 5 * z + 400).astype(np.float32)

    for number, case in enumerate(CASES):
        arrays, affine = volumes(number)
        turn = nibabel.eulerangles.euler2mat(0.15, 0.1, -0.05) @ np.diag([2.0, 1.7, 3.1])
        centre = (affine @ [*(np.array(SHAPE) / 2), 1])[:3]
        shape = (30, 32, 20)
        there = nibabel.affines.from_matvec(turn, centre - turn @ (np.array(shape) / 2))
        save(tmp_path / f"patients/{case}/{case}_t1.nii.gz", field(SHAPE, affine), affine)
        save(tmp_path / f"patients/{case}/{case}_t2.nii.gz", field(shape, there), there)
        save(tmp_path / f"patients/{case}/{case}_seg.nii.gz", arrays["mask"], affine)
    return tmp_path


def test_a_scan_on_another_grid_is_resampled_through_space(other_grid):
    case = reader_of(task_file(other_grid)).read("patient-01")
    # A linear field is what linear interpolation gives back exactly, wherever the grids lie.
    assert case.images.shape == (2, *SHAPE)
    assert np.abs(case.images[1] - case.images[0]).max() < 0.01
    # The same of the first modality alone: nothing is moved.
    assert np.array_equal(
        case.images[0],
        nibabel.load(other_grid / "patients/patient-01/patient-01_t1.nii.gz").get_fdata(dtype=np.float32),
    )


def test_resampling_is_that_of_simpleitk_reading_the_files_itself(other_grid):
    import SimpleITK

    folder = other_grid / "patients/patient-02"
    noise = np.random.default_rng(3).normal(100, 20, (30, 32, 20)).astype(np.float32)
    affine = nibabel.load(folder / "patient-02_t2.nii.gz").affine
    save(folder / "patient-02_t2.nii.gz", noise, affine)
    reference, moving = (SimpleITK.ReadImage(folder / f"patient-02_{name}.nii.gz") for name in ("t1", "t2"))
    expected = SimpleITK.Resample(moving, reference, SimpleITK.Transform(), SimpleITK.sitkLinear, 0.0)
    case = reader_of(task_file(other_grid)).read("patient-02")
    assert np.abs(case.images[1] - SimpleITK.GetArrayFromImage(expected).T).max() < 0.01


def test_the_grid_stays_that_of_the_reference_where_a_run_leaves_it_out(other_grid):
    task = get_task(str(task_file(other_grid)))
    whole = open_reader(task, task.files.folder).read("patient-01")
    alone = open_reader(task.with_modalities(["t2"]), task.files.folder).read("patient-01")
    assert np.array_equal(alone.images[0], whole.images[1])
    assert np.array_equal(alone.affine, whole.affine)


def test_a_scan_on_another_grid_is_refused_where_the_file_says_so(other_grid):
    path = task_file(other_grid, TASK, ("name: own", "name: own\nother-grids: refuse"))
    found = problems(path)
    assert len(found) == len(CASES)
    assert "patient-01_t2.nii.gz: the t2 scan is not on the grid of the t1 scan" in found[0]


def test_a_mask_on_another_grid_is_always_refused(other_grid):
    path = task_file(other_grid, TASK, ("name: own", "name: own\nreference: t2"))
    assert "the mask is not on the grid of the t2 scan" in problems(path)[0]


def test_scans_that_lie_apart_are_refused(tmp_path):
    patients(tmp_path / "patients")
    arrays, affine = volumes(0)
    affine[:3, 3] += 500
    save(tmp_path / "patients/patient-01/patient-01_t2.nii.gz", arrays["t2"], affine)
    assert "only 0% of it lie inside the t2 scan" in problems(task_file(tmp_path))[0]


def test_everything_that_is_absent_is_listed_at_once(tmp_path):
    root = patients(tmp_path / "patients")
    (root / "patient-01/patient-01_t2.nii.gz").unlink()
    (root / "patient-01/patient-01_seg.nii.gz").unlink()
    (root / "patient-10/patient-10_t1.nii.gz").unlink()
    path = task_file(tmp_path)
    found = problems(path)
    assert len(found) == 2
    assert "case patient-01 lacks t2 (patient-01/patient-01_t2.nii.gz), mask (" in found[0]
    assert "case patient-10 lacks t1" in found[1]
    assert all(str(root) in line and "'exclude'" in line for line in found)
    with pytest.raises(UsbenchError, match="patient-01 lacks t2"):
        reader_of(path).case_ids()
    without = task_file(tmp_path, TASK, ("name: own", "name: own\nexclude: [patient-01, patient-10]"))
    assert problems(without) == []
    assert reader_of(without).case_ids() == ["patient-02", "patient-03"]


def test_a_file_is_one_scan_of_one_case(tmp_path):
    root = patients(tmp_path / "patients")
    first = root / "patient-01/patient-01_t1.nii.gz"
    (root / "patient-02/patient-02_t1.nii.gz").unlink()
    (root / "patient-02/patient-02_t1.nii.gz").symlink_to(first)
    assert any(
        "is the t1 of case patient-01 and the t1 of case patient-02" in p
        for p in problems(task_file(tmp_path))
    )
    twice = root / "patient-03/old_patient-03_t1.nii.gz"
    twice.write_bytes(first.read_bytes())
    loose = task_file(tmp_path, TASK, ('"{case}/{case}_t1.nii.gz"', '"{case}/*_t1.nii.gz"'))
    assert any("case patient-03 has 2 files for t1" in p for p in problems(loose))
    listed = task_file(
        tmp_path,
        "name: own\nfolder: patients\nmodalities: {t1: {}}\nclasses: {liver: [1, 2]}\ncases:\n"
        "  a: {t1: patient-01/patient-01_t1.nii.gz, mask: patient-01/patient-01_seg.nii.gz}\n"
        "  b: {t1: patient-03/patient-03_t1.nii.gz, mask: patient-01/patient-01_seg.nii.gz}\n",
    )
    assert any("is the mask of case a and the mask of case b" in p for p in problems(listed))


def test_a_mask_is_no_channel_of_a_scan(tmp_path):
    patients(tmp_path / "patients")
    path = task_file(
        tmp_path,
        TASK,
        ('t1: "{case}/{case}_t1.nii.gz"', 't1: {pattern: "{case}/*_seg.nii.gz", channel: 0}'),
    )
    assert "is the t1 of case patient-01 and the mask of case patient-01" in problems(path)[0]


def test_what_is_excluded_or_grouped_is_there(tmp_path):
    patients(tmp_path / "patients")
    typo = "name: own\nexclude: [patient-1]\ngroups: {site: {patient_01: Bern}}"
    found = problems(task_file(tmp_path, TASK, ("name: own", typo)))
    assert any("'exclude' of task own names case patient-1, of which no file" in line for line in found)
    assert any("no case of group site" in line for line in found)


def test_names_that_are_one_on_some_systems_are_refused(tmp_path):
    patients(tmp_path / "patients", ("Anna", "anna", "bert"))
    assert any("'Anna' and 'anna' are one" in problem for problem in problems(task_file(tmp_path)))


def test_a_split_that_does_not_fit_the_data_is_refused(tmp_path):
    patients(tmp_path / "patients")
    folds = "[[patient-01, patient-02], [patient-03, patient-11]]"
    found = problems(task_file(tmp_path, TASK, ("name: own", f"name: own\nsplit: {folds}")))
    assert any("names case patient-11, of which no file is here" in line for line in found)
    assert any("case patient-10 is in no fold" in line for line in found)


def test_a_folder_without_any_of_its_files_names_the_folder_and_the_patterns(tmp_path):
    (tmp_path / "patients").mkdir()
    with pytest.raises(UsbenchError, match=r"patients: no file of task own is here .*_t1\.nii\.gz"):
        reader_of(task_file(tmp_path)).case_ids()
    assert "patients" in problems(task_file(tmp_path))[0]


def test_broken_volumes_are_named(tmp_path):
    root = patients(tmp_path / "patients")
    arrays, affine = volumes(0)
    save(root / "patient-01/patient-01_t1.nii.gz", np.full(SHAPE, np.nan, np.float32), affine)
    save(root / "patient-01/patient-01_t2.nii.gz", np.full(SHAPE, 7, np.float32), affine)
    save(root / "patient-02/patient-02_seg.nii.gz", arrays["mask"] * 2, volumes(1)[1])
    (root / "patient-03/patient-03_t1.nii.gz").write_bytes(b"no image")
    found = problems(task_file(tmp_path))
    assert len(found) == 4
    for line, words in zip(
        found, ("NaN or infinite", "every voxel of t2 is 7", "mask values 4", "NIfTI"), strict=True
    ):
        assert words in line


def test_numbers_that_single_precision_cannot_hold_are_named(tmp_path):
    root = patients(tmp_path / "patients")
    arrays, affine = volumes(0)
    far = arrays["t1"].astype(np.float64)
    far[2, 3, 1] = 1e300
    save(root / "patient-01/patient-01_t1.nii.gz", far, affine)
    [line] = problems(task_file(tmp_path))
    assert "1 voxel of t1 is NaN or infinite; replace them, or exclude the case" in line


@pytest.mark.parametrize(
    ("pattern", "names", "expected"),
    [
        ("{case}_t1.nii.gz", ["a_t1.nii.gz", "b_b_t1.nii.gz", "a_t2.nii.gz"], {"a", "b_b"}),
        ("{case}/{case}_t1.nii.gz", ["a/a_t1.nii.gz", "a/b_t1.nii.gz"], {"a"}),
        ("*/{case}/t1.nii", ["HGG/a/t1.nii", "LGG/b/t1.nii", "a/t1.nii"], {"a", "b"}),
        ("{case}/t1.nii", ["a/t1.nii", ".hidden/t1.nii", "._a/t1.nii"], {"a"}),
        ("x[1]/{case}.nii", ["x[1]/a.nii", "x1/b.nii"], {"a"}),
        ("{case}.x.nii", ["a.x.nii", "aXx.nii"], {"a"}),
        ("{case}/t?.nii", ["ä ö/t1.nii", "b/t12.nii"], {"ä ö"}),
    ],
)
def test_patterns_match_whole_names(tmp_path, pattern, names, expected):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert set(match(tmp_path, pattern)) == expected
