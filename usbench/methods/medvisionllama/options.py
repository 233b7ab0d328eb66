"""The settings of MedVisionLlama, checked, and what follows from them: words, counts, sizes of the
controls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usbench import UsbenchError
from usbench.methods.medvisionllama.block import LORA_TARGETS
from usbench.methods.medvisionllama.loading import LLMS, PRECISIONS, BlockConfig, config_of
from usbench.methods.medvisionllama.mappers import BASES
from usbench.methods.medvisionllama.vit import Three, parameters_of
from usbench.tools import find_weight, unknown

PLACES = ("after-encoder", "after-embedding")
RESIDUALS = ("outer", "inner")
CONTROLS = ("none", "vit-depth", "vit-mlp")
_CHOICES: dict[str, Iterable[str]] = {
    "llm": LLMS,
    "llm_precision": PRECISIONS,
    "place": PLACES,
    "residual": RESIDUALS,
    "mapper_base": BASES,
    "control": CONTROLS,
}


@dataclass(frozen=True)
class Options:
    """The settings, of which docs/medvisionllama.md says what each is.

    Attributes:
        llm: Whose block, one of `LLMS`.
        llm_path: Where a Llama lies, "" for the table's.
        llm_precision: One of `PRECISIONS`.
        place: Where the block stands, one of `PLACES`.
        residual: What is added to its output, one of `RESIDUALS`.
        rank: Of LoRA on the mappers.
        mapper_base: What that stands on, one of `BASES`.
        lora_rank: Of LoRA on the block's attention.
        control: One of `CONTROLS`.
        width: Of a token of the vision transformer.
        depth: Its blocks.
        heads: Of its attention.
        dropout: In its blocks.
        patch: (D, H, W) of a patch in voxels.
    """

    llm: str
    llm_path: str
    llm_precision: str
    place: str
    residual: str
    rank: int
    mapper_base: str
    lora_rank: int
    control: str
    width: int
    depth: int
    heads: int
    dropout: float
    patch: Three

    @property
    def has_block(self) -> bool:
        """Whether a language model's block stands in the network."""
        return self.llm != "none" and self.control == "none"


def resolve(settings: Mapping[str, Any]) -> Options:
    """The settings of `method.*`, checked.

    Args:
        settings: By name without "method.".

    Raises:
        UsbenchError: Naming the setting that is wrong, or that does not go with another.
    """
    for key, allowed in _CHOICES.items():
        if str(settings[key]) not in allowed:
            raise unknown(f"value of method.{key}", str(settings[key]), allowed)
    values: dict[str, Any] = {key: str(settings[key]) for key in (*_CHOICES, "llm_path")}
    wholes = ("rank", "lora_rank", "width", "depth", "heads")
    numbers: dict[str, Any] = {key: int(settings[key]) for key in wholes}
    limits = {
        "rank": (0, 256),
        "lora_rank": (0, 256),
        "width": (1, 4096),
        "depth": (1, 256),
        "heads": (1, 256),
    }
    for key, (low, high) in limits.items():
        if not low <= numbers[key] <= high:
            raise UsbenchError(f"method.{key}={numbers[key]}: choose from {low} to {high}")
    if numbers["width"] % numbers["heads"]:
        raise UsbenchError(
            f"method.width={numbers['width']} is no multiple of method.heads={numbers['heads']}; change one"
        )
    dropout = float(settings["dropout"])
    if not 0 <= dropout < 1:
        raise UsbenchError(f"method.dropout={dropout}: choose from 0 to below 1")
    options = Options(**values, **numbers, dropout=dropout, patch=_patch(settings["patch"]))
    _fit_together(options)
    return options


def _patch(given: Any) -> Three:
    parts = given.split(",") if isinstance(given, str) else given
    try:
        d, h, w = (int(part) for part in parts)
    except (TypeError, ValueError) as error:
        raise UsbenchError(f"method.patch={given}: write three numbers, for D, H and W: 4,8,8") from error
    if not all(1 <= side <= 256 for side in (d, h, w)):
        raise UsbenchError(f"method.patch={given}: choose sides from 1 to 256 voxels")
    return d, h, w


def _fit_together(options: Options) -> None:
    if options.llm == "none" and options.control != "none":
        raise UsbenchError(
            f"method.control={options.control} has as many parameters as the network with method.llm; "
            "name the one that it is compared with, such as method.llm=smollm2"
        )
    if options.llm_path and options.llm in ("smollm2", "none"):
        raise UsbenchError(
            f"method.llm_path is not used with method.llm={options.llm}; use method.llm=llama or leave it out"
        )
    if options.has_block and options.rank == 0 and options.mapper_base == "frozen-random":
        raise UsbenchError(
            "method.rank=0 leaves nothing of the mappers to train; choose 1 or more, or "
            "method.mapper_base=trained"
        )


