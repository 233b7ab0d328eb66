"""The stages, one after the other."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .data import write_dataset
from .plans import make_plans, prepare
from .prediction import outcome, predict, predictor_of
from .shared import ENDING, Fault, Spent, read_sealed, say, set_environment, write_json, write_sealed
from .training import train

FAULT = 3
"""Exit code where the last line says what a user can mend."""
DECIDES = (
    *("train", "test", "channels", "mirror", "seed", "configuration", "epochs", "iterations"),
    *("batch", "planner", "patch", "plan_on"),
)
"""What of a job an earlier start must share for its work to be gone on with."""


def same_job(job: Mapping[str, Any]) -> None:
    """Empties the folders of work and of masks where they are of another job."""
    work = Path(job["work"])
    wanted = {key: job[key] for key in DECIDES}
    kept = work / "decides.json"
    if read_sealed(kept, "the work starts anew") == wanted:
        return
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "job.json":
            path.unlink()
    for mask in Path(job["masks"]).glob(f"*{ENDING}"):
        mask.unlink()
    write_sealed(kept, wanted)


def run(job: Mapping[str, Any]) -> None:
    """Plans, prepares, trains and predicts, whatever of it is not done."""
    same_job(job)
    workers = set_environment(job)
    import torch

    if job["threads"]:
        torch.set_num_threads(job["threads"])
    work = Path(job["work"])
    spent = Spent(work / "spent.json")
    began = time.monotonic()
    folder = write_dataset(job)
    plans = make_plans(job, folder, workers)
    prepare(job, plans, workers)
    spent.add("prepare", time.monotonic() - began, job["device"])
    dataset = json.loads((folder / "dataset.json").read_text())
    final = train(job, plans, dataset, spent)
    predictor = predictor_of(job, plans, dataset, final)
    predict(job, predictor, spent)
    write_json(work / "outcome.json", outcome(job, plans, predictor, spent))
    say("done")


def main() -> None:
    """The job whose file is the one argument."""
    try:
        run(json.loads(Path(sys.argv[1]).read_text()))
    except Fault as fault:
        say("fault", text=str(fault))
        sys.exit(FAULT)
