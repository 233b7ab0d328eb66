"""`usbench zeus`: show instructions, list or run the rows of the ablation tables; heavy imports wait."""

from __future__ import annotations

import csv
import io
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import click

from usbench.cli.echo import echo
from usbench.cli.options import WholeRange, some_options
from usbench.contracts.request import Request
from usbench.errors import UsbenchError
from usbench.storage.tables import for_spreadsheet

COLUMNS = ("case", "slice", "modality", "class", "text", "fallback", "truncated")


def show_instructions(request: Request, form: str, cases: int | None) -> None:
    """Print the instructions of a task, making those that are missing.

    Args:
        request: of method zeus. Where a text belongs to a modality alone, no data is needed.
        form: "table", "csv" or "json".
        cases: how many cases, from the first; None for all.
    """
    rows = instruction_rows(request, cases)
    if form == "json":
        echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif form == "csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: for_spreadsheet(value) for name, value in row.items()} for row in rows)
        echo(out.getvalue(), nl=False)
    else:
        from tabulate import tabulate

        shown = [name for name in COLUMNS[:4] if any(row[name] is not None for row in rows)]
        table = [[*(row[name] for name in shown), _marked(row)] for row in rows]
        echo(tabulate(table, [*shown, "text"], maxcolwidths=[*(None for _ in shown), 80]))


def _marked(row: dict[str, Any]) -> str:
    marks = [name for name in ("fallback", "truncated") if row[name]]
    return str(row["text"]) + (f" ({', '.join(marks)})" if marks else "")


def instruction_rows(request: Request, cases: int | None) -> list[dict[str, Any]]:
    """The instructions of a task, a dict a text with the keys of `COLUMNS`."""
    import torch

    from usbench.datasets.readers.layouts import open_reader
    from usbench.datasets.store import prepare
    from usbench.features.store import FeatureStore
    from usbench.methods.registry import source_hash
    from usbench.methods.zeus.frozen import features
    from usbench.methods.zeus.instructions import Instructions
    from usbench.methods.zeus.parts import resolve
    from usbench.runs.needed import weights_of_request
    from usbench.runs.plan import make_plan
    from usbench.weights.needed import require_weights

    require_weights(weights_of_request(request))
    plan = make_plan(request)
    parts = resolve(plan.config.method)
    if parts.instruction not in ("text", "fixed"):
        raise UsbenchError(
            f"method.instruction={parts.instruction} has no text to show; use method.instruction=text"
        )
    device = torch.device(plan.device)
    if parts.per == "modality" or parts.instruction == "fixed":
        maker = Instructions(plan.task, parts, device)
        _, notes = maker.compute(torch.zeros(1, len(plan.task.modalities), 1, 1))
        maker.free()
        return [{"case": None, **note} for note in notes]
    ids = open_reader(plan.task, plan.task_data.root).case_ids()[:cases] if cases else None
    store = prepare(plan.task, plan.task_data.root, plan.config.data, case_ids=ids)
    wanted = [f for f in features(plan.task, device, **plan.config.method) if f.name == "instruction"]
    stored = FeatureStore(wanted, source_hash(plan.method), plan.task, store, device, request.cache_gb)
    made = stored.collect(store.case_ids).cases
    return [
        {"case": case_id, **note} for case_id, found in made.items() for note in found.notes["instruction"]
    ]


def run_ablation(table: int, weights: str, fusion: str, dry_run: bool, options: Sequence[str]) -> None:
    """List the commands of a table's rows, or run those that the set of weights allows, one after another."""
    from usbench.methods.zeus.ablation import ablation
    from usbench.methods.zeus.parts import SETS
    from usbench.runs.needed import weights_of_request
    from usbench.weights.needed import require_weights

    if weights not in SETS:
        from usbench.errors import unknown

        raise unknown("set of weights", weights, SETS)
    runnable = []
    for row in ablation(table):
        echo(f"Table {row.table}: {row.name}")
        printed = ", ".join(f"{task} {dsc:.2f} / {miou:.2f}" for task, (dsc, miou) in row.printed.items())
        echo(f"  reported DSC / mIoU: {printed}")
        if row.note:
            echo(f"  {row.note}")
        if lacking := row.lacking(weights):
            echo(f"  not with the {weights} weights: they have no {', '.join(lacking)}")
            continue
        for command in row.commands(weights, fusion, [shlex.quote(word) for word in options]):
            echo(f"  {command}")
            runnable.append(command)
    if dry_run:
        return
    require_weights(name for command in runnable for name in weights_of_request(_request_of(command)))
    failed = []
    for command in runnable:
        echo(f"running: {command}")
        done = subprocess.run([sys.executable, "-m", "usbench", *shlex.split(command)[1:]])
        if done.returncode in (130, -2):
            raise KeyboardInterrupt
        if done.returncode:
            failed.append(command)
    if failed:
        raise UsbenchError(
            f"{len(failed)} of {len(runnable)} runs failed, first: {failed[0]}; run it by itself to see why"
        )


def _request_of(command: str) -> Request:
    """The request of a `usbench run ...`."""
    from usbench.cli.run import run

    options = dict(run.make_context("run", shlex.split(command)[2:]).params)
    options.pop("dry_run")
    return Request(**options)


@click.group()
def zeus() -> None:
    """Zeus: the instructions of its language model, and the ablations of its paper."""


@zeus.command("instructions")
@some_options(
    *("task", "task_dir", "data_dir", "data", "modalities", "merge_labels", "preset", "settings", "device"),
    *("plugins", "cache_gb"),
)
@click.option("--limit", "cases", type=WholeRange(min=1), metavar="N", help="The first N cases only.")
@click.option("--format", "form", default="table", type=click.Choice(["table", "csv", "json"]))
def zeus_instructions(cases: int | None, form: str, **options: Any) -> None:
    """Show what the language model says of each modality and class, as `run` with the same words uses it."""
    show_instructions(Request(method="zeus", **options), form, cases)


@zeus.command("ablation", context_settings={"ignore_unknown_options": True})
@click.argument("table", type=click.Choice(["3", "4", "5"]))
@click.option("--weights", default="paper", show_default=True, help="Set of weights: paper or bundled.")
@click.option("--fusion", default="late", show_default=True, help="hybrid or late.")
@click.option("--dry-run", is_flag=True, help="List the commands, run nothing.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def zeus_ablation(table: str, weights: str, fusion: str, dry_run: bool, options: tuple[str, ...]) -> None:
    """Run the rows of the paper's Table 3, 4 or 5; OPTIONS are added to every `usbench run`."""
    run_ablation(int(table), weights, fusion, dry_run, options)
