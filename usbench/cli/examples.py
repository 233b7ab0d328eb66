"""The examples at the end of each `--help`, by command; a test parses every line of them."""

from __future__ import annotations

import click

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": (
        "usbench run --method unet --fusion late --task chaos   # needs no data: simulated patients",
        "usbench leaderboard                                    # what is finished, as tables",
        "usbench run --help                                     # and so for every command",
    ),
    "run": (
        "usbench run --method unet --fusion late --task chaos",
        "usbench run --method zeus --fusion hybrid --task msd-prostate --data-dir DATA --folds all",
        "usbench run --method unext --task mine.yaml --set train.epochs=30 --dry-run",
    ),
    "matrix": (
        "usbench matrix --methods unet,attunet --fusions all --tasks chaos --folds all --seeds 0,1,2",
        "usbench matrix table.yaml --dry-run",
        "usbench matrix table.yaml --slurm partition=gpu,gpus=1,time=12:00:00 --workers 16",
    ),
    "status": (
        "usbench status",
        "usbench status --runs-dir /shared/runs --watch",
    ),
    "predict": (
        "usbench predict runs/msd-prostate/unet-early --images t2=a.nii.gz adc=b.nii.gz --out masks",
        "usbench predict runs/msd-prostate/unet-early --input PATIENTS --out masks",
    ),
    "evaluate": (
        "usbench evaluate runs --track robustness",
        "usbench evaluate runs/chaos/unet-early --track external --task-dir OTHER --labels liver=leber",
    ),
    "score": (
        "usbench score --predictions MASKS --task msd-prostate --data-dir DATA --name my-net",
        "usbench score --predictions MASKS --task mine.yaml --name my-net --card card.yaml",
    ),
    "leaderboard": (
        "usbench leaderboard",
        "usbench leaderboard --task chaos --format md --out board",
        "usbench leaderboard --columns dsc,hd95,parameters --spread sd --format latex",
        "usbench leaderboard --under parameters=10M,ms=20",
    ),
    "figure": ("usbench figure runs/chaos --cases 5,8:12 --out fig.pdf",),
    "report": (
        "usbench report                             # the newest run below runs/",
        "usbench report runs/chaos-phantom/unet-late/*",
    ),
    "prune": (
        "usbench prune runs --networks --older-than 30 --dry-run",
        "usbench prune runs --unfinished --task chaos --yes",
    ),
    "methods": ("usbench methods", "usbench methods unet zeus --task msd-brain --json"),
    "new": ("usbench new mine", "usbench new mine --dims 3 --pip"),
    "check": ("usbench check mine.py", "usbench check unet --fusion early,late --json"),
    "submit": (
        "usbench submit runs/chaos/unet-late --template card.yaml",
        "usbench submit runs/chaos/unet-late --card card.yaml --out mine.zip",
    ),
    "verify": (
        "usbench verify mine.zip",
        "usbench verify archives/*.zip --data-dir DATA --record",
    ),
    "data": ("usbench data list", "usbench data import MyPatients --out mine.yaml"),
    "data list": ("usbench data list", "usbench data list --data-dir DATA --json"),
    "data download": ("usbench data download msd-prostate --data-dir DATA",),
    "data check": (
        "usbench data check msd-prostate --data-dir DATA",
        "usbench data check mine.yaml --json",
    ),
    "data prepare": (
        "usbench data prepare msd-prostate --data-dir DATA --preset paper",
        "usbench data prepare mine.yaml --verify",
    ),
    "data import": (
        "usbench data import MyPatients --out mine.yaml",
        "usbench data import MyPatients --modality flair='*_flair.nii.gz' --mask '*_seg.nii.gz' "
        "--classes tumour=1,2",
    ),
    "data export": ("usbench data export msd-prostate --to nnunet --out Dataset005_Prostate",),
    "data phantom": ("usbench data phantom chaos PHANTOMS --cases 20",),
    "weights": ("usbench weights list", "usbench weights fetch --set bundled"),
    "weights list": ("usbench weights list", "usbench weights list --json"),
    "weights fetch": ("usbench weights fetch --set bundled",),
    "weights check": ("usbench weights check", "usbench weights check --json"),
    "cache": ("usbench cache list", "usbench cache clear --older-than 30 --dry-run"),
    "cache list": ("usbench cache list", "usbench cache list --json"),
    "cache clear": (
        "usbench cache clear --dry-run                   # all that is made again by itself",
        "usbench cache clear features views --older-than 30",
        "usbench cache clear prepared --task chaos --yes",
    ),
    "zeus": ("usbench zeus instructions --task chaos",),
    "zeus instructions": ("usbench zeus instructions --task chaos --format csv",),
    "zeus ablation": ("usbench zeus ablation 3 --weights bundled --dry-run",),
}
"""By the words after `usbench`, command lines as a person would type them."""


def add_examples(command: click.Command, path: str = "") -> None:
    """Put the examples at the end of the help of a command and of those below it.

    Args:
        command: The command.
        path: The words after `usbench` that call it.
    """
    if path in EXAMPLES:
        # \b keeps click from filling the lines up.
        command.epilog = "\n".join(("\b", "Examples:", *(f"  {line}" for line in EXAMPLES[path])))
    for name, inner in command.commands.items() if isinstance(command, click.Group) else ():
        add_examples(inner, f"{path} {name}".strip())
