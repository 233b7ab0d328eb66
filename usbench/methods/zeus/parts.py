"""The exchangeable parts of Zeus: which there are, which a set of weights takes, what a setting means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from usbench import UsbenchError
from usbench.methods.zeus.prompts import ABOUT, TEMPLATES
from usbench.tools import unknown

INSTRUCTIONS = ("text", "embedding", "fixed", "none")
PER = ("slice", "case", "modality")
PROJECTIONS = ("mlp", "linear", "qformer", "none")
TEXT_NORMS = ("unit", "none")
SMALL = ("pad", "enlarge")
FREEZE = ("none", "transformer", "all")
CLASSES = ("apart", "together")
PROMPT_NORMS = ("none", "unit", "classes")
MAX_TOKENS = {"paper": 64, "xraygpt": 300}
PRECISIONS = ("32", "bf16", "4bit")
ENCODER_PRECISIONS = ("32", "bf16")

SETS: dict[str, dict[str, str]] = {
    "bundled": {
        "image_encoder": "litemedsam",
        "vision_encoder": "sam-pool",
        "llm": "smollm2",
        "text_encoder": "minilm",
        "medclip_norm": "none",
        "medclip_small": "enlarge",
    },
    "paper": {
        "image_encoder": "sam-vit-b",
        "vision_encoder": "medclip-vit",
        "llm": "vicuna-rad",
        "text_encoder": "medclip",
        "medclip_norm": "unit",
        "medclip_small": "pad",
    },
}

CHOICES: dict[str, tuple[str, ...]] = {
    "image_encoder": ("litemedsam", "sam-vit-b", "sam-vit-l", "sam-vit-h", "medsam"),
    "vision_encoder": ("sam-pool", "medclip-vit", "medclip-resnet", "blip2", "xraygpt"),
    "llm": ("smollm2", "vicuna", "vicuna-rad"),
    "text_encoder": ("minilm", "medclip", "clip"),
}

# Widths of what a part gives, as published (docs/zeus.md); checked when one is loaded.
WIDTHS = {
    "sam-pool": 256,
    "medclip-vit": 768,
    "medclip-resnet": 2048,
    "blip2": 1408,
    "xraygpt": 768,
    "smollm2": 576,
    "vicuna": 4096,
    "vicuna-rad": 4096,
    "minilm": 384,
    "medclip": 512,
    "clip": 512,
}
# Of what of a part is loaded, as published: heads and scales that nothing asks are not. Checked in tests
# against the classes of the libraries.
PARAMETERS = {
    "litemedsam": 5_726_740,
    "sam-vit-b": 89_670_912,
    "medsam": 89_670_912,
    "sam-vit-l": 308_278_272,
    "sam-vit-h": 637_026_048,
    "sam-pool": 0,
    "medclip-vit": 27_519_354,
    "medclip-resnet": 23_508_032,
    "blip2": 985_952_256,
    "xraygpt": 1_091_114_496,
    "smollm2": 134_515_008,
    "vicuna": 6_738_415_616,
    "vicuna-rad": 6_738_415_616,
    "minilm": 22_713_216,
    "medclip": 108_703_488,
    "clip": 63_428_096,
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
    "xraygpt": ("blip2-flan-t5",),
    "smollm2": ("smollm2",),
    "vicuna": ("vicuna",),
    "vicuna-rad": ("vicuna-rad",),
    "minilm": ("minilm",),
    "medclip": ("medclip-vit",),
    "clip": ("clip",),
}


# What results that do not state a setting did, and the values that it has now.
_LATER: dict[str, tuple[str, tuple[str, ...]]] = {
    "template": ("paper", TEMPLATES),
    "medclip_norm": (SETS["bundled"]["medclip_norm"], TEXT_NORMS),
    "medclip_small": (SETS["bundled"]["medclip_small"], SMALL),
    "encoder_precision": ("32", ENCODER_PRECISIONS),
    "freeze": ("none", FREEZE),
    "classes": ("apart", CLASSES),
    "prompt_norm": ("none", PROMPT_NORMS),
    "about": ("own", ABOUT),
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
        template: The conversation that a question stands in, and how it is answered, one of `TEMPLATES`.
        medclip_norm: Whether MedCLIP's embedding of a text has length 1, one of `TEXT_NORMS`.
        medclip_small: What becomes of a slice that is smaller than MedCLIP's input, one of `SMALL`.
        freeze: What of the mask decoder keeps its pretrained start, one of `FREEZE`.
        own_prompts: Trained prompts of each modality and class beside its instruction.
        about: Which structure the question of a class is about, one of `ABOUT`.
        classes: How the prompts of the classes go through the mask decoder, one of `CLASSES`.
        prompt_norm: Whether a prompt has deviation 1 over its channels at the start, and whether what the
            instructions of all classes share is taken away before, one of `PROMPT_NORMS`.
        decoder_rate: The share of the learning rate that the mask decoder trains with.
        encoder_lora: Rank of LoRA in the image encoder, which then runs in every batch; 0 for none.
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
    template: str
    medclip_norm: str
    medclip_small: str
    freeze: str
    own_prompts: int
    about: str
    classes: str
    prompt_norm: str
    decoder_rate: float
    encoder_lora: int

    @property
    def shown(self) -> bool:
        """Whether the language model sees an image."""
        return self.per != "modality"

    @property
    def instruction_width(self) -> int:
        """Width of what the aligner gets: of the text encoder, or of the language model."""
        return WIDTHS[self.llm if self.instruction == "embedding" else self.text_encoder]

    @property
    def used(self) -> tuple[str, ...]:
        """The parts that this run really needs, in the order of the forward path."""
        used = [self.image_encoder]
        if self.instruction in ("text", "embedding"):
            if self.shown:
                used.append(self.vision_encoder)
            used.append(self.llm)
        if self.instruction in ("text", "fixed"):
            used.append(self.text_encoder)
        return tuple(used)

    @property
    def later(self) -> list[str]:
        """What else decides an instruction's row, of settings that older features know nothing of."""
        marks = [f"template {self.template}"] if self.template != "paper" and self.llm in self.used else []
        if "medclip" in self.used and self.medclip_norm == "unit":
            marks.append("medclip text of length 1")
        if self.pads and self.vision_encoder in self.used:
            marks.append("medclip image padded")
        if self.vision_encoder == "sam-pool" and self.vision_encoder in self.used:
            # The language model sees what the image encoder makes of a slice at that size.
            low = "" if self.encoder_precision == "32" else f", {self.encoder_precision}"
            marks.append(f"seen at {self.size} pixels{low}")
        return marks

    @property
    def pads(self) -> bool:
        """Whether the vision encoder pads small slices."""
        return self.vision_encoder.startswith("medclip") and self.medclip_small == "pad"

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
        if self.projection == "linear" and self.instruction in ("text", "embedding"):
            names.append("xraygpt-projection")
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
        if name == "auto":
            name = SETS[weights][part]
            if part == "vision_encoder" and str(settings["projection"]) == "linear":
                name = "xraygpt"
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
    _check_projection(str(settings["projection"]), chosen["vision_encoder"], chosen["llm"])
    later = _later(settings, weights)
    lora, tokens, size = int(settings["lora"]), int(settings["max_tokens"]), int(settings["size"])
    if lora and instruction != "embedding":
        raise UsbenchError(
            f"method.lora={lora}: no gradient reaches the language model through text; "
            "use method.instruction=embedding, or method.lora=0"
        )
    tokens = tokens or MAX_TOKENS[later["template"]]
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
    if later["about"] != "own" and instruction == "none":
        raise UsbenchError(
            f"method.about={later['about']}: instruction=none asks nothing; leave one of the two out"
        )
    own = int(settings.get("own_prompts", 0))
    if not 0 <= own <= 64:
        raise UsbenchError(f"method.own_prompts={own}: choose 0 to 64")
    rate = float(settings.get("decoder_rate", 1.0))
    if not 0 < rate <= 1:
        raise UsbenchError(f"method.decoder_rate={rate:g}: choose a share above 0, 1 at most")
    adapted = int(settings.get("encoder_lora", 0))
    if not 0 <= adapted <= 256:
        raise UsbenchError(f"method.encoder_lora={adapted}: choose 0 to 256")
    if adapted and later["encoder_precision"] != "32":
        raise UsbenchError(
            f"method.encoder_lora={adapted}: what trains is kept in 32 bit; leave method.encoder_precision "
            "out (--precision bf16 computes in bf16)"
        )
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
        own_prompts=own,
        decoder_rate=rate,
        encoder_lora=adapted,
        **chosen,
        **later,
    )


