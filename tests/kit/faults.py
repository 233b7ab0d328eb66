"""Sound data, forty-odd ways to spoil it, and what the one line of the error must name."""

from __future__ import annotations

import functools
import json
import shutil
import threading
from collections.abc import Callable, Iterable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np

from kit.synthetic import cut, save_nifti, write_chaos_case, write_msd

PLUGIN_HEAD = "import torch\nfrom torch import nn\nfrom usbench import Method\n"


def sound(folder: Path) -> SimpleNamespace:
    """Small sound data in both layouts, to be damaged."""
    write_msd(folder / "msd" / "Task05_Prostate", cases=("prostate_00", "prostate_01", "prostate_02"))
    for case_id in ("1", "2", "3"):
        write_chaos_case(folder / "chaos", case_id)
    msd = folder / "msd" / "Task05_Prostate"
    return SimpleNamespace(
        root=folder,
        msd=msd,
        image=msd / "imagesTr" / "prostate_01.nii.gz",
        label=msd / "labelsTr" / "prostate_01.nii.gz",
        listing=msd / "dataset.json",
        case=folder / "chaos" / "Train_Sets" / "MR" / "2",
        runs=folder / "runs",
    )


def on_prostate(place: SimpleNamespace, *more: object) -> tuple[object, ...]:
    words = ("run", "--task", "msd-prostate", "--data-dir", place.root / "msd", "--fusion", "early")
    return (*words, "--preset", "smoke", "--set", "train.epochs=1", "--runs-dir", place.runs, *more)


def on_chaos(place: SimpleNamespace, *more: object) -> tuple[object, ...]:
    words = ("run", "--task", "chaos", "--data-dir", place.root / "chaos", "--fusion", "early")
    return (*words, "--preset", "smoke", "--set", "train.epochs=1", "--runs-dir", place.runs, *more)


def rewrite(file: Path, change: Callable[[np.ndarray], Any]) -> None:
    """Change a NIfTI file's array in place."""
    image = nibabel.load(file)
    array = np.array(image.dataobj)
    changed = change(array)
    save_nifti(file, array if changed is None else changed, image.affine)


def listing(place: SimpleNamespace, **changes: Any) -> None:
    place.listing.write_text(json.dumps({**json.loads(place.listing.read_text()), **changes}))


def plugin(place: SimpleNamespace, code: str) -> Path:
    file: Path = place.root / "plugin.py"
    file.write_text(PLUGIN_HEAD + code)
    return file


