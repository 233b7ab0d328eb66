"""Masks of modalities merged by vote, beside cases worked by hand."""

from __future__ import annotations

import numpy as np
import torch

from usbench.fusions.merge import merge_logits
from usbench.runs.pipelines.vote import vote


def _column(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint8).reshape(-1, 1, 1)


def test_the_class_that_most_modalities_say_and_background_at_a_tie() -> None:
    # Voxels: all agree; 2 of 3; all differ; background outvoted by nobody; background and one class.
    masks = [_column(1, 1, 1, 0, 2), _column(1, 1, 2, 0, 0), _column(1, 2, 0, 1, 0)]
    assert vote(masks, 2, False).ravel().tolist() == [1, 1, 0, 0, 0]


def test_two_modalities_mark_what_both_say() -> None:
    assert vote([_column(1, 1, 2, 0), _column(1, 0, 1, 0)], 2, False).ravel().tolist() == [1, 0, 0, 0]


def test_a_plurality_of_four_is_no_tie() -> None:
    masks = [_column(1), _column(1), _column(2), _column(0)]
    assert vote(masks, 2, False).ravel().tolist() == [1]


def test_one_modality_is_its_own_mask() -> None:
    mask = _column(0, 1, 2, 2)
    assert np.array_equal(vote([mask], 2, False), mask)


def test_regions_are_voted_as_late_fusion_votes_logits_of_one_size() -> None:
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 4, (5, 4, 3)).astype(np.uint8) for _ in range(4)]
    said = np.stack([[(mask & 1) > 0, (mask & 2) > 0] for mask in masks]).astype(np.float32)  # [M, K, X, Y, Z]
    logits = torch.from_numpy(said * 2 - 1).flatten(3)[None]  # [1, M, K, X, Y * Z]
    merged = merge_logits(logits, "vote")[0].numpy().reshape(2, 5, 4, 3) > 0
    assert np.array_equal(vote(masks, 2, True), (merged[0] + 2 * merged[1]).astype(np.uint8))
