"""CHAOS: four abdominal organs on T1-DUAL (in and out of phase) and T2-SPIR MRI of 20 people."""

from __future__ import annotations

from pathlib import Path

from usbench.contracts.data import Download, Modality, Phantom, Structure, Task
from usbench.datasets.splits import fixed_folds

_CASE_IDS = tuple(str(n) for n in (1, 2, 3, 5, 8, 10, 13, 15, 19, 20, 21, 22, 31, 32, 33, 34, 36, 37, 38, 39))


def _write_phantom(folder: Path, case_id: str, seed: int, index: int) -> None:
    from usbench.datasets.phantom.chaos import write_case

    write_case(folder, case_id, seed, index)


def _second_scanner(folder: Path, case_id: str, seed: int, index: int) -> None:
    from usbench.datasets.phantom.chaos import write_case_again

    write_case_again(folder, case_id, seed, index)


TASK = Task(
    name="chaos",
    title="Abdominal organs on T1-DUAL and T2-SPIR MRI (CHAOS)",
    reader="chaos",
    folder="Train_Sets/MR",
    modalities=(
        Modality("t1-in", "T1-weighted in-phase MRI", aliases=("T1DUAL-InPhase", "InPhase")),
        Modality("t1-out", "T1-weighted out-of-phase MRI", aliases=("T1DUAL-OutPhase", "OutPhase")),
        Modality("t2-spir", "T2-SPIR MRI", aliases=("T2SPIR",)),
    ),
    # The grey-value ranges of the challenge's own evaluation.
    classes=(
        Structure("liver", "liver", ranges=((55, 70),)),
        Structure("right-kidney", "right kidney", ranges=((110, 135),)),
        Structure("left-kidney", "left kidney", ranges=((175, 200),)),
        Structure("spleen", "spleen", ranges=((240, 255),)),
    ),
    case_ids=_CASE_IDS,
    folds=fixed_folds("chaos"),
    phantom=Phantom(_CASE_IDS, _write_phantom, second_scanner=_second_scanner),
    published="chaos",
    nsd_tolerance_mm=2.0,
    tolerance_reason="a little more than one pixel in the plane of the scans: an outline off by one is right",
    licence="CC BY-NC-SA 4.0",
    citation=(
        "Kavur AE, Gezer NS, Baris M, et al. CHAOS Challenge - combined (CT-MR) healthy abdominal organ "
        "segmentation. Medical Image Analysis 69:101950, 2021. doi:10.1016/j.media.2020.101950"
    ),
    homepage="https://chaos.grand-challenge.org",
    download=Download(
        url="https://zenodo.org/records/3431873/files/CHAOS_Train_Sets.zip",
        bytes=890_771_694,
        md5="df21053002a1cc86df918a87da3b2c19",
        sha256="535f7d3417a0e0f0d9133fb3d962423d2a9cf3f103e4f09a3d8a1daf87d5d2fc",
    ),
)
