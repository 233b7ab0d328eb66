"""What `usbench zeus` does: show instructions, list or run the rows of the ablation tables."""

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

from usbench.errors import UsbenchError

COLUMNS = ("case", "slice", "modality", "class", "text", "fallback", "truncated")


def show_instructions(form: str, limit: int | None, cache_gb: float, **words: Any) -> None:
    """Print the instructions of a task as a table, CSV or JSON, making those that are missing.

    words: of `usbench.running.make_plan`. Where a text belongs to a modality alone, no data is needed.
    """
    rows = instruction_rows(limit, cache_gb, **words)
    if form == "json":
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif form == "csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        click.echo(out.getvalue(), nl=False)
    else:
        from tabulate import tabulate

        shown = [name for name in COLUMNS[:4] if any(row[name] is not None for row in rows)]
        table = [[*(row[name] for name in shown), _marked(row)] for row in rows]
        click.echo(tabulate(table, [*shown, "text"], maxcolwidths=[*(None for _ in shown), 80]))


def _marked(row: dict[str, Any]) -> str:
    marks = [name for name in ("fallback", "truncated") if row[name]]
    return str(row["text"]) + (f" ({', '.join(marks)})" if marks else "")


def instruction_rows(limit: int | None, cache_gb: float, **words: Any) -> list[dict[str, Any]]:
    """The instructions of a task, a dict a text with the keys of `COLUMNS`."""
    import torch

    from usbench.datasets.readers import open_reader
    from usbench.datasets.store import prepare
    from usbench.features import FeatureStore
    from usbench.methods.registry import source_hash
    from usbench.methods.zeus.instructions import Instructions
    from usbench.methods.zeus.model import features
    from usbench.methods.zeus.parts import resolve
    from usbench.running import make_plan

    plan = make_plan("zeus", "late", **words)
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
    ids = open_reader(plan.task, plan.source.root).case_ids()[:limit] if limit else None
    store = prepare(plan.task, plan.source.root, plan.config.data, case_ids=ids)
    wanted = [f for f in features(plan.task, device, **plan.config.method) if f.name == "instruction"]
    stored = FeatureStore(wanted, source_hash(plan.method), plan.task, store, device, cache_gb)
    made = stored.collect(store.case_ids).cases
    return [
        {"case": case_id, **note} for case_id, found in made.items() for note in found.notes["instruction"]
    ]


def run_ablation(table: int, weights: str, fusion: str, dry_run: bool, options: Sequence[str]) -> None:
    """List the commands of a table's rows, or run those that the set of weights allows, one after another."""
    from usbench.methods.zeus.ablation import ablation
    from usbench.methods.zeus.parts import SETS

    if weights not in SETS:
        from usbench.errors import unknown

        raise unknown("set of weights", weights, SETS)
    runnable = []
    for row in ablation(table):
        click.echo(f"Table {row.table}: {row.name}")
        printed = ", ".join(f"{task} {dsc:.2f} / {miou:.2f}" for task, (dsc, miou) in row.printed.items())
        click.echo(f"  reported DSC / mIoU: {printed}")
        if row.note:
            click.echo(f"  {row.note}")
        if lacking := row.lacking(weights):
            click.echo(f"  not with the {weights} weights: they have no {', '.join(lacking)}")
            continue
        for command in row.commands(weights, fusion, [shlex.quote(word) for word in options]):
            click.echo(f"  {command}")
            runnable.append(command)
    if dry_run:
        return
    failed = []
    for command in runnable:
        click.echo(f"running: {command}")
        done = subprocess.run([sys.executable, "-m", "usbench", *shlex.split(command)[1:]])
        if done.returncode in (130, -2):
            raise KeyboardInterrupt
        if done.returncode:
            failed.append(command)
    if failed:
        raise UsbenchError(
            f"{len(failed)} of {len(runnable)} runs failed, first: {failed[0]}; run it by itself to see why"
        )
