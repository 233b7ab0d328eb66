"""The exchangeable parts of Zeus: which there are, which a set of weights takes, what a setting means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from usbench import UsbenchError
from usbench.tools import unknown

INSTRUCTIONS = ("text", "embedding", "fixed", "none")
PER = ("slice", "case", "modality")
PROJECTIONS = ("mlp", "qformer", "none")
PRECISIONS = ("32", "bf16", "4bit")
ENCODER_PRECISIONS = ("32", "bf16")

SETS: dict[str, dict[str, str]] = {
    "bundled": {
        "image_encoder": "litemedsam",
        "vision_encoder": "sam-pool",
        "llm": "smollm2",
        "text_encoder": "minilm",
    },
    "paper": {
        "image_encoder": "sam-vit-b",
        "vision_encoder": "medclip-vit",
        "llm": "vicuna-rad",
        "text_encoder": "medclip",
    },
}

CHOICES: dict[str, tuple[str, ...]] = {
    "image_encoder": ("litemedsam", "sam-vit-b", "sam-vit-l", "sam-vit-h", "medsam"),
    "vision_encoder": ("sam-pool", "medclip-vit", "medclip-resnet", "blip2"),
    "llm": ("smollm2", "vicuna", "vicuna-rad"),
    "text_encoder": ("minilm", "medclip", "clip"),
}

# Widths of what a part gives, and its parameters, as published (docs/zeus.md); checked when one is loaded.
WIDTHS = {
    "sam-pool": 256,
    "medclip-vit": 768,
    "medclip-resnet": 2048,
    "blip2": 1408,
    "smollm2": 576,
    "vicuna": 4096,
    "vicuna-rad": 4096,
    "minilm": 384,
    "medclip": 512,
    "clip": 512,
}
PARAMETERS = {
    "litemedsam": 5_733_748,
    "sam-vit-b": 89_670_912,
    "medsam": 89_670_912,
    "sam-vit-l": 308_278_272,
    "sam-vit-h": 637_026_048,
    "sam-pool": 0,
    "medclip-vit": 27_912_570,
    "medclip-resnet": 24_556_608,
    "blip2": 985_953_280,
    "smollm2": 134_515_008,
    "vicuna": 6_738_415_616,
    "vicuna-rad": 6_738_415_616,
    "minilm": 22_713_216,
    "medclip": 109_096_704,
    "clip": 63_428_097,
}
# The entry of the weights registry that a part reads.
WEIGHTS = {
    "litemedsam": ("litemedsam",),
    "sam-vit-b": ("sam-vit-b",),
    "sam-vit-l": ("sam-vit-l",),
    "sam-vit-h": ("sam-vit-h",),
    "medsam": ("medsam",),
    "sam-pool": (),
    "medclip-vit": ("medclip-vit",),
    "medclip-resnet": ("medclip-resnet",),
    "blip2": ("blip2-qformer",),
    "smollm2": ("smollm2",),
    "vicuna": ("vicuna",),
    "vicuna-rad": ("vicuna-rad",),
    "minilm": ("minilm",),
    "medclip": ("medclip-vit",),
    "clip": ("clip",),
}


# What MedCLIP's text tower needs besides its weights.
VOCABULARY = "bioclinicalbert"


@dataclass(frozen=True)
class Parts:
    """The settings of Zeus, resolved: no "auto" is left.

    Attributes:
        weights: The set that parts come from where nothing else is said, a key of `SETS`.
        image_encoder: One of `CHOICES`, and so are the next three.
        vision_encoder: What the language model sees an image through.
        llm: The language model.
        text_encoder: What embeds a text.
        projection: From image features to the language model, one of `PROJECTIONS`.
        instruction: What a prompt is made of, one of `INSTRUCTIONS`.
        per: What an instruction is made for, one of `PER`.
        max_tokens: Of an answer.
        lora: Rank of LoRA in the language model, 0 for none.
        llm_precision: One of `PRECISIONS`.
        size: Side of the image encoder's input in pixels.
        feature_bits: Of a number of the stored image embeddings, 16 or 8.
        encoder_precision: Of the image encoder, one of `ENCODER_PRECISIONS`.
    """

    weights: str
    image_encoder: str
    vision_encoder: str
    llm: str
    text_encoder: str
    projection: str
    instruction: str
    per: str
    max_tokens: int
    lora: int
    llm_precision: str
    size: int
    feature_bits: int
    encoder_precision: str

    @property
    def instruction_width(self) -> int:
        """Width of what the aligner gets: of the text encoder, or of the language model."""
        return WIDTHS[self.llm if self.instruction == "embedding" else self.text_encoder]

    @property
    def used(self) -> tuple[str, ...]:
        """The parts that this run really needs, in the order of the forward path."""
        used = [self.image_encoder]
        if self.instruction in ("text", "embedding"):
            if self.per != "modality":
                used.append(self.vision_encoder)
            used.append(self.llm)
        if self.instruction in ("text", "fixed"):
            used.append(self.text_encoder)
        return tuple(used)

    @property
    def text_weights(self) -> str:
        """The entry of the weights registry with the text tower; MedCLIP has one beside each image tower."""
        if self.text_encoder == "medclip" and self.vision_encoder == "medclip-resnet":
            return "medclip-resnet"
        return WEIGHTS[self.text_encoder][0]

    @property
    def needed_weights(self) -> tuple[str, ...]:
        """Entries of the weights registry that this run reads."""
        names = [
            name
            for part in self.used
            for name in ((self.text_weights,) if part == self.text_encoder else WEIGHTS[part])
        ]
        if "medclip" in self.used:
            names.append(VOCABULARY)
        if self.projection == "qformer" and self.vision_encoder == "blip2":
            names.append("blip2-qformer")
        return tuple(dict.fromkeys(names))


def resolve(settings: Mapping[str, Any]) -> Parts:
    """The settings of `method.*` with every "auto" replaced.

    Args:
        settings: By name without "method.".

    Raises:
        UsbenchError: Naming the setting that is wrong, or that does not go with another.
    """
    weights = str(settings["weights"])
    if weights not in SETS:
        raise unknown("value of method.weights", weights, SETS)
    chosen = {}
    for part, names in CHOICES.items():
        name = str(settings[part])
        name = SETS[weights][part] if name == "auto" else name
        if name not in names:
            raise unknown(f"value of method.{part}", name, [*names, "auto"])
        chosen[part] = name
    for key, allowed in (
        ("projection", PROJECTIONS),
        ("instruction", INSTRUCTIONS),
        ("per", PER),
        ("llm_precision", PRECISIONS),
    ):
        if str(settings[key]) not in allowed:
            raise unknown(f"value of method.{key}", str(settings[key]), allowed)
    instruction, per = str(settings["instruction"]), str(settings["per"])
    if instruction == "embedding" and per == "modality":
        raise UsbenchError(
            "method.instruction=embedding needs the image: use method.per=slice or method.per=case"
        )
    lora, tokens, size = int(settings["lora"]), int(settings["max_tokens"]), int(settings["size"])
    if lora and instruction != "embedding":
        raise UsbenchError(
            f"method.lora={lora}: no gradient reaches the language model through text; "
            "use method.instruction=embedding, or method.lora=0"
        )
    if not 0 <= lora <= 256 or not 1 <= tokens <= 1024:
        raise UsbenchError(f"method.lora={lora}, method.max_tokens={tokens}: choose 0 to 256 and 1 to 1024")
    usual, step = (256, 4) if chosen["image_encoder"] == "litemedsam" else (1024, 16)
    size = size or usual
    if size % step or not 32 <= size <= 1024:
        raise UsbenchError(
            f"method.size={size}: {chosen['image_encoder']} takes a multiple of {step} from 32 to 1024, "
            "or 0 for the usual"
        )
    # Results from before there was a choice do not state it.
    bits = int(settings.get("feature_bits", 16))
    if bits not in (8, 16):
        raise UsbenchError(f"method.feature_bits={bits}: choose 8 or 16")
    precision = str(settings.get("encoder_precision", "32"))
    if precision not in ENCODER_PRECISIONS:
        raise unknown("value of method.encoder_precision", precision, ENCODER_PRECISIONS)
    return Parts(
        weights=weights,
        projection=str(settings["projection"]),
        instruction=instruction,
        per=per,
        max_tokens=tokens,
        lora=lora,
        llm_precision=str(settings["llm_precision"]),
        size=size,
        feature_bits=bits,
        encoder_precision=precision,
        **chosen,
    )


def weights_words(settings: Mapping[str, Any]) -> str:
    """What a result says it started from: the set, and each part that is not the set's own.

    Raises:
        UsbenchError: As `resolve`.
    """
    parts = resolve(settings)
    own = SETS[parts.weights]
    others = [f"{p}={getattr(parts, p)}" for p in CHOICES if getattr(parts, p) != own[p]]
    return ", ".join([parts.weights, *others])


def frozen_parameters(settings: Mapping[str, Any]) -> int:
    """Number of parameters of the frozen parts that a run uses.

    Raises:
        UsbenchError: As `resolve`.
    """
    return sum(PARAMETERS[part] for part in resolve(settings).used)
