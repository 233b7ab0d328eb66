"""MSD Task01: the whole tumour on FLAIR, T1, contrast-enhanced T1 and T2 of 484 people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from usbench.contracts.data import Download, Modality, Phantom, Structure, Task
from usbench.datasets.splits import fixed_folds

_CASE_IDS = tuple(f"BRATS_{number:03d}" for number in range(1, 485))


def _write_phantom(folder: Path, case_id: str, seed: int, index: int) -> None:
    from usbench.datasets.phantom.msd import write_brain

    write_brain(folder, case_id, seed, index)


def _second_scanner(folder: Path, case_id: str, seed: int, index: int) -> None:
    from usbench.datasets.phantom.msd import write_brain_again

    write_brain_again(folder, case_id, seed, index)


def _write_index(folder: Path, case_ids: Sequence[str]) -> None:
    from usbench.datasets.phantom.msd import write_brain_index

    write_brain_index(folder, case_ids)


TASK = Task(
    name="msd-brain",
    title="Brain tumour on FLAIR, T1, T1 with contrast and T2 (Medical Segmentation Decathlon, Task01)",
    folder="Task01_BrainTumour",
    modalities=(
        Modality("flair", "T2-FLAIR MRI", aliases=("FLAIR",)),
        Modality("t1", "T1-weighted MRI", aliases=("T1w",)),
        Modality("t1gd", "contrast-enhanced T1-weighted MRI", aliases=("T1gd", "T1ce")),
        Modality("t2", "T2-weighted MRI", aliases=("T2w",)),
    ),
    # 1 oedema, 2 non-enhancing tumour, 3 enhancing tumour.
    classes=(Structure("tumour", "brain tumour", labels=(1, 2, 3)),),
    case_ids=_CASE_IDS,
    slices=len(_CASE_IDS) * 155,
    folds=fixed_folds("msd-brain"),
    phantom=Phantom(_CASE_IDS, _write_phantom, _write_index, _second_scanner),
    published="brain",
    nsd_tolerance_mm=1.0,
    tolerance_reason="one voxel: the images are on a 1 mm grid",
    mirrors=True,
    licence="CC BY-SA 4.0",
    citation=(
        "Antonelli M, Reinke A, Bakas S, et al. The Medical Segmentation Decathlon. "
        "Nature Communications 13:4128, 2022. doi:10.1038/s41467-022-30695-9"
    ),
    homepage="http://medicaldecathlon.com",
    download=Download(
        url="https://msd-for-monai.s3-us-west-2.amazonaws.com/Task01_BrainTumour.tar",
        bytes=None,
        md5="240a19d752f0d9e9101544901065d872",
    ),
)
