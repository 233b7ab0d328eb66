"""Which samples an epoch of training has, and in which batches: pure functions of seed and epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from usbench.contracts.settings import TrainSettings


def draw_epoch(
    foreground: np.ndarray, settings: TrainSettings, seed: int, epoch: int, world: int
) -> list[np.ndarray]:
    """The groups of slice numbers of an epoch, a pure function of seed and epoch.

    Slices without foreground are at most the share `settings.empty` of the epoch. Groups differ in
    size by one at most, so that no last batch is a single slice; each has at least `world` slices
    where there are that many. Slices come again only where `settings.min_batches` asks for more.

    Args:
        foreground: Which slices have any, bool [N].
        settings: `empty`, `batch` and `min_batches` count.
        seed: Of the run.
        epoch: From 0.
        world: Number of processes that train together.

    Returns:
        For each batch the numbers of its slices, int [B].
    """
    random = np.random.default_rng([seed, epoch])
    full, empty = np.flatnonzero(foreground), np.flatnonzero(~foreground)
    most = len(empty)
    if settings.empty < 1:
        most = math.ceil(len(full) * settings.empty / (1 - settings.empty))

    def once() -> np.ndarray:
        return random.permutation(np.concatenate([full, random.permutation(empty)[:most]]))

    return _in_groups(once, settings, max(2, world))


def draw_volumes(
    random: np.random.Generator, volumes: int, times: int, settings: TrainSettings, world: int
) -> list[np.ndarray]:
    """The groups of volume numbers of an epoch, each volume `times` times in a new order.

    Groups differ in size by one at most; each has at least `world` volumes where there are that many. Volumes
    come again only where `settings.min_batches` asks for more.

    Args:
        random: Where the draws come from.
        volumes: How many there are.
        times: How often each comes.
        settings: `batch` and `min_batches` count.
        world: Number of processes that train together.

    Returns:
        For each batch the numbers of its volumes, int [B].
    """
    each = np.repeat(np.arange(volumes), times)
    return _in_groups(lambda: random.permutation(each), settings, world)


def _in_groups(once: Callable[[], np.ndarray], settings: TrainSettings, least: int) -> list[np.ndarray]:
    """What `once` gives, as often as the fewest batches of an epoch need, in groups of `least` at least."""
    order = once()
    while len(order) < settings.min_batches * settings.batch:
        order = np.concatenate([order, once()])
    groups = max(1, min(math.ceil(len(order) / settings.batch), len(order) // least))
    return list(np.array_split(order, groups))
