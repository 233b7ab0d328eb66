"""`usbench predict`; heavy imports wait."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click

from usbench.cli.echo import echo
from usbench.cli.options import plugin_option, split_names
from usbench.errors import UsbenchError

_ASSIGNMENT = re.compile(r"([^=/\\]+)=(.+)")


@click.command()
@click.argument("runs", nargs=-1, metavar="RUNS...")
@click.option(
    "--images",
    multiple=True,
    metavar="NAME=FILE...",
    help="The files of one patient, a modality each: flair=a.nii.gz t1=b.nii.gz. FILE is NIfTI (a.nii.gz:0 "
    "for the first of several volumes) or the folder of a DICOM series.",
)
@click.option(
    "--input",
    "source",
    metavar="FOLDER|task.yaml",
    help="In place of --images: a folder of patients or of one, data in the task's layout, or a task file.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The folder to write into.")
@click.option("--case", help="What the patient of --images is called (default: after the first file).")
@click.option("--cases", metavar="A,B", help="Of the patients in --input, which (default: all).")
@click.option("--probabilities", is_flag=True, help="Also write the probability of each class.")
@click.option(
    "--dicom-seg",
    is_flag=True,
    help="Also write a DICOM Segmentation, where the scans are DICOM series (pip install 'usbench[dicom]').",
)
@click.option("--resample", is_flag=True, help="Bring scans on another grid onto that of the first modality.")
@click.option(
    "--allow-missing", is_flag=True, help="Predict patients that lack a modality; it is then zeros."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@plugin_option
@click.option("--overwrite", is_flag=True, help="Replace what is in --out.")
def predict(
    runs: tuple[str, ...],
    images: tuple[str, ...],
    source: str | None,
    out: Path | None,
    case: str | None,
    cases: str | None,
    probabilities: bool,
    dicom_seg: bool,
    resample: bool,
    allow_missing: bool,
    device: str,
    plugins: tuple[Path, ...],
    overwrite: bool,
) -> None:
    """Segment new patients with the networks of finished runs.

    RUNS are folders of runs that kept their network, or folders that hold them; several of one task are
    averaged. Each patient gets a mask on the own grid (CASE.nii.gz) and a picture (CASE.png), and
    predictions.json says what the values mean. A command that was stopped goes on where it was.
    """
    folders, files = sort_words(runs, images)
    if not folders or out is None:
        what = "the runs" if not folders else "--out"
        raise UsbenchError(
            f"name {what}: usbench predict RUNS... (--images NAME=FILE... | --input FOLDER) --out DIR"
        )
    from usbench.predictions.start import predict as start

    found = start(
        folders,
        images=files or None,
        input=source,
        out=out,
        case=case,
        cases=split_names(cases),
        probabilities=probabilities,
        dicom_seg=dicom_seg,
        resample=resample,
        allow_missing=allow_missing,
        device=device,
        plugins=plugins,
        overwrite=overwrite,
    )
    for entry in found["cases"].values():
        volumes = ", ".join(f"{part} {ml:.1f} ml" for part, ml in entry["ml"].items())
        echo(f"{out / entry['files'][0]}: {volumes} ({entry['ms_per_slice']:.1f} ms a slice)")


def sort_words(runs: Sequence[str], images: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Which words are runs, and which are files of a patient.

    A shell gives `--images flair=a.nii.gz t1=b.nii.gz` as an option and a further word. Such a word is a
    file, unless there is a folder of that name.

    Args:
        runs: The words without an option.
        images: Those of --images.

    Returns:
        The folders of runs, and the files by modality.

    Raises:
        UsbenchError: For a word that is no NAME=FILE, and a modality that is named twice.
    """
    folders = []
    words = list(images)
    for word in runs:
        if images and _ASSIGNMENT.fullmatch(word) and not Path(word).exists():
            words.append(word)
        else:
            folders.append(word)
    files: dict[str, str] = {}
    for word in words:
        fits = _ASSIGNMENT.fullmatch(word)
        if fits is None:
            raise UsbenchError(f"--images {word}: is no NAME=FILE; write the modality, such as t1={word}")
        if fits[1] in files:
            raise UsbenchError(f"--images {word}: {fits[1]} is given twice ({files[fits[1]]}); name one file")
        files[fits[1]] = fits[2]
    return folders, files
