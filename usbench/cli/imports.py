"""`usbench data import` and `usbench data export`: between other layouts and tasks; heavy imports wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from usbench.cli.echo import echo
from usbench.cli.options import plugin_option, some_options
from usbench.contracts.request import Request
from usbench.errors import UsbenchError
from usbench.runtime.console import count, say


def import_task(
    place: Path, out: Path, kind: str, words: dict[str, str], overwrite: bool, **lists: tuple[str, ...]
) -> None:
    """Write the task file of a folder or a table, show what matched, and draw the first case.

    Args:
        place: the folder or the CSV file.
        out: the task file.
        kind: the layout, "" for that which is recognised.
        words: the options name, mask and session.
        overwrite: whether files may be there already.
        lists: the options modalities and classes, as words NAME=VALUE.
    """
    from usbench.datasets.imports.make import Asked, make_task_file, parse_labels, parse_pairs
    from usbench.datasets.readers.recognise import KINDS
    from usbench.pages.import_picture import draw_first_case

    picture = out.with_suffix(".png")
    if picture.exists() and not overwrite:
        raise UsbenchError(f"{picture}: is there already; name another file with --out, or add --overwrite")
    asked = Asked(
        kind=kind,
        modalities=parse_pairs("--modality", lists["modalities"]),
        classes=parse_labels(lists["classes"]),
        **words,
    )
    found = make_task_file(place, out, asked, overwrite)
    task, proposal = found.task, found.proposal
    echo(f"{proposal.folder}: {KINDS[proposal.kind]}, {count(found.cases, 'case')}")
    rows = found.table()
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, pattern, found_in in rows:
        echo(f"  {name:{widths[0]}}  {pattern:{widths[1]}}  {found_in}")
    word = "regions" if task.regions else "classes"
    echo(f"  {word}: " + ", ".join(f"{c.name} ({', '.join(map(str, c.labels))})" for c in task.classes))
    if found.values:
        listed = ", ".join(
            f"{value} in {count(number, 'mask')}" for value, number in sorted(found.values.items())
        )
        echo(f"  values in the masks: {listed}; name the classes in the file, or with --classes")
    for pattern, number in sorted(proposal.unused.items()):
        echo(f"  not used: {pattern} ({count(number, 'case')})")
    for case, why in found.exclude.items():
        echo(f"  left out: {case} ({why})")
    for note in proposal.notes:
        say(note)
    echo(f"{out}: task {task.name}; use it with: usbench run --task {out}")
    assert task.files is not None
    case = draw_first_case(task, task.files.folder, picture)
    echo(f"{picture}: case {case}; look whether its mask lies on what it outlines")


@click.command("import")
@click.argument("place", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--out", default="task.yaml", show_default=True, type=click.Path(path_type=Path), help="The task file."
)
@click.option(
    "--as",
    "kind",
    default="",
    metavar="KIND",
    help="folders, nnunet, bids, csv or msd (default: as it looks).",
)
@click.option("--name", default="", help="Name of the task (default: that of the folder).")
@click.option(
    "--modality",
    "modalities",
    multiple=True,
    metavar="NAME=PATTERN",
    help="Files of a modality, such as flair='*_flair.nii.gz'; of a table, its column. May be repeated.",
)
@click.option("--mask", default="", metavar="PATTERN", help="Files of the masks, likewise.")
@click.option(
    "--classes",
    multiple=True,
    metavar="NAME=VALUES",
    help="Values in the masks, such as tumour=1,2; regions where they overlap. May be repeated.",
)
@click.option("--session", default="", help="The session to take, where subjects of BIDS have several.")
@click.option("--overwrite", is_flag=True, help="Replace a task file and a picture that are there.")
def data_import(
    place: Path,
    out: Path,
    kind: str,
    name: str,
    modalities: tuple[str, ...],
    mask: str,
    classes: tuple[str, ...],
    session: str,
    overwrite: bool,
) -> None:
    """Describe the data in FOLDER (or a CSV file) as a task, in a file that every command takes.

    Folders of patients, nnU-Net raw data, BIDS, tables and the Decathlon are recognised. Nothing is copied or
    changed.
    """
    words = {"name": name, "mask": mask, "session": session}
    import_task(place, out, kind, words, overwrite, modalities=modalities, classes=classes)


def export_task(request: Request, to: str, out: Path) -> None:
    """Write a task's data in another layout and say where.

    Args:
        request: names the task and its data.
        to: "nnunet" or "msd".
        out: the new folder.
    """
    from usbench.datasets.exports import export
    from usbench.runs.plan import find_task_data, make_task
    from usbench.storage.files import at_home

    if (request.task is None) == (request.task_dir is None):
        raise UsbenchError("name a task (see usbench data list), a task file or --task-dir, one of them")
    task = make_task(request)
    data = find_task_data(task, request)
    say(data.notice)
    cases = export(task, data.root, to, at_home(out))
    echo(f"{out}: {count(cases, 'case')} of {task.name} for {to}")


@click.command("export")
@click.argument("task", required=False)
@click.option(
    "--to", required=True, metavar="LAYOUT", help="nnunet (raw data, version 2) or msd (Decathlon)."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="A new folder, as Dataset101_Name."
)
@some_options("task_dir", "data_dir", "data", "modalities", "merge_labels")
@plugin_option
def data_export(to: str, out: Path, **options: Any) -> None:
    """Write the cases of TASK (a name or a task file) in the layout of nnU-Net or of the Decathlon."""
    export_task(Request(**options), to, out)
