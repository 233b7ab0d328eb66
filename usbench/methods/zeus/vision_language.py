"""The frozen image towers of vision-language models, and how weights of frozen towers are read.

Wang, Wu, Agarwal, Sun: MedCLIP: Contrastive Learning from Unpaired Medical Images and Text (EMNLP
2022), the tower that Zeus uses: a Swin-T or a ResNet-50. Li, Li, Savarese, Hoi: BLIP-2: Bootstrapping
Language-Image Pre-training with Frozen Image Encoders and Large Language Models (ICML 2023).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench import UsbenchError
from usbench.tools import (
    below,
    freeze,
    load_errors,
    make_importable,
    quiet,
    read_json,
    read_weights,
    seeded,
    unknown,
)

MEDCLIP_MEAN, MEDCLIP_STD = (0.5862785803043838,) * 3, (0.27950088968644304,) * 3
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
KINDS = ("medclip-vit", "medclip-resnet", "blip2", "xraygpt")
# Buffers that older files hold and newer classes make themselves.
_DERIVED = ("position_ids", "relative_position_index", "num_batches_tracked")


def check_keys(missing: Sequence[str], extra: Sequence[str], source: str) -> None:
    """Check that weights have the names that a configuration asks for.

    Args:
        missing: Names that the weights lack.
        extra: Names that the configuration has no place for; known derived buffers are passed over.
        source: Where the weights come from, for messages.

    Raises:
        UsbenchError: Where a name is missing or left over.
    """
    extra = [key for key in extra if not key.endswith(_DERIVED)]
    if missing or extra:
        counts = [f"{len(missing)} missing, first {min(missing)}"] if missing else []
        counts += [f"{len(extra)} left over, first {min(extra)}"] if extra else []
        raise UsbenchError(
            f"{source}: the weights do not fit the configuration: {'; '.join(counts)}; "
            "give the weights and the configuration of one model"
        )


def check_info(info: Mapping[str, Any], source: str, extra: bool = True) -> None:
    """Check what transformers tells of a loading: names as `check_keys`, and shapes.

    Args:
        info: What `from_pretrained` gives with `output_loading_info`.
        source: Where the weights come from, for messages.
        extra: Whether weights that are left over are an error.

    Raises:
        UsbenchError: Where a weight is missing, left over or of another shape.
    """
    for key, found, wanted in sorted(info["mismatched_keys"]):
        raise UsbenchError(
            f"{source}: the weight {key} has shape {tuple(found)}, the configuration wants {tuple(wanted)}; "
            "give the weights and the configuration of one model"
        )
    check_keys(list(info["missing_keys"]), list(info["unexpected_keys"]) if extra else [], source)


def build_model(kind: Any, config: Any, state: Mapping[str, Tensor], source: str) -> Any:
    """A transformers model in 32 bit, filled from a state dict and nothing else.

    Args:
        kind: Its class. Names of older transformers versions are understood.
        config: Its configuration.
        state: Tensors of any shape by name; each must have the shape that `config` asks for.
        source: Where they come from, for messages.

    Raises:
        UsbenchError: Naming `source` where a weight is missing, left over or of another shape.
    """
    with seeded(0), quiet(), load_errors(Path(source), f"the weights as {kind.__name__}"):
        model, info = kind.from_pretrained(
            None,
            config=config,
            state_dict=dict(state),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
        )
    check_info(info, source)
    return model


class VisionEncoder:
    """A frozen image tower. It is no module, so no optimiser, state dict or train() reaches it.

    Args:
        name: One of `KINDS`.
        module: The network of the tower.
        features: Normalised images [N, 3, size, size] -> features [N, T, width].
        width: Of its features.
        size: The side that images are resized to.
        mean: Of the three colours, which is subtracted.
        std: Of the three colours, which is divided by.
        mode: How images are resized, "bilinear" or "bicubic".

    Attributes:
        small: What becomes of images smaller than `size`: "enlarge", or "pad" with black on all sides.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        features: Callable[[Tensor], Tensor],
        width: int,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        mode: str = "bilinear",
    ) -> None:
        self.name, self.width, self.size = name, width, size
        self.mode, self.small = mode, "enlarge"
        self.module: nn.Module = freeze(module)
        self._features = features
        self._mean, self._std = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)

    def to(self, device: torch.device | str) -> VisionEncoder:
        """This encoder, moved to `device`."""
        self.module.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features of images.

        Images are resized (antialiased) or padded, copied to three channels and normalised.

        Args:
            images: Grey values from 0 to 1, [N, S, S].

        Returns:
            Features [N, T, width] on the device of the images; T is 1 for a tower that pools.

        Raises:
            UsbenchError: For images of another number of dimensions.
        """
        if images.dim() != 3:
            raise UsbenchError(f"images of shape {tuple(images.shape)} are not [N, S, S]; give grey images")
        pixels = images.to(self._mean.device, torch.float32)[:, None]
        if pixels.shape[-2:] != (self.size, self.size):
            pixels = self._fitted(pixels)
        features = self._features((pixels.expand(-1, 3, -1, -1) - self._mean) / self._std)
        return features.to(images.device)

    def _fitted(self, pixels: Tensor) -> Tensor:
        """Grey images [N, 1, S, S] -> [N, 1, size, size]."""
        lacking = self.size - pixels.shape[-1]
        if self.small == "pad" and lacking > 0:
            first = lacking // 2
            return functional.pad(pixels, (first, lacking - first, first, lacking - first))
        resized = functional.interpolate(pixels, (self.size, self.size), mode=self.mode, antialias=True)
        # Bicubic weights overshoot; an image of eight bits cannot.
        return resized.clamp(0, 1) if self.mode == "bicubic" else resized


def load_vision_encoder(
    name: str,
    path: Path,
    config: Mapping[str, Any] | None = None,
    device: torch.device | str = "cpu",
    small: str = "enlarge",
) -> VisionEncoder:
    """A frozen image tower. The caller's random state is left as it was.

    Args:
        name: "medclip-vit" gives pooled features of width 768, "medclip-resnet" pooled features of width
            2048, "blip2" all tokens, "xraygpt" those of BLIP-2's Q-Former behind it.
        path: MedCLIP's pytorch_model.bin or its folder; for "blip2" and "xraygpt" a folder of transformers
            with its config.json.
        config: For "medclip-vit" the arguments of transformers' SwinConfig (default: a config.json of a Swin
            beside the weights, else Swin-T with patches of 4 and windows of 7 at 224); for "medclip-resnet"
            {"layers": [3, 4, 6, 3]} by default.
        device: Where the tower goes.
        small: What becomes of images smaller than the tower's, see `VisionEncoder`.

    Raises:
        UsbenchError: For another name, and for files that are missing, damaged or do not fit.
    """
    loaders = {
        "medclip-vit": _medclip_vit,
        "medclip-resnet": _medclip_resnet,
        "blip2": _blip2,
        "xraygpt": _xraygpt,
    }
    if name not in loaders:
        raise unknown("vision encoder", name, loaders)
    make_importable()
    with seeded(0):
        encoder = loaders[name](Path(path), config).to(device)
    encoder.small = small
    return encoder


def _side(size: Any) -> int:
    return int(size if isinstance(size, int) else size[0])


def _medclip_vit(path: Path, config: Mapping[str, Any] | None) -> VisionEncoder:
    from transformers import SwinConfig, SwinModel

    beside = (path if path.is_dir() else path.parent) / "config.json"
    if config is None and beside.is_file():
        found = read_json(beside, "a configuration", "get the file again")
        # The configuration of MedCLIP's text tower may lie there too.
        config = found if isinstance(found, dict) and found.get("model_type") == "swin" else None
    swin_config = SwinConfig(**(config or {}))
    state = below(read_weights(path, ("vision_model.",)), "vision_model.model.")
    model = build_model(SwinModel, swin_config, state, str(path))

    def features(pixels: Tensor) -> Tensor:
        pooled: Tensor = model(pixel_values=pixels).pooler_output
        return pooled[:, None]

    side, width = _side(swin_config.image_size), int(model.num_features)
    return VisionEncoder("medclip-vit", model, features, width, side, MEDCLIP_MEAN, MEDCLIP_STD)


def _medclip_resnet(path: Path, config: Mapping[str, Any] | None) -> VisionEncoder:
    resnet = importlib.import_module("torchvision.models.resnet")
    model = resnet.ResNet(resnet.Bottleneck, list((config or {}).get("layers", (3, 4, 6, 3))))
    width = model.fc.in_features
    model.fc = nn.Identity()
    state = below(read_weights(path, ("vision_model.",)), "vision_model.model.")
    # The projection to 512 is not used: the features before it are.
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    with load_errors(path, "the weights as ResNet"):
        found = model.load_state_dict(state, strict=False)
    missing = [key for key in found.missing_keys if not key.endswith(_DERIVED)]
    check_keys(missing, found.unexpected_keys, str(path))
    return VisionEncoder(
        "medclip-resnet", model, lambda pixels: model(pixels)[:, None], width, 224, MEDCLIP_MEAN, MEDCLIP_STD
    )


def _blip2(path: Path, config: Mapping[str, Any] | None) -> VisionEncoder:
    from transformers import Blip2VisionConfig, Blip2VisionModel

    if config is None and not (path / "config.json").is_file():
        raise UsbenchError(f"{path / 'config.json'}: there is no such file; give a BLIP-2 folder")
    with quiet(), load_errors(path, "the configuration of BLIP-2"):
        if config is not None:
            vision_config = Blip2VisionConfig(**config)
        else:
            vision_config = Blip2VisionConfig.from_pretrained(path, local_files_only=True)
    state = below(read_weights(path, ("vision_model.",)), "vision_model.")
    model = build_model(Blip2VisionModel, vision_config, state, str(path))

    def features(pixels: Tensor) -> Tensor:
        tokens: Tensor = model(pixel_values=pixels).last_hidden_state
        return tokens

    side, width = _side(vision_config.image_size), int(vision_config.hidden_size)
    return VisionEncoder("blip2", model, features, width, side, CLIP_MEAN, CLIP_STD)


class QFormerTower(nn.Module):
    """BLIP-2's image tower and the Q-Former behind it.

    Args:
        vision: The image tower, a Blip2VisionModel.
        qformer: A Blip2QFormerModel.
        queries: Its learned queries [1, queries, width].
    """

    def __init__(self, vision: nn.Module, qformer: nn.Module, queries: Tensor) -> None:
        super().__init__()
        self.vision, self.qformer = vision, qformer
        self.queries = nn.Parameter(queries)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised images [N, 3, size, size] -> [N, queries, width]."""
        seen = self.vision(pixel_values=pixels).last_hidden_state
        asked = self.queries.expand(len(pixels), -1, -1)
        mixed: Tensor = self.qformer(query_embeds=asked, encoder_hidden_states=seen).last_hidden_state
        return mixed


