"""The check of a network that is told which modalities a slice has."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from usbench.checks.outcome import Outcome, failed, not_applicable, passed
from usbench.checks.repeating import ROUNDING
from usbench.checks.subject import CLASSES, PAIR, Subject, differs, plain, shift
from usbench.fusions.merge import as_wide
from usbench.fusions.segmenter import takes_present


def present(subject: Subject) -> Outcome:
    """Told that all modalities are there it does what it does untold; told of fewer, each slice by itself."""
    network = subject.network().eval()
    if not takes_present(network):
        return not_applicable("its network is not told which modalities are there (takes_present)")
    if subject.caller is not None:
        return not_applicable("it is called in a way of its own")
    images = subject.images()
    there = torch.eye(PAIR, dtype=torch.bool)[:2]
    lacking = images * as_wide(there, images)
    with torch.no_grad():
        untold, whole = subject.call(network, images), _told(subject, network, images, torch.ones_like(there))
        fewer = _told(subject, network, lacking, there)
        alone = _told(subject, network, lacking[:1], there[:1])
    wanted = [2, CLASSES, *subject.full]
    if differs(untold, whole, ROUNDING):
        return failed(f"told that all are there, its logits differ by {shift(untold, whole):.2g} from untold")
    if not isinstance(fewer, Tensor) or list(fewer.shape) != wanted:
        return failed(f"with one modality of a slice it gives {plain(fewer)}, not {wanted}")
    if not torch.isfinite(fewer).all():
        return failed("with one modality of a slice, some logits are not finite")
    if differs(alone, fewer[:1], ROUNDING):
        return failed(
            f"what other slices lack changes the logits of a slice by {shift(alone, fewer[:1]):.2g}"
        )
    return passed("all, and one alone")


def _told(subject: Subject, network: nn.Module, images: Tensor, there: Tensor) -> Tensor:
    logits: Tensor = network(images, present=there, **subject.rows(images))
    return logits
