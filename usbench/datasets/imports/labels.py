"""The values in the masks of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from usbench.contracts.problem import fail
from usbench.datasets.imports.proposal import Part
from usbench.datasets.readers.nifti import nifti_errors, open_nifti
from usbench.errors import UsbenchError
from usbench.runtime.console import count, track

# A picture has more values than this, a mask hardly ever.
_MOST = 64


def values_in(masks: Mapping[str, Path]) -> Counter[int]:
    """In how many masks each value besides 0 stands.

    Args:
        masks: by case, the file of its mask.

    Raises:
        UsbenchError: naming the file that cannot be read, holds fractions, or has too many values for a mask.
    """
    import numpy as np

    found: Counter[int] = Counter()
    for case, file in track(masks.items(), "looking at the masks", len(masks)):
        with nifti_errors(case, file, fail), open_nifti(file) as (proxy, _):
            values = np.unique(np.asarray(proxy[...]))
        whole = np.round(values)
        if not np.isfinite(values).all() or np.abs(values - whole).max() > 1e-3 or values.min() < 0:
            odd = next(v for v in values if not np.isfinite(v) or abs(v - round(float(v))) > 1e-3 or v < 0)
            what = f"holds {odd:g}, and a mask has whole numbers from 0"
            raise UsbenchError(f"{file}: {what}; check that it is the mask (--mask)")
        if len(values) > _MOST:
            what = f"holds {count(values, 'different value')}, more than a mask has"
            raise UsbenchError(f"{file}: {what}; check that it is the mask (--mask)")
        found.update(int(value) for value in whole if value)
    if not found:
        raise UsbenchError("the masks hold nothing but 0; check that they are the masks (--mask)")
    return found


def proposed(values: Counter[int]) -> dict[str, Part]:
    """A class for each value, named after it."""
    return {f"label-{value}": Part((value,), f"label {value}") for value in sorted(values)}
