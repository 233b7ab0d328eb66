"""Checkpoints of MISSFormer as its authors' code saves them.

Huang, Deng, Li, Yuan, Fu: MISSFormer (IEEE TMI 2022, doi:10.1109/TMI.2022.3230943). Their tensors have other
names; parts of theirs never take part in an output and have no place here; and the bridge cuts a reduced map
of f x 64 channels into tokens channels-first, where it is channels-last here. The function is the same with
the output channels of the reducing convolutions in another order: theirs f * k + h is ours 64 * h + k.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from usbench import EncoderDecoder, UsbenchError
from usbench.baselines.pretrained import for_channels
from usbench.tools import read_state

TOKEN = 64
_REMEDY = (
    "give a MiT-B1 or a whole checkpoint of MISSFormer (.pth, .pt or .safetensors), "
    "or start from nothing: --set method.pretrained=none"
)
_DEAD = re.compile(
    # Two of the three norms of a feed-forward part, and what the coarsest step would do with a skip.
    r"\.(mlp|mixffn\d)\.norm[23]\.|^decoder_3\.(concat_linear|layer_former_\d)\."
)
_HEAD = "decoder.head."
_STEM = "encoder.stages.0.embed.weight"

# In a block: theirs -> ours.
_BLOCK = (
    ("attn.q.", "attention.query."),
    ("attn.kv.", "attention.key_value."),
    ("attn.proj.", "attention.project."),
    ("attn.sr.", "attention.reduce."),
    ("attn.norm.", "attention.norm."),
    ("attn.scale_reduce.norm.", "attention.norm."),
)
_FEED = (("dwconv.dwconv.", "depthwise."), ("norm1.", "norm."))


def read_published(path: str) -> dict[str, Tensor] | None:
    """The tensors of a checkpoint of the authors' code, or None for a file of other weights.

    Args:
        path: The file. Names may begin with "module.", as several GPUs leave them.

    Returns:
        By name the tensors, of the shapes that they have in the file: filters [outputs, inputs, h, w],
        matrices [outputs, inputs], and vectors.

    Raises:
        UsbenchError: For a file that is absent or damaged.
    """
    state = read_state(Path(path).expanduser(), _REMEDY)
    state = {name.removeprefix("module."): value for name, value in state.items()}
    return state if any(name.startswith("bridge.bridge_layer") for name in state) else None


def our_name(theirs: str) -> str | None:
    """What a tensor of theirs is called here; None for one that never takes part in an output.

    Raises:
        KeyError: For a name that their network does not have.
    """
    if _DEAD.search(theirs):
        return None
    part, _, rest = theirs.partition(".")
    if part == "backbone":
        return _in_encoder(rest)
    if part == "bridge":
        layer, rest = _numbered(rest, "bridge_layer")
        return f"decoder.bridge.{layer - 1}.{_in_bridge(rest)}"
    level, _ = _numbered(part + ".", "decoder_")
    if rest.startswith("last_layer.") and level == 0:
        return _HEAD + rest.removeprefix("last_layer.")
    if rest.startswith("layer_up."):
        # What enlarges the map of level 3 leads to step 0, and so on; that of level 0 comes last.
        to = "last." if level == 0 else f"expansions.{3 - level}."
        return f"decoder.{to}{rest.removeprefix('layer_up.')}"
    if rest.startswith("concat_linear."):
        return f"decoder.steps.{2 - level}.join.{rest.removeprefix('concat_linear.')}"
    block, rest = _numbered(rest, "layer_former_")
    return f"decoder.steps.{2 - level}.blocks.{block - 1}.{_in_block(rest)}"


def _numbered(text: str, before: str) -> tuple[int, str]:
    found = re.match(rf"{before}(\d+)\.", text)
    if found is None:
        raise KeyError(text)
    return int(found[1]), text[found.end() :]


def _in_encoder(name: str) -> str:
    for before, ours in (("patch_embed", ""), ("norm", "norm.")):
        if name.startswith(before):
            stage, rest = _numbered(name, before)
            rest = rest.replace("proj.", "embed.").replace("norm.", "embed_norm.") if not ours else rest
            return f"encoder.stages.{stage - 1}.{ours}{rest}"
    stage, rest = _numbered(name, "block")
    block, _, rest = rest.partition(".")
    return f"encoder.stages.{stage - 1}.blocks.{block}.{_in_block(rest)}"


def _in_block(name: str) -> str:
    if name.startswith("mlp."):
        return f"feed_forward.{_replaced(name.removeprefix('mlp.'), _FEED)}"
    return _replaced(name, _BLOCK)


def _in_bridge(name: str) -> str:
    if name.startswith("mixffn"):
        scale, rest = _numbered(name, "mixffn")
        return f"feed_forward.{scale - 1}.{_replaced(rest, _FEED)}"
    if name.startswith("attn.scale_reduce.sr"):
        scale, rest = _numbered(name, "attn.scale_reduce.sr")
        return f"attention.reduce.{scale}.{rest}"
    return _replaced(name, _BLOCK)


def _replaced(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for theirs, ours in pairs:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def token_order(values: Tensor) -> Tensor:
    """Output channels of a reducing convolution, [64 f, ...], in the order of channels-last tokens."""
    places = values.reshape(TOKEN, -1, *values.shape[1:])
    return places.transpose(0, 1).reshape(values.shape)


def load_published(network: EncoderDecoder, published: Mapping[str, Tensor], path: str) -> None:
    """Fill a MISSFormer from a checkpoint of the authors' code.

    Their network has three input channels, and repeats a single one. Filters for one channel are therefore
    the sum over the three, which is the same function; for other numbers the three in turn, times 3 /
    channels. A head for another number of classes keeps its start, and a bridge with fewer layers takes the
    first of theirs.

    Args:
        network: As `usbench.baselines.missformer.build` makes it, for images [B, C, H, W].
        published: The tensors, as `read_published` gives them; its first filters are [64, 3, 7, 7].
        path: Where they come from, for messages.

    Raises:
        UsbenchError: Where a tensor is missing, unknown or of another shape.
    """
    wanted = network.state_dict()
    found = {}
    for theirs, values in published.items():
        try:
            name = our_name(theirs)
        except KeyError:
            raise UsbenchError(f"{path}: MISSFormer has no tensor '{theirs}'; {_REMEDY}") from None
        if name is None or (name.startswith("decoder.bridge.") and name not in wanted):
            continue
        if "attention.reduce." in name and name.startswith("decoder.bridge."):
            values = token_order(values)
        found[name] = values
    if _STEM in found and found[_STEM].shape != wanted[_STEM].shape:
        found[_STEM] = for_channels(found[_STEM], wanted[_STEM].shape[1])
    if found.get(f"{_HEAD}weight", torch.empty(0)).shape != wanted[f"{_HEAD}weight"].shape:
        found |= {name: values for name, values in wanted.items() if name.startswith(_HEAD)}
    for name, values in wanted.items():
        if name not in found:
            raise UsbenchError(
                f"{path}: nothing in it fills '{name}' of the network; fewer bridge layers "
                f"(method.bridge_layers), or {_REMEDY}"
            )
        if found[name].shape != values.shape:
            shapes = f"{tuple(found[name].shape)}, not {tuple(values.shape)}"
            raise UsbenchError(f"{path}: what fills '{name}' is {shapes}; {_REMEDY}")
    network.load_state_dict(found)