def _xraygpt(path: Path, config: Mapping[str, Any] | None) -> VisionEncoder:
    """XrayGPT's eye: EVA-g and Q-Former of the BLIP-2 that was trained with Flan-T5-XXL."""
    from transformers import Blip2Config, Blip2QFormerModel, Blip2VisionModel

    if config is None and not (path / "config.json").is_file():
        raise UsbenchError(f"{path / 'config.json'}: there is no such file; give a BLIP-2 folder")
    with quiet(), load_errors(path, "the configuration of BLIP-2"):
        whole: Any = Blip2Config(**config or {})
        if config is None:
            whole = Blip2Config.from_pretrained(path, local_files_only=True)
    state = read_weights(path, ("vision_model.", "qformer.", "query_tokens"))
    queries = state.get("query_tokens")
    wanted = (1, whole.num_query_tokens, whole.qformer_config.hidden_size)
    if queries is None:
        check_keys(["query_tokens"], [], str(path))
    elif tuple(queries.shape) != wanted:
        raise UsbenchError(
            f"{path}: query_tokens has shape {tuple(queries.shape)}, the configuration wants {wanted}; "
            "give the weights and the configuration of one model"
        )
    assert queries is not None
    vision = build_model(Blip2VisionModel, whole.vision_config, below(state, "vision_model."), str(path))
    qformer = build_model(Blip2QFormerModel, whole.qformer_config, below(state, "qformer."), str(path))
    tower = QFormerTower(vision, qformer, queries.float())
    side = _side(whole.vision_config.image_size)
    return VisionEncoder("xraygpt", tower, tower, wanted[2], side, CLIP_MEAN, CLIP_STD, mode="bicubic")
