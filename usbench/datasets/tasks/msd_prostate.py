"""MSD Task05: the prostate (both zones together) on T2 and ADC of 32 people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from usbench.contracts.data import Download, Modality, Phantom, Structure, Task
from usbench.datasets.splits import fixed_folds

_NUMBERS = "00 01 02 04 06 07 10 13 14 16 17 18 20 21 24 25 28 29 31 32 34 35 37 38 39 40 41 42 43 44 46 47"
_CASE_IDS = tuple(f"prostate_{number}" for number in _NUMBERS.split())


def _write_phantom(folder: Path, case_id: str, seed: int, index: int) -> None:
    from usbench.datasets.phantom.msd import write_prostate

    write_prostate(folder, case_id, seed, index)


def _second_scanner(folder: Path, case_id: str, seed: int, index: int) -> None:
    from usbench.datasets.phantom.msd import write_prostate_again

    write_prostate_again(folder, case_id, seed, index)


def _write_index(folder: Path, case_ids: Sequence[str]) -> None:
    from usbench.datasets.phantom.msd import write_prostate_index

    write_prostate_index(folder, case_ids)


TASK = Task(
    name="msd-prostate",
    title="Prostate on T2 and ADC (Medical Segmentation Decathlon, Task05)",
    folder="Task05_Prostate",
    modalities=(
        Modality("t2", "T2-weighted MRI", aliases=("T2", "T2w")),
        Modality("adc", "apparent diffusion coefficient map", aliases=("ADC",)),
    ),
    # 1 peripheral zone, 2 transition zone; some cases have no transition zone, all have a prostate.
    classes=(Structure("prostate", "prostate", labels=(1, 2)),),
    case_ids=_CASE_IDS,
    folds=fixed_folds("msd-prostate"),
    phantom=Phantom(_CASE_IDS, _write_phantom, _write_index, _second_scanner),
    published="prostate",
    nsd_tolerance_mm=2.0,
    tolerance_reason="a few pixels in the plane, less than the thickness of one slice",
    mirrors=True,
    licence="CC BY-SA 4.0",
    citation=(
        "Antonelli M, Reinke A, Bakas S, et al. The Medical Segmentation Decathlon. "
        "Nature Communications 13:4128, 2022. doi:10.1038/s41467-022-30695-9"
    ),
    homepage="http://medicaldecathlon.com",
    download=Download(
        url="https://msd-for-monai.s3-us-west-2.amazonaws.com/Task05_Prostate.tar",
        bytes=None,
        md5="35138f08b1efaef89d7424d2bcc928db",
    ),
)