def serve(folder: Path) -> str:
    """The address of a server of the folder's files on this machine, until the tests end."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def first(files: Iterable[Path]) -> Path:
    return sorted(files)[0]


def finished(place: SimpleNamespace) -> Path:
    """The folder of a finished cell."""
    import usbench

    results = usbench.run(
        fusion="early",
        task="msd-prostate",
        data_dir=place.root / "msd",
        preset="smoke",
        settings={"train.epochs": 1},
        runs_dir=place.runs,
    )
    return results[0].path


def cell_folder(place: SimpleNamespace) -> Path:
    """Where the cell of `on_prostate` goes."""
    from usbench.runs.plan import make_cells, make_plan

    plan = make_plan(
        "unet",
        "early",
        "msd-prostate",
        data_dir=place.root / "msd",
        preset="smoke",
        settings={"train.epochs": 1},
    )
    (cell,) = make_cells(plan, "0", 0, None, None, "32", 1, place.runs)
    return cell.folder


# Each fault spoils sound data and returns the command and the words that its error must hold.
def truncated_nifti(p: SimpleNamespace) -> Any:
    cut(p.image, 0.5)
    return on_prostate(p), ("imagesTr/prostate_01.nii.gz",)


def truncated_mask(p: SimpleNamespace) -> Any:
    cut(p.label, 0.5)
    return on_prostate(p), ("labelsTr/prostate_01.nii.gz",)


def truncated_dicom(p: SimpleNamespace) -> Any:
    file = first((p.case / "T2SPIR" / "DICOM_anon").glob("*.dcm"))
    cut(file, 0.4)
    return on_chaos(p), (file.name,)


def not_a_dicom(p: SimpleNamespace) -> Any:
    file = first((p.case / "T1DUAL" / "DICOM_anon" / "InPhase").glob("*.dcm"))
    file.write_text("hello")
    return on_chaos(p), (file.name,)


def missing_slice(p: SimpleNamespace) -> Any:
    sorted((p.case / "T2SPIR" / "DICOM_anon").glob("*.dcm"))[4].unlink()
    return on_chaos(p), ("MR/2/T2SPIR",)


def missing_png(p: SimpleNamespace) -> Any:
    sorted((p.case / "T1DUAL" / "Ground").glob("*.png"))[3].unlink()
    return on_chaos(p), ("MR/2/T1DUAL/Ground",)


def missing_modality_chaos(p: SimpleNamespace) -> Any:
    shutil.rmtree(p.case / "T2SPIR")
    return on_chaos(p), ("t2-spir", "--modalities")


def missing_modality_msd(p: SimpleNamespace) -> Any:
    listing(p, modality={"0": "T2", "1": "DWI"})
    return on_prostate(p), ("dataset.json", "adc")


def mask_on_another_grid(p: SimpleNamespace) -> Any:
    rewrite(p.label, lambda a: a[:-1])
    return on_prostate(p), ("labelsTr/prostate_01.nii.gz", "grid")


def unknown_label(p: SimpleNamespace) -> Any:
    rewrite(p.label, lambda a: a.__setitem__((0, 0, 0), 7))
    return on_prostate(p), ("labelsTr/prostate_01.nii.gz", "7")


def unknown_grey_value(p: SimpleNamespace) -> Any:
    from PIL import Image

    file = first((p.case / "T1DUAL" / "Ground").glob("*.png"))
    array = np.array(Image.open(file))
    array[0, 0] = 99
    Image.fromarray(array).save(file)
    return on_chaos(p), (file.name, "99")


def nan_image(p: SimpleNamespace) -> Any:
    rewrite(
        p.image,
        lambda a: a.astype(np.float32) * np.where(np.arange(len(a)) == 0, np.nan, 1)[:, None, None, None],
    )
    return on_prostate(p), ("imagesTr/prostate_01.nii.gz", "NaN")


def constant_image(p: SimpleNamespace) -> Any:
    rewrite(p.image, lambda a: np.full_like(a, 3))
    return on_prostate(p), ("imagesTr/prostate_01.nii.gz", "3")


def empty_folder(p: SimpleNamespace) -> Any:
    (p.root / "empty").mkdir()
    return ("run", "--task", "chaos", "--data-dir", p.root / "empty"), (
        "empty",
        "usbench data download chaos",
    )


def wrong_layout(p: SimpleNamespace) -> Any:
    (p.root / "images").mkdir()
    return ("run", "--task-dir", p.root / "images"), ("images", "dataset.json")


def absent_folder(p: SimpleNamespace) -> Any:
    return ("run", "--task-dir", p.root / "nowhere"), ("nowhere",)


def malformed_listing(p: SimpleNamespace) -> Any:
    p.listing.write_text('{"modality": {"0": "T2"')
    return on_prostate(p), ("dataset.json", "JSON")


def listing_without_modalities(p: SimpleNamespace) -> Any:
    content = json.loads(p.listing.read_text())
    del content["modality"]
    p.listing.write_text(json.dumps(content))
    return on_prostate(p), ("dataset.json", "modality")


def listing_of_absent_files(p: SimpleNamespace) -> Any:
    p.image.unlink()
    return on_prostate(p), ("prostate_01.nii.gz",)


def real_data_absent(p: SimpleNamespace) -> Any:
    return ("run", "--task", "msd-brain", "--data", "real"), ("msd-brain", "usbench data download msd-brain")


def unknown_method(p: SimpleNamespace) -> Any:
    return ("run", "--method", "unett", "--task", "chaos"), ("unett", "did you mean 'unet'")


def unknown_task(p: SimpleNamespace) -> Any:
    return ("run", "--task", "chaoss"), ("chaoss", "did you mean 'chaos'")


def unknown_fusion(p: SimpleNamespace) -> Any:
    return ("run", "--fusion", "hybird", "--task", "chaos"), ("hybird", "did you mean 'hybrid'")


def unknown_modality(p: SimpleNamespace) -> Any:
    return on_prostate(p, "--modalities", "t2,acd"), ("acd", "did you mean 'adc'")


def unknown_setting(p: SimpleNamespace) -> Any:
    return on_prostate(p, "--set", "train.epoch=3"), ("train.epoch", "did you mean 'train.epochs'")


def bad_setting_value(p: SimpleNamespace) -> Any:
    return on_prostate(p, "--set", "train.lr=fast"), ("train.lr", "fast")


def unknown_preset(p: SimpleNamespace) -> Any:
    return ("run", "--task", "chaos", "--preset", "papr"), ("papr", "did you mean 'paper'")


def unknown_option(p: SimpleNamespace) -> Any:
    return ("run", "--taks", "chaos"), ("--taks",)


def fold_out_of_range(p: SimpleNamespace) -> Any:
    return on_prostate(p, "--folds", "7"), ("7", "0 to 2")


def bad_yaml(p: SimpleNamespace) -> Any:
    file = p.root / "settings.yaml"
    file.write_text("train:\n  epochs: [1,\n")
    return on_prostate(p, "--config", file), ("settings.yaml", "line")


def runs_dir_is_a_file(p: SimpleNamespace) -> Any:
    p.runs.write_text("")
    return on_prostate(p), ("runs", "choose another")


def plugin_raises(p: SimpleNamespace) -> Any:
    file = plugin(p, "raise RuntimeError('no licence')")
    return on_prostate(p, "--plugin", file, "--method", "mine"), ("plugin.py", "no licence")


def plugin_absent(p: SimpleNamespace) -> Any:
    return on_prostate(p, "--plugin", p.root / "gone.py"), ("gone.py",)


def plugin_with_wrong_shape(p: SimpleNamespace) -> Any:
    file = plugin(
        p,
        "def build(task, fusion): return nn.Conv2d(2, 5, 1)\n"
        "METHOD = Method('mine', 'none', build_segmenter=build)\n",
    )
    return on_prostate(p, "--plugin", file, "--method", "mine"), ("(", "5", "[B, K, H, W]")


def method_without_the_fusion(p: SimpleNamespace) -> Any:
    file = plugin(
        p,
        "def build(task, fusion): return nn.Conv2d(2, 1, 1)\n"
        "METHOD = Method('mine', 'none', build_segmenter=build, fusions=('late',))\n",
    )
    return on_prostate(p, "--plugin", file, "--method", "mine"), ("mine", "early", "choose late")


def corrupted_checkpoint(p: SimpleNamespace) -> Any:
    folder = cell_folder(p)
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").write_bytes(b"PK\x03\x04 not a checkpoint")
    return on_prostate(p), ("checkpoint.pt", "--overwrite")


def edited_result(p: SimpleNamespace) -> Any:
    folder = finished(p)
    file = folder / "result.json"
    content = json.loads(file.read_text())
    content["scores"]["dsc"] = 0.99
    file.write_text(json.dumps(content))
    return on_prostate(p), ("result.json", "edited", "--overwrite")


def edited_cases(p: SimpleNamespace) -> Any:
    file = finished(p) / "cases.csv"
    file.write_text(file.read_text().replace(",0.", ",0.9", 1) + "\n")
    return on_prostate(p), ("cases.csv", "edited", "--overwrite")


def prepared_data_changed(p: SimpleNamespace) -> Any:
    from usbench.runs.plan import make_cells, make_plan

    plan = make_plan("unet", "early", "msd-prostate", data_dir=p.root / "msd", preset="smoke", device="cpu")
    (cell,) = make_cells(plan, "0", 0, None, None, "32", 1, p.runs)
    file = first(cell.store.path.rglob("images.npy"))
    content = bytearray(file.read_bytes())
    content[-3] ^= 255
    file.write_bytes(content)
    return on_prostate(p), ("images.npy", "overwrite")


def limit_of_one(p: SimpleNamespace) -> Any:
    return on_prostate(p, "--limit", "1"), ("--limit 1",)


def empty_leaderboard(p: SimpleNamespace) -> Any:
    return ("leaderboard", "--runs-dir", p.root / "none"), ("none", "usbench run")


def unknown_format(p: SimpleNamespace) -> Any:
    finished(p)
    return ("leaderboard", "--runs-dir", p.runs, "--format", "xlsx"), ("xlsx",)


def download_without_folder(p: SimpleNamespace) -> Any:
    return ("data", "download", "chaos"), ("--data-dir", "USBENCH_DATA")


def download_that_cannot_be_had(p: SimpleNamespace) -> Any:
    words = ("data", "download", "msd-prostate", "--data-dir", p.root / "new")
    return (*words, "--url", "http://127.0.0.1:9/Task05_Prostate.tar"), ("127.0.0.1:9",)


def download_with_wrong_checksum(p: SimpleNamespace) -> Any:
    (p.root / "Task05_Prostate.tar").write_bytes(b"not the archive")
    words = ("data", "download", "msd-prostate", "--data-dir", p.root / "new")
    return (*words, "--url", f"{serve(p.root)}/Task05_Prostate.tar"), ("Task05_Prostate.tar", "MD5")


FAULTS = [
    truncated_nifti,
    truncated_mask,
    truncated_dicom,
    not_a_dicom,
    missing_slice,
    missing_png,
    missing_modality_chaos,
    missing_modality_msd,
    mask_on_another_grid,
    unknown_label,
    unknown_grey_value,
    nan_image,
    constant_image,
    empty_folder,
    wrong_layout,
    absent_folder,
    malformed_listing,
    listing_without_modalities,
    listing_of_absent_files,
    real_data_absent,
    unknown_method,
    unknown_task,
    unknown_fusion,
    unknown_modality,
    unknown_setting,
    bad_setting_value,
    unknown_preset,
    unknown_option,
    fold_out_of_range,
    bad_yaml,
    runs_dir_is_a_file,
    plugin_raises,
    plugin_absent,
    plugin_with_wrong_shape,
    method_without_the_fusion,
    corrupted_checkpoint,
    edited_result,
    edited_cases,
    prepared_data_changed,
    limit_of_one,
    empty_leaderboard,
    unknown_format,
    download_without_folder,
    download_that_cannot_be_had,
    download_with_wrong_checksum,
]
