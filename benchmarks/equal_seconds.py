"""Networks of slices beside networks of volumes, each trained for about as many seconds.

Usage: python benchmarks/equal_seconds.py RUNS [--seconds 40] [--task msd-prostate] [--folds 0]
       python benchmarks/equal_seconds.py RUNS --task-dir FOLDER --merge-labels tumour --fusions early
       python benchmarks/equal_seconds.py RUNS --task chaos --data-dir DATA --modalities t2-spir
           --fusions early --methods unet,unet+method.pretrained=bundled

Two epochs of each method and fusion tell how long one takes; then each is trained for the whole number of
epochs that comes nearest to the seconds. Epochs cannot be compared between the two kinds, and none is cut
short, so the seconds are equal to within an epoch: the table's column of training says what they were. What
is finished is not computed again: killed and started again it goes on. Settings of one method alone stand
behind it, each after a plus sign.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from usbench.methods.registry import get_method

METHODS = "unet,unet3d,segresnet,unetr,swin-unetr,dynunet,medvisionllama"
VOLUMES = {"medvisionllama": ["volume.mode=whole"]}
"""What each sees, beyond `--volume`: all others are trained on patches."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path, help="of the results; epochs.json there keeps the epochs")
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--fusions", default="early,hybrid,late")
    parser.add_argument("--task", default="msd-prostate", help="its phantom, without --data-dir")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--modalities")
    parser.add_argument("--task-dir", type=Path)
    parser.add_argument("--merge-labels")
    parser.add_argument("--folds", default="0")
    parser.add_argument("--seed", default="0", help="of the runs; the trials' is 0")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--set", action="append", default=[], help="for every method")
    parser.add_argument("--volume", action="append", default=[], help="settings for methods of volumes alone")
    words = parser.parse_args()
    for entry in words.methods.split(","):
        method, *own = entry.split("+")
        for fusion in words.fusions.split(","):
            settings = [*words.set, *own]
            if get_method(method)[0].dims == 3:
                settings += VOLUMES.get(method, []) + words.volume
            epochs = epochs_of(words, entry, method, fusion, settings)
            run(words, words.runs, method, fusion, words.folds, epochs, settings, words.seed)


def epochs_of(words: argparse.Namespace, entry: str, method: str, fusion: str, settings: list[str]) -> int:
    """The epochs that take nearest to `--seconds`, measured once and kept beside the results."""
    kept = words.runs / "epochs.json"
    known: dict[str, int] = json.loads(kept.read_text()) if kept.is_file() else {}
    key = f"{words.task_dir.name if words.task_dir else words.task} {entry} {fusion} {words.seconds:g}"
    if key not in known:
        trial = words.runs.with_name(f"{words.runs.name}-trial") / key.replace(" ", "-")
        run(words, trial, method, fusion, "0", 2, settings)
        (result,) = trial.rglob("result.json")
        seconds = json.loads(result.read_text())["cost"]["train_seconds"] / 2
        known[key] = max(1, round(words.seconds / seconds))
        words.runs.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(known, indent=1) + "\n")
        print(f"{key}: {seconds:.1f} s an epoch, so {known[key]} epochs", flush=True)
    return known[key]


def run(
    words: argparse.Namespace,
    runs: Path,
    method: str,
    fusion: str,
    folds: str,
    epochs: int,
    settings: list[str],
    seed: str = "0",
) -> None:
    """One row of the table, by the command line."""
    command = [sys.executable, "-m", "usbench", "run", "--method", method, "--fusion", fusion]
    command += ["--seed", seed]
    command += ["--folds", folds, "--preset", words.preset, "--device", "cpu", "--runs-dir", str(runs)]
    if words.task_dir:
        command += ["--task-dir", str(words.task_dir), "--merge-labels", words.merge_labels]
    elif words.data_dir:
        command += ["--task", words.task, "--data", "real", "--data-dir", str(words.data_dir)]
    else:
        command += ["--task", words.task, "--data", "phantom"]
    if words.modalities:
        command += ["--modalities", words.modalities]
    for setting in [*settings, f"train.epochs={epochs}", f"train.patience={epochs}"]:
        command += ["--set", setting]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
