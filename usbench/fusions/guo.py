"""Where the three protocols come from."""

from __future__ import annotations

PAPER = "Guo et al.: Deep learning-based image segmentation on multimodal medical imaging. IEEE TRPMS 2019."
"""The paper that tells early, hybrid and late fusion apart; Dai et al., "Zeus", use them."""
