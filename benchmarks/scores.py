"""Time all scores of one 240x240x155 case against MONAI's four metrics, and check that they agree.

Run `python benchmarks/scores.py`. The case is a whole tumour: with `USBENCH_REAL_DATA` set the first
glioma below it, else a synthetic one of about 190,000 voxels; the prediction is a perturbed copy.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from usbench.scores.case import score_case
from usbench.scores.registry import all_scores

SHAPE, TOLERANCE_MM, REPEATS = (240, 240, 155), 2.0, 5


def smooth_noise(seed: int) -> np.ndarray:
    """A smooth random field of unit variance on the case's grid."""
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32), 5)
    return np.asarray(field / field.std())


def ellipsoid() -> np.ndarray:
    """An ellipsoid with a rough border, about the size of a whole glioma."""
    axes = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    reach = sum(((x - c) / r) ** 2 for x, c, r in zip(axes, (100, 130, 80), (38, 41, 29), strict=True))
    return np.asarray(reach + 0.25 * smooth_noise(0) < 1)


def perturbed(truth: np.ndarray) -> np.ndarray:
    """`truth` with its border moved in and out by some millimetres."""
    from scipy.ndimage import distance_transform_edt

    signed = distance_transform_edt(~truth) - distance_transform_edt(truth)
    return np.asarray(signed + 1.5 * smooth_noise(1) < 0.5)


def the_case() -> tuple[str, np.ndarray, tuple[float, float, float]]:
    """The name, true mask and spacing in mm of the case to score."""
    root = os.environ.get("USBENCH_REAL_DATA")
    for file in sorted(Path(root).glob("msd/*Glioma*/labelsTr/[!.]*.nii.gz")) if root else []:
        import nibabel

        image: Any = nibabel.load(file)  # type: ignore[attr-defined]
        x, y, z = (float(v) for v in image.header.get_zooms()[:3])
        return f"glioma {file.name}", np.asarray(image.dataobj) > 0, (x, y, z)
    return "synthetic tumour", ellipsoid(), (1.0, 1.0, 1.0)


def fastest(run: Callable[[], Any]) -> tuple[float, Any]:
    """The shortest of several runs in seconds, after one that is not counted, and the result."""
    result = run()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    return min(times), result


def main() -> None:
    """Print both times and their ratio; fail if the scores differ by more than 1e-5."""
    import torch
    from monai.metrics.hausdorff_distance import HausdorffDistanceMetric
    from monai.metrics.meandice import DiceMetric
    from monai.metrics.meaniou import MeanIoU
    from monai.metrics.surface_dice import SurfaceDiceMetric

    warnings.filterwarnings("ignore", module="monai")
    name, truth, spacing = the_case()
    prediction = perturbed(truth)
    # Each side gets the form that it takes: a label map, and a one-hot tensor made beforehand.
    labels = prediction.astype(np.uint8), truth.astype(np.uint8)
    pair = [
        torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32)) for mask in (prediction, truth)
    ]

    def by_monai() -> list[Any]:
        return [
            DiceMetric(include_background=False)(*pair),
            MeanIoU(include_background=False)(*pair),
            HausdorffDistanceMetric(include_background=False, percentile=95)(*pair, spacing=spacing),
            SurfaceDiceMetric([TOLERANCE_MM], include_background=False)(*pair, spacing=spacing),
        ]

    ours, rows = fastest(lambda: score_case(*labels, ["tumour"], spacing, TOLERANCE_MM))
    theirs, expected = fastest(by_monai)
    row = rows[0]
    reference = [score.item() for score in expected]
    compared = [row.scores[name] for name in ("dsc", "iou", "hd95", "nsd")]
    np.testing.assert_allclose(compared, reference, rtol=1e-6, atol=1e-5)
    print(f"case     {name}, {truth.shape}, {int(truth.sum())} voxels, {torch.get_num_threads()} threads")
    print("scores   " + "  ".join(f"{s.heading} {row.scores[s.name]:.4f}" for s in all_scores()))
    print(f"usbench  {ours * 1000:7.1f} ms   all scores and counts")
    print(f"MONAI    {theirs * 1000:7.1f} ms   DSC, IoU, HD95, NSD; they agree to 1e-5")
    print(f"ratio    {theirs / ours:7.1f}")


if __name__ == "__main__":
    main()
