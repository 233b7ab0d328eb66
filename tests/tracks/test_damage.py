"""Damage of scans: exact shares, the noise that is stated, and the same draws for every subset and run."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from usbench.scores.robustness import PEPPER, SHARES, SIGMAS, Condition
from usbench.tracks.damage import Scans, lowest, variant

NAMES = ("flair", "t1")


def scans(normalise: str = "zscore", case_id: str = "a", names: tuple[str, ...] = NAMES) -> Scans:
    images = np.random.default_rng(0).normal(0.5, 2, (5, len(names), 33, 33)).astype(np.float32)
    return Scans(case_id, images, names, normalise)


def test_a_missing_modality_is_zero_and_the_clean_one_is_itself() -> None:
    one = scans()
    assert not one.modality(0, Condition("missing")).any()
    assert np.array_equal(one.modality(1, Condition("clean")), one.images[:, 1])


@pytest.mark.parametrize("share", SHARES)
def test_the_share_of_random_missing_is_exact_and_the_rest_untouched(share: float) -> None:
    one = scans()
    damaged, clean = one.modality(0, Condition("random", ("flair",), share)), one.images[:, 0]
    assert np.count_nonzero(clean) == clean.size  # so that every zero was set
    assert np.count_nonzero(damaged == 0) == round(share * clean.size)
    assert np.array_equal(damaged[damaged != 0], clean[damaged != 0])


@pytest.mark.parametrize("share", PEPPER)
def test_salt_and_pepper_are_half_each_of_the_extremes(share: float) -> None:
    one = scans()
    damaged, clean = one.modality(0, Condition("salt-pepper", ("flair",), share)), one.images[:, 0]
    count = round(share * clean.size)
    high, low = np.count_nonzero(damaged == clean.max()), np.count_nonzero(damaged == clean.min())
    # The extreme voxels themselves may or may not be among those that were drawn.
    assert count // 2 <= high <= count // 2 + 1
    assert count - count // 2 <= low <= count - count // 2 + 1
    kept = (damaged != clean.max()) & (damaged != clean.min())
    assert np.array_equal(damaged[kept], clean[kept])


@pytest.mark.parametrize("sigma", SIGMAS)
def test_gaussian_noise_is_normal_with_the_stated_deviation(sigma: float) -> None:
    one = scans()
    noise = (one.modality(0, Condition("gaussian", ("flair",), sigma)) - one.images[:, 0]) / sigma
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert abs(noise.std() - 1) < 4 / np.sqrt(2 * noise.size)
    assert stats.kstest(noise.ravel(), "norm").pvalue > 0.01


def test_without_zscore_the_deviation_is_that_above_the_lowest_value() -> None:
    images = np.zeros((1, 1, 2, 4), np.float32)
    images[0, 0, 1] = [1, 3, 1, 3]  # of mean 2 and deviation 1; the four zeros are air
    one = Scans("a", 7 * images, ("t2",), "minmax")
    assert one.deviation(0) == 7.0
    assert Scans("a", images, ("t2",), "zscore").deviation(0) == 1.0


def test_a_constant_scan_gets_no_noise_where_nothing_is_above_air() -> None:
    one = Scans("a", np.zeros((1, 1, 4, 4), np.float32), ("t2",), "minmax")
    assert not one.modality(0, Condition("gaussian", ("t2",), 0.5)).any()


@pytest.mark.parametrize("kind", ["random", "gaussian", "salt-pepper"])
def test_draws_depend_on_case_kind_level_and_modality_alone(kind: str) -> None:
    level = 0.1
    alone = Condition(kind, ("flair",), level)  # type: ignore[arg-type]
    both = Condition(kind, NAMES, level)  # type: ignore[arg-type]
    one = scans()
    first = one.modality(0, alone)
    assert np.array_equal(first, one.modality(0, both))
    assert np.array_equal(first, one.modality(0, variant(both)))
    other_order = Scans("a", one.images[:, ::-1], NAMES[::-1], "zscore")
    assert np.array_equal(first, other_order.modality(1, alone))
    assert not np.array_equal(first, Scans("b", one.images, NAMES, "zscore").modality(0, alone))
    assert not np.array_equal(first, Scans("a", one.images, ("t2", "t1"), "zscore").modality(0, alone))
    other_level = Condition(kind, ("flair",), 0.2)  # type: ignore[arg-type]
    assert not np.array_equal(first, one.modality(0, other_level))


def test_another_process_with_another_hash_seed_draws_the_same() -> None:
    words = (
        "import numpy as np; from usbench.tracks.damage import Scans; "
        "from usbench.scores.robustness import Condition; "
        "images = np.arange(1, 301, dtype=np.float32).reshape(3, 1, 10, 10); "
        "one = Scans('a', images, ('t2',), 'zscore'); "
        "print(np.flatnonzero(one.modality(0, Condition('random', (), 0.25)) == 0).tolist())"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", words], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert said[0] == said[1]
    assert len(said[0].split(",")) == 75


def test_lowest_takes_the_first_of_equal_values() -> None:
    values = np.array([[3, 1, 2], [1, 1, 0]])
    assert lowest(values, 3).tolist() == [[False, True, False], [True, False, True]]
    assert not lowest(values, 0).any()
    assert lowest(values, 6).all()
