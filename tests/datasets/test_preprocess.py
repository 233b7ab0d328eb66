"""Normalising and resizing, against numpy, torch and a threshold known beforehand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from usbench.contracts.data import Case
from usbench.contracts.settings import DataSettings
from usbench.datasets.preprocess import (
    PREPARATION,
    corner_value,
    foreground,
    foreground_statistics,
    intensity_scale,
    nearest_index,
    otsu,
    prepare_arrays,
    resize_image,
    resize_masks,
)
from usbench.errors import UsbenchError


@pytest.mark.parametrize(("length", "size"), [(240, 128), (19, 64), (256, 256), (384, 96), (7, 3)])
def test_nearest_is_torchs_exact_nearest(length: int, size: int) -> None:
    torch = pytest.importorskip("torch")
    line = torch.arange(length, dtype=torch.float64)[None, None]
    wanted = torch.nn.functional.interpolate(line, size=size, mode="nearest-exact")[0, 0].numpy()
    np.testing.assert_array_equal(nearest_index(length, size), wanted)


@pytest.mark.parametrize(("side", "size"), [(60, 32), (48, 24), (21, 50)])
def test_area_is_torchs_antialiased_bilinear(side: int, size: int) -> None:
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None, None], size=(size, size), mode="bilinear", antialias=True
    )[0, 0].numpy()
    np.testing.assert_allclose(resize_image(image, size, "area"), wanted, atol=1e-5)


@pytest.mark.parametrize("how", ["area", "nearest"])
@pytest.mark.parametrize(("side", "size"), [(64, 24), (30, 48)])
def test_image_and_mask_stay_on_each_other(how: str, side: int, size: int) -> None:
    """The centre of gravity of a disc is the same in both, to a small part of a pixel."""
    y, x = np.mgrid[:side, :side]
    disc = ((y - side * 0.4) ** 2 + (x - side * 0.6) ** 2 < (side * 0.2) ** 2).astype(np.uint8)
    image = resize_image(disc.astype(np.float32), size, how)
    mask = resize_masks(disc[None], size)[0]
    rows, columns = np.mgrid[:size, :size]
    for axis in (rows, columns):
        assert abs((image * axis).sum() / image.sum() - (mask * axis).sum() / mask.sum()) < 0.15


def test_otsu_parts_two_known_peaks() -> None:
    """Against the definition: the threshold with the least variance within the two parts."""
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(20, 5, 30_000), rng.normal(100, 12, 20_000)]).astype(np.float32)
    threshold = otsu(values)
    assert threshold is not None

    def within(t: float) -> float:
        low, high = values[values <= t], values[values > t]
        return float(low.size * low.var() + high.size * high.var())

    best = min(np.linspace(values.min(), values.max(), 400)[1:-1], key=within)
    assert abs(threshold - best) < 2
    assert within(threshold) <= within(best) * 1.001
    assert otsu(np.full(50, 3.0, dtype=np.float32)) is None


@pytest.mark.parametrize("air", [0.0, 366.0, -1024.0])
@pytest.mark.parametrize("margin", [2, 8])
def test_foreground_of_a_masked_volume_is_what_is_not_masked(air: float, margin: int) -> None:
    """Tightly cropped or not, whatever value the mask left behind, dark tissue included."""
    rng = np.random.default_rng(2)
    z, y, x = np.mgrid[-1:1:30j, -1:1:30j, -1:1:30j] * (15 + margin) / 15
    body = z**2 + y**2 + x**2 < 1
    stripped = np.where(body, air + 800 + rng.normal(0, 200, body.shape), air).astype(np.float32)
    assert corner_value(stripped) == air
    np.testing.assert_array_equal(foreground(stripped, air), body)
    mean, deviation = foreground_statistics(np.asfortranarray(stripped))
    assert (mean, deviation) == pytest.approx((stripped[body].mean(), stripped[body].std()), rel=1e-4)


@pytest.mark.parametrize("dark", [0.0, 2.0, 5.0])
def test_foreground_in_noisy_air_does_not_hang_on_the_share_of_zeros(dark: float) -> None:
    """Noise below `dark` is stored as 0, as scanners do: from none to a third of the air."""
    rng = np.random.default_rng(2)
    body = np.zeros((30, 30, 30), dtype=bool)
    body[5:25, 5:25, 5:25] = True
    noise = np.abs(rng.normal(0, 12, body.shape))
    noisy = np.where(body, 200 + noise, np.where(noise < dark, 0, noise)).astype(np.float32)
    noisy[0, 0, 0] = 30_000  # one hot voxel must not hide the rest
    np.testing.assert_array_equal(foreground(noisy, corner_value(noisy)), body | (noisy == 30_000))


@pytest.mark.parametrize("how", ["zscore", "minmax"])
@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_flat_volume_stays_finite(how: str, value: float) -> None:
    volume = np.full((4, 4, 4), value, dtype=np.float32)
    assert (intensity_scale(volume, how).apply(volume) == 0).all()
    volume[0, 0, 0] = value + 1
    assert np.isfinite(intensity_scale(volume, how).apply(volume)).all()


def test_input_is_left_as_it_is_and_bad_numbers_are_named() -> None:
    volume = np.random.default_rng(3).normal(10, 2, (1, 20, 18, 3)).astype(np.float32)
    before = volume.copy()
    case = Case("p1", volume, np.zeros(volume.shape[1:], dtype=np.uint8), np.eye(4))
    prepare_arrays(case, DataSettings(size=16))
    np.testing.assert_array_equal(volume, before)
    for bad in (np.nan, np.inf):
        volume[0, 3, 3, 1] = bad
        with pytest.raises(UsbenchError, match="case p1: t2 holds values that are not finite"):
            prepare_arrays(case, DataSettings(size=16), ("t2",))


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_order_makes_no_difference(order: str) -> None:
    volume = np.random.default_rng(3).normal(10, 2, (1, 20, 18, 3)).astype(np.float32)
    mask = np.zeros(volume.shape[1:], dtype=np.uint8)
    wanted = prepare_arrays(Case("p1", volume, mask, np.eye(4)), DataSettings(size=16)).images
    turned = np.stack([np.array(volume[0], order=order)])  # type: ignore[call-overload]
    got = prepare_arrays(Case("p1", turned, mask, np.eye(4)), DataSettings(size=16)).images
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.skipif("USBENCH_REAL_DATA" not in os.environ, reason="needs USBENCH_REAL_DATA")
def test_zscore_of_a_real_brain_is_monais(tmp_path: Path) -> None:
    transforms = pytest.importorskip("monai.transforms")
    from usbench.datasets.readers.layouts import open_reader
    from usbench.datasets.tasks import task_from_folder

    folder = Path(os.environ["USBENCH_REAL_DATA"]) / "msd" / "Task91_GliomaFlairT1gd"
    task = task_from_folder(folder)
    reader = open_reader(task, folder)
    case = reader.read(reader.case_ids()[0])
    got = prepare_arrays(case, DataSettings(size=240))
    scale = transforms.NormalizeIntensity(nonzero=True, channel_wise=True)
    # MONAI leaves the background at 0; ours lies where intensity 0 falls, so the brain is compared.
    wanted = np.asarray(scale(np.array(case.images, order="C")))
    for channel in range(len(case.images)):
        ours = got.geometry.from_slices(got.images[:, channel].astype(np.float32))
        brain = case.images[channel] != 0
        np.testing.assert_allclose(ours[brain], np.clip(wanted[channel][brain], -5, 5), atol=4e-3)


def test_the_version_of_the_preparation_is_that_of_its_values() -> None:
    """Other values than those below need another PREPARATION, and then stand here with it."""
    x, y, z = np.ogrid[:30, :24, :4]
    volume = (300 + 9 * x + 7 * y + 40 * z + 50 * np.sin(x * y / 9.0)).round().astype(np.float32)
    volume[:3], volume[:, :4] = 0, 0
    mask = ((x - 15) ** 2 + (y - 12) ** 2 < 30).astype(np.uint8) * np.ones((1, 1, 4), np.uint8)
    case = Case("p1", np.stack([volume, volume[::-1] + 5]), mask, np.diag([1.0, 1.0, 3.0, 1.0]))
    values = {
        ("zscore", "area"): [-0.14, -0.96, -3.67, 1.49],
        ("zscore", "nearest"): [0.07, -0.85, -5.0, 1.0],
        ("minmax", "area"): [0.71, 0.61, 0.2, 0.9],
        ("minmax", "nearest"): [0.73, 0.62, 0.0, 0.84],
        ("none", "area"): [584.5, 507.5, 165.75, 751.0],
        ("none", "nearest"): [605.0, 519.0, 0.0, 702.0],
    }
    assert PREPARATION == 1
    for (how, resize), wanted in values.items():
        arrays = prepare_arrays(case, DataSettings(size=20, normalise=how, resize=resize))  # type: ignore[arg-type]
        picked = arrays.images[[0, 1, 3, 3], [0, 1, 0, 1], [5, 10, 15, 9], [8, 4, 12, 18]]
        np.testing.assert_allclose(picked.astype(float), wanted, atol=0.011, rtol=1e-3)
        assert arrays.mask.sum(axis=(1, 2)).tolist() == [41, 41, 41, 41]
