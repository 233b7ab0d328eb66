"""Encoders of segmentation-models-pytorch and timm, and the pretrained weights they start from.

Four starts: nothing; a set that the library names ("imagenet"), which comes from the Hugging Face
hub and stays in its cache; "bundled", EfficientNet-Lite0 on ImageNet out of a package on the Python index;
a file of one's own. First convolutions of other than three channels follow the library's rule: the sum over
colours for one channel, else the colours repeated in turn and scaled by 3 / channels.

EfficientNet-Lite0: Tan, Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks.
ICML 2019, without squeeze-and-excitation and with ReLU6.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from torch import Tensor, nn

from usbench import UsbenchError
from usbench.tools import find_weight, make_importable, read_state, sha256_file, unknown, weight_path

LICENCES = {"resnet": "BSD-3-Clause (torchvision)", "mit_": "NVIDIA Source Code License, non-commercial"}
BUNDLED = "efficientnet-lite0"
"""The entry of the table of weights that "bundled" means."""
BUNDLED_ENCODER = "tu-tf_efficientnet_lite0"
_STAGES = (1, 2, 2, 3, 3, 4, 1)  # Blocks of EfficientNet-Lite0 in each stage.
_NOTHING = "or start from nothing: --set method.pretrained=none"


def is_file(pretrained: str) -> bool:
    """Whether `method.pretrained` means a file: it has a suffix or a folder in it."""
    return bool(Path(pretrained).suffix) or any(mark in pretrained for mark in ("/", "\\", "~"))


def weights_name(pretrained: str) -> str:
    """What a result says of a start: "none", the set's name, or a file's name and digest."""
    if pretrained == "bundled":
        return f"bundled {BUNDLED} ({str(find_weight(BUNDLED).sha256)[:8]})"
    if not is_file(pretrained):
        return pretrained
    path = Path(pretrained).expanduser()
    if not path.is_file():
        return path.name
    state = path.stat()
    return f"{path.name} ({_digest(path, state.st_size, state.st_mtime_ns)[:8]})"


@lru_cache(maxsize=16)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    """SHA-256 of a file that every cell of a matrix asks for."""
    return sha256_file(path)


def licence(encoder: str, pretrained: str) -> str:
    """The licence of an encoder's weights: "none" from nothing, "unknown" where usbench cannot tell."""
    if pretrained == "none":
        return "none"
    if pretrained == "bundled":
        return find_weight(BUNDLED).licence
    if is_file(pretrained):
        return "unknown"
    if encoder.startswith("tu-"):
        import importlib

        make_importable()
        timm = importlib.import_module("timm.models")
        config = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
        return str(config.license) if config is not None and config.license else "unknown"
    return next((words for start, words in LICENCES.items() if encoder.startswith(start)), "unknown")


def check_encoder(encoder: str) -> None:
    """Raise `UsbenchError` with the nearest name where the library has no such encoder."""
    make_importable()
    import segmentation_models_pytorch as smp

    names = smp.encoders.get_encoder_names()
    if encoder not in names and not encoder.startswith("tu-"):
        raise unknown("value of method.encoder", encoder, names, "see segmentation-models-pytorch's encoders")


def make_encoder(encoder: str, in_channels: int, pretrained: str) -> nn.Module:
    """An encoder of segmentation-models-pytorch, all five levels deep, started as the module says.

    Args:
        encoder: A name of that library, or "tu-" and a name of timm.
        in_channels: C of the images [B, C, H, W].
        pretrained: "none", a set's name, "bundled" for `BUNDLED_ENCODER` alone, or the path of a state dict
            (.pth, .pt, .safetensors) as torchvision, timm or the library saves one.

    Raises:
        UsbenchError: Naming the setting, or the file, that is wrong.
    """
    check_encoder(encoder)
    if (encoder, pretrained) == (BUNDLED_ENCODER, "bundled"):
        path = weight_path(BUNDLED)
        return _from_state(encoder, in_channels, renamed(read_state(path, "fetch it again")), path)
    if is_file(pretrained):
        return _from_file(encoder, in_channels, Path(pretrained).expanduser())
    import segmentation_models_pytorch as smp

    if pretrained != "none":
        _require_set(encoder, pretrained)
    try:
        made: nn.Module = smp.encoders.get_encoder(
            encoder, in_channels=in_channels, weights=None if pretrained == "none" else pretrained
        )
    except Exception as error:
        if pretrained == "none":
            raise UsbenchError(
                f"method.encoder '{encoder}' cannot be built: {error}; choose another"
            ) from error
        raise _unavailable(encoder, pretrained, type(error).__name__) from error
    return made


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """EfficientNet-Lite0 under timm's names.

    Args:
        state: Tensors (of any shape) of the whole classifier under the names of the file that ships: blocks
            in one row, whose first norm "_bn0" is there where the block widens its input.

    Returns:
        The same tensors: blocks in stages, and the norms of a block counted from the first that it has.
    """
    places = [(stage, block) for stage, blocks in enumerate(_STAGES) for block in range(blocks)]
    outside = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    outside["_fc"] = "classifier"
    made = {}
    for key, value in state.items():
        part, _, leaf = key.rpartition(".")
        found = re.fullmatch(r"_blocks\.(\d+)\._(\w+)", part)
        if found and int(found[1]) < len(places):
            number, inner = int(found[1]), found[2]
            widens = f"_blocks.{number}._expand_conv.weight" in state
            names = {"depthwise_conv": "conv_dw", "expand_conv": "conv_pw"}
            names["project_conv"] = "conv_pwl" if widens else "conv_pw"
            names |= {f"bn{n}": f"bn{n + 1 if widens else n}" for n in range(3)}
            stage, block = places[number]
            made[f"blocks.{stage}.{block}.{names.get(inner, inner)}.{leaf}"] = value
        else:
            made[f"{outside.get(part, part)}.{leaf}"] = value
    return made


