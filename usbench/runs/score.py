"""The second step of an evaluation: scores of predicted masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from usbench.datasets.preprocess import resize_masks
from usbench.pages.figures import PICTURED_CASES, CasePicture, pick_slice
from usbench.scores.case import ClassScore, score_case
from usbench.scores.paper import paper_style
from usbench.scores.summary import summarise

if TYPE_CHECKING:
    from usbench.contracts.data import Task
    from usbench.datasets.store import PreparedCase
    from usbench.datasets.ways import Example


class Mask(Protocol):
    """The mask of a case: of a network of usbench, or of another program."""

    @property
    def volume(self) -> np.ndarray:
        """uint8 [X, Y, Z] on the native grid, with classes or regions as `Case.mask` has them."""

    @property
    def slices(self) -> np.ndarray:
        """uint8 [Z, S, S] at the size of the prepared slices, likewise."""

    @property
    def ms_per_slice(self) -> float | None:
        """Milliseconds of a slice, None where nobody measured them."""


class CaseMask(Protocol):
    """A case of the store, opened once, with its mask."""

    @property
    def case(self) -> PreparedCase:
        """The case."""

    @property
    def prediction(self) -> Mask:
        """Its mask."""

    def example(self) -> Example | None:
        """What a network saw first; None where there is no network."""


@dataclass
class Evaluated:
    """What is kept of the test cases, in their order; images and masks are let go.

    Attributes:
        scores: By case id.
        paper: (paper_dsc, paper_miou) of each case.
        milliseconds: Of a slice, for each case of a network; empty for masks of other programs.
        agreement: By case id and class, the Dice of two annotations where there are two.
        pictures: Of the first cases.
        example: What the network saw first of the first case.
    """

    scores: dict[str, list[ClassScore]] = field(default_factory=dict)
    paper: list[tuple[float, float]] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    agreement: dict[str, dict[str, float]] = field(default_factory=dict)
    pictures: list[CasePicture] = field(default_factory=list)
    example: Example | None = None

    def summary(self) -> dict[str, Any]:
        """The block "scores" of result.json, see `usbench.scores.summary.summarise`."""
        return summarise(list(self.scores.values()))

    def paper_means(self) -> dict[str, float | None]:
        """The block "paper_style" of result.json: means over the cases in which both are defined."""
        defined = [pair for pair in self.paper if not np.isnan(pair).any()]
        means = np.mean(defined, axis=0).tolist() if defined else [None, None]
        return {"paper_dsc": means[0], "paper_miou": means[1]}


def score_cases(
    predicted: Iterable[CaseMask],
    task: Task,
    on_case: Callable[[str, list[ClassScore]], None] | None = None,
) -> Evaluated:
    """Score the masks of test cases against their annotations, one case after the other.

    Args:
        predicted: cases with their masks; each is let go before the next is taken.
        task: names of the classes, whether they are regions, and the tolerance of the normalised surface
            distance.
        on_case: called with the id and the scores of every case.

    Returns:
        The scores, and what else is kept of the cases.
    """
    names, regions = task.class_names, task.regions
    kept = Evaluated()
    for one in predicted:
        case, mask = one.case, one.prediction
        scores = score_case(mask.volume, case.truth(), names, case.spacing, task.nsd_tolerance_mm, regions)
        kept.scores[case.case_id] = scores
        kept.paper.append(paper_style(mask.slices, np.asarray(case.mask), len(names), regions))
        if mask.ms_per_slice is not None:
            kept.milliseconds.append(mask.ms_per_slice)
        if case.agreement:
            kept.agreement[case.case_id] = dict(case.agreement)
        if len(kept.pictures) < PICTURED_CASES:
            kept.pictures.append(_picture(one, scores, regions))
        if kept.example is None:
            kept.example = one.example()
        if on_case is not None:
            on_case(case.case_id, scores)
    return kept


def picture_of(
    case: PreparedCase, volume: np.ndarray, dsc: Mapping[str, float], regions: bool
) -> CasePicture:
    """The slice of a case that shows most, with its truth and a mask of it.

    Args:
        case: The prepared case.
        volume: The mask on the native grid, uint8 [X, Y, Z].
        dsc: By class.
        regions: Whether the classes are regions.
    """
    truth = np.asarray(case.mask)
    z = pick_slice(truth, regions)
    drawn = drawn_slice(case, volume, z)
    return case.case_id, np.asarray(case.images[z], dtype=np.float32), truth[z], drawn, dsc


def drawn_slice(case: PreparedCase, volume: np.ndarray, z: int) -> np.ndarray:
    """A slice of a mask [X, Y, Z] on the native grid, at the size of the prepared slices: uint8 [S, S]."""
    return np.asarray(resize_masks(case.geometry.to_slices(volume)[z : z + 1], case.mask.shape[-1])[0])


def _picture(one: CaseMask, scores: list[ClassScore], regions: bool) -> CasePicture:
    """The slice of a case that shows most, with its truth, its mask and the DSC of each class."""
    case = one.case
    z = pick_slice(np.asarray(case.mask), regions)
    images = np.asarray(case.images[z], dtype=np.float32)
    dsc: Mapping[str, float] = {score.name: score.scores["dsc"] for score in scores}
    return case.case_id, images, np.asarray(case.mask[z]), one.prediction.slices[z], dsc