def _check_projection(projection: str, vision: str, llm: str) -> None:
    """Refuse pairs of towers and projections that were never trained together, or do not fit."""
    if projection == "linear" and (vision != "xraygpt" or WIDTHS[llm] != WIDTHS["vicuna-rad"]):
        raise UsbenchError(
            f"method.projection=linear is XrayGPT's trained layer from its Q-Former to Vicuna; with "
            f"vision_encoder={vision} and llm={llm} use method.projection=mlp, or set "
            "method.vision_encoder=xraygpt and method.llm=vicuna-rad"
        )
    if projection == "qformer" and vision == "xraygpt":
        raise UsbenchError(
            "method.vision_encoder=xraygpt has its Q-Former within it; use method.projection=linear or mlp"
        )


def _later(settings: Mapping[str, Any], weights: str) -> dict[str, str]:
    """The settings that results from before them do not state: they did what `_LATER` says first."""
    found = {}
    for key, (before, choices) in _LATER.items():
        value = str(settings.get(key, before))
        found[key] = SETS[weights].get(key, value) if value == "auto" else value
        if found[key] not in choices:
            raise unknown(f"value of method.{key}", found[key], choices)
    return found


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
    """Number of parameters of the frozen parts that a run uses, without those that are in its network.

    Raises:
        UsbenchError: As `resolve`.
    """
    parts = resolve(settings)
    used = list(parts.used)
    if parts.encoder_lora and "sam-pool" not in used:  # which looks through an encoder without LoRA
        used.remove(parts.image_encoder)
    return sum(PARAMETERS[part] for part in used)