def _from_file(encoder: str, in_channels: int, path: Path) -> nn.Module:
    state = read_state(path, f"give a state dict (.pth, .pt or .safetensors), {_NOTHING}")
    return _from_state(encoder, in_channels, state, path)


def _from_state(encoder: str, in_channels: int, state: dict[str, Tensor], path: Path) -> nn.Module:
    import segmentation_models_pytorch as smp

    made: nn.Module = smp.encoders.get_encoder(encoder, in_channels=3, weights=None)
    if encoder.startswith("tu-") and not any(key.startswith("model.") for key in state):
        state = {f"model.{key}": value for key, value in state.items()}
    wanted = made.state_dict()
    # Checkpoints of classifiers carry a head, which an encoder has no use for.
    lost = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    if lost:
        raise UsbenchError(
            f"{path}: has no tensor '{lost[0]}' ({len(lost)} of {len(wanted)} are missing); "
            f"give weights of encoder '{encoder}', {_NOTHING}"
        )
    for key in wanted:
        if key in state and state[key].shape != wanted[key].shape:
            raise UsbenchError(
                f"{path}: tensor '{key}' is {tuple(state[key].shape)}, not {tuple(wanted[key].shape)}; "
                f"give weights of encoder '{encoder}', {_NOTHING}"
            )
    made.load_state_dict({key: state.get(key, wanted[key]) for key in wanted})
    if in_channels == 3:
        return made
    if not encoder.startswith("tu-"):
        adapt: Any = made.set_in_channels
        adapt(in_channels, pretrained=True)
        return made
    return _for_channels(encoder, in_channels, made)


def _for_channels(encoder: str, in_channels: int, three: nn.Module) -> nn.Module:
    """An encoder of timm for C channels out of one for three; the library adapts only encoders of its own."""
    import segmentation_models_pytorch as smp

    made: nn.Module = smp.encoders.get_encoder(encoder, in_channels=in_channels, weights=None)
    state, wanted = three.state_dict(), made.state_dict()
    for key in [key for key in wanted if wanted[key].shape != state[key].shape]:
        state[key] = for_channels(state[key], in_channels)
    made.load_state_dict(state)
    return made


def for_channels(colours: Tensor, channels: int) -> Tensor:
    """First filters for three colours, made to fit other images, by the library's rule.

    Args:
        colours: [outputs, 3, h, w].
        channels: C of the images.

    Returns:
        [outputs, C, h, w]: the sum over colours for one channel, which does to an image what the filters do
        to three copies of it; else the colours in turn, times 3 / C.
    """
    if channels == 1:
        return colours.sum(dim=1, keepdim=True)
    given = colours.shape[1]
    return colours[:, [n % given for n in range(channels)]] * (given / channels)


def _require_set(encoder: str, pretrained: str) -> None:
    """Fail at once where a set is unknown, or neither in the cache nor to be reached."""
    import segmentation_models_pytorch as smp
    from huggingface_hub import constants, try_to_load_from_cache

    # The hub says for half a minute that it is trying again; the error says it once.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if encoder.startswith("tu-"):
        repository, revision = _repository(encoder, pretrained)
        if not repository:
            raise UsbenchError(f"method.encoder '{encoder}': timm has no weights for it; {_NOTHING[3:]}")
    else:
        sets = smp.encoders.encoders[encoder]["pretrained_settings"]
        if pretrained not in sets:
            raise unknown(f"value of method.pretrained for encoder {encoder}", pretrained, [*sets, "none"])
        repository, revision = _repository(encoder, pretrained)
    cached = try_to_load_from_cache(repository, "model.safetensors", revision=revision)
    if isinstance(cached, str) or any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy")):
        return
    host = urlsplit(constants.ENDPOINT)
    try:
        port = host.port or (80 if host.scheme == "http" else 443)
        socket.create_connection((host.hostname or "", port), timeout=10).close()
    except OSError as error:
        raise _unavailable(encoder, pretrained, f"no connection to {host.hostname}") from error


def _repository(encoder: str, pretrained: str) -> tuple[str, str | None]:
    """Where on the hub the weights are: repository and revision, ("", None) where nowhere."""
    import segmentation_models_pytorch as smp
    import timm

    if encoder.startswith("tu-"):
        config = timm.models.get_pretrained_cfg(encoder.removeprefix("tu-"))
        return (str(config.hf_hub_id) if config is not None and config.hf_hub_id else ""), None
    found = smp.encoders.encoders[encoder]["pretrained_settings"][pretrained]
    return str(found["repo_id"]), str(found["revision"])


def _unavailable(encoder: str, pretrained: str, why: str) -> UsbenchError:
    repository, revision = _repository(encoder, pretrained)
    fetch = f"hf download {repository}" + (f" --revision {revision}" if revision else "")
    return UsbenchError(
        f"method.pretrained '{pretrained}' of encoder '{encoder}' cannot be loaded ({why}): "
        f"run once online: {fetch}; or give a file, --set method.pretrained=PATH; {_NOTHING}"
    )
