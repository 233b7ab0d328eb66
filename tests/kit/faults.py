"""Forty-odd faults of data, words and files, and what the one line of the error must name."""

from __future__ import annotations

import functools
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kit.damaged_data import (
    absent_folder,
    constant_image,
    empty_folder,
    listing_of_absent_files,
    listing_without_modalities,
    malformed_listing,
    mask_on_another_grid,
    missing_modality_chaos,
    missing_modality_msd,
    missing_png,
    missing_slice,
    nan_image,
    not_a_dicom,
    on_prostate,
    truncated_dicom,
    truncated_mask,
    truncated_nifti,
    unknown_grey_value,
    unknown_label,
    wrong_layout,
)

PLUGIN_HEAD = "import torch\nfrom torch import nn\nfrom usbench import Method\n"


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
    from usbench.contracts.request import Request
    from usbench.runs.plan import make_cells, make_plan

    request = Request(
        fusion="early",
        task="msd-prostate",
        data_dir=place.root / "msd",
        folds="0",
        preset="smoke",
        settings={"train.epochs": 1},
        runs_dir=place.runs,
    )
    (cell,) = make_cells(make_plan(request))
    return cell.folder


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
    edited_result,
    edited_cases,
    limit_of_one,
    empty_leaderboard,
    unknown_format,
    download_without_folder,
    download_that_cannot_be_had,
    download_with_wrong_checksum,
]