def weights_words(settings: Mapping[str, Any]) -> str:
    """What a result says it started from: whose block, or "none".

    Raises:
        UsbenchError: As `resolve`.
    """
    options = resolve(settings)
    if not options.has_block:
        return "none"
    if options.llm == "llama":
        return f"llama ({_short(options.llm_path) or 'llama-3.1-8b'})"
    of = f" ({_short(options.llm_path)})" if options.llm_path else ""
    return {"random": "random block", "shuffled": "shuffled block"}.get(options.llm, options.llm) + of


def _short(path: str) -> str:
    """A hub's OWNER/NAME as it is, of a folder its name alone: results are shared, and paths are private."""
    is_hub = path.count("/") == 1 and not path.startswith((".", "/", "~"))
    return path if is_hub or not path else Path(path).name


def licence_words(settings: Mapping[str, Any]) -> str:
    """The licence of the block's weights; "none" where there are none, or where they are drawn.

    Raises:
        UsbenchError: As `resolve`.
    """
    options = resolve(settings)
    if not options.has_block or options.llm == "random":
        return "none"
    name = "smollm2" if options.llm == "smollm2" or not options.llm_path else options.llm_path
    if options.llm == "llama" and not options.llm_path:
        name = "llama-3.1-8b"
    try:
        return f"{name}: {find_weight(name).licence}"
    except UsbenchError:
        return f"that of {_short(options.llm_path)}, as its publisher states"


def needed_weights(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Entries of the table of weights that the block is read from; none for a folder or one of the hub.

    Raises:
        UsbenchError: As `resolve`.
    """
    options = resolve(settings)
    path = options.llm_path
    if not options.has_block or (options.llm == "random" and not path):
        return ()
    if path:
        return () if "/" in path or Path(path).expanduser().is_dir() else (path,)
    return ("llama-3.1-8b",) if options.llm == "llama" else ("smollm2",)


def frozen_parameters(settings: Mapping[str, Any]) -> int:
    """Parameters of the frozen block, which is held beside the network.

    Raises:
        UsbenchError: As `resolve`, and for a folder whose config.json is not that of a Llama.
    """
    options = resolve(settings)
    return config_of(options.llm, options.llm_path).parameters if options.has_block else 0


def added_parameters(options: Options, block: BlockConfig) -> tuple[int, int]:
    """What block and mappers add to the vision transformer: (all, those that are trained).

    Args:
        options: The settings.
        block: The sizes of the block.
    """
    queries, keys = block.heads * block.head_dim, block.kv_heads * block.head_dim
    assert LORA_TARGETS == ("q_proj", "v_proj")
    lora = options.lora_rank * (2 * block.width + queries + keys)
    matrices = 2 * options.width * block.width
    low_rank = 2 * options.rank * (options.width + block.width)
    trained = lora + low_rank + (matrices if options.mapper_base == "trained" else 0)
    return block.parameters + matrices + low_rank + lora, trained


def size_of_vit(options: Options, channels: int, classes: int, shape: Three) -> tuple[int, int, int]:
    """Width, depth and heads of the vision transformer.

    Under control=vit-depth it is wider and deeper and has twice the heads, so that it has as many parameters
    as the network with the block, frozen ones among them: of all widths (multiples of the heads) and depths
    up to twice the usual the nearest.

    Args:
        options: The settings.
        channels: Of the input.
        classes: Of the output.
        shape: (D, H, W) of the input.
    """
    if options.control != "vit-depth":
        return options.width, options.depth, options.heads
    wanted = _wanted(options, channels, classes, shape)
    heads = 2 * options.heads
    widths = range(-(-options.width // heads) * heads, 8192, heads)
    sizes: Sequence[tuple[int, int, int]] = [
        (abs(parameters_of(width, depth, channels, classes, shape, options.patch) - wanted), width, depth)
        for width in widths
        for depth in range(options.depth + 1, 2 * options.depth + 1)
    ]
    _, width, depth = min(sizes)
    return width, depth, heads


def hidden_of_mlp(options: Options, channels: int, classes: int, shape: Three) -> int:
    """Width within the MLP of control=vit-mlp, with which the network is as large as that with the block.

    Args:
        options: The settings.
        channels: Of the input.
        classes: Of the output.
        shape: (D, H, W) of the input.
    """
    own = parameters_of(options.width, options.depth, channels, classes, shape, options.patch)
    room = _wanted(options, channels, classes, shape) - own - options.width
    return max(1, round(room / (2 * options.width + 1)))


def _wanted(options: Options, channels: int, classes: int, shape: Three) -> int:
    """The parameters of the network with the block, all of them."""
    own = parameters_of(options.width, options.depth, channels, classes, shape, options.patch)
    block = config_of(options.llm, options.llm_path)
    return own + added_parameters(options, block)[0]
