"""The weights of a language model's last block, read without the rest of the model, or drawn.

Read is what the tensors of that block and of the norm behind it take: an index of shards names their files,
and of a file only their bytes are read. From a hub only the files with them are fetched.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from usbench import UsbenchError
from usbench.methods.medvisionllama.hub import INDEX, WHOLE, fetched
from usbench.tools import below, converted, read_json, read_weights, weight_path

LLMS = ("smollm2", "llama", "random", "shuffled", "none")
SEED = 17
"""Of blocks that are drawn or shuffled: the same in every run, as a pretrained block is."""
REMEDY = "give the model's folder whole, with config.json and its .safetensors files"
KINDS = ("llama", "mistral")
PRECISIONS = {"32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class BlockConfig:
    """The sizes of a block of a Llama.

    Attributes:
        width: Of a token.
        heads: Of the attention.
        kv_heads: Heads that keys and values have.
        head_dim: Width of a head.
        mlp: Width within the MLP.
        layers: Blocks of the whole model.
        norm_eps: Of its norms.
        std: Standard deviation of the model's start, before it was trained.
        biased: Whether the attention's, and the MLP's, layers have biases.
    """

    width: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    layers: int
    norm_eps: float = 1e-5
    std: float = 0.02
    biased: tuple[bool, bool] = (False, False)

    @property
    def parameters(self) -> int:
        """Of the block, its two norms and the norm behind it."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.width * (2 * queries + 2 * keys) + self.biased[0] * (queries + 2 * keys + self.width)
        mlp = 3 * self.width * self.mlp + self.biased[1] * (2 * self.mlp + self.width)
        return attention + mlp + 3 * self.width

    def for_transformers(self) -> dict[str, Any]:
        """The same as arguments of transformers' LlamaConfig."""
        return {
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.mlp,
            "rms_norm_eps": self.norm_eps,
            "attention_bias": self.biased[0],
            "mlp_bias": self.biased[1],
            "num_hidden_layers": 1,
        }


# As the config.json of their publishers say.
SMOLLM2 = BlockConfig(576, 9, 3, 64, 1536, 30, std=1 / 24)
LLAMA = BlockConfig(4096, 32, 8, 128, 14336, 32)


@dataclass(frozen=True)
class Frozen:
    """The weights of a block.

    Attributes:
        source: Where they come from, for messages.
        layer: Those of the block, by transformers' names within it.
        norm: That of the norm behind it.
        digest: The first 8 bytes of their SHA-256.
    """

    source: Path
    layer: Mapping[str, Tensor]
    norm: Mapping[str, Tensor]
    digest: bytes


def config_of(llm: str, path: str) -> BlockConfig:
    """The sizes of the block that settings name; nothing is fetched.

    Args:
        llm: One of `LLMS` but "none".
        path: `method.llm_path`.

    Raises:
        UsbenchError: For a folder whose config.json is missing, damaged or not that of a Llama.
    """
    if llm == "smollm2" or (llm != "llama" and not path):
        return SMOLLM2
    folder = Path(path).expanduser()
    return read_config(folder) if path and folder.is_dir() else LLAMA


def load_block(llm: str, path: str, precision: str = "32") -> tuple[BlockConfig, Frozen]:
    """The block that settings name, read or drawn. Callers share its tensors and change none.

    Args:
        llm: As `config_of`.
        path: Likewise.
        precision: One of `PRECISIONS`.

    Raises:
        UsbenchError: For weights that are absent, damaged or not those of a Llama; it says what to do.
    """
    if llm == "random":
        config = read_config(folder_of(path)) if path else SMOLLM2
        return config, _drawn(config, precision)
    folder = folder_of(path) if path or llm == "llama" else converted(weight_path("smollm2"), "32")
    stamp = tuple(sorted((file.name, file.stat().st_mtime_ns) for file in folder.glob("*.*")))
    config, frozen = _read(folder, stamp, precision)
    return (config, _shuffled(frozen, precision)) if llm == "shuffled" else (config, frozen)


def folder_of(path: str) -> Path:
    """The folder that `method.llm_path` names: a local one, one of the weights' table, or one of the hub.

    Args:
        path: A folder, a name such as "llama-3.1-8b", or OWNER/NAME of the hub; "" for "llama-3.1-8b".

    Raises:
        UsbenchError: Where it is not there, or cannot be fetched.
    """
    folder = Path(path).expanduser()
    if path and folder.is_dir():
        return folder
    if "/" not in path:
        return weight_path(path or "llama-3.1-8b")
    if path.count("/") == 1 and not path.startswith((".", "/", "~")):
        return fetched(path, names_of_layer)
    raise UsbenchError(
        f"method.llm_path: there is no folder {path}; give the folder of a Llama, or OWNER/NAME of the hub"
    )


def read_config(folder: Path) -> BlockConfig:
    """The sizes that a folder's config.json says.

    Raises:
        UsbenchError: Where it is missing, damaged, or not that of a Llama.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise UsbenchError(f"{file}: there is no such file; {REMEDY}")
    told = read_json(file, "the configuration of a language model", REMEDY)
    kind = told.get("model_type") if isinstance(told, dict) else None
    if kind not in KINDS:
        raise UsbenchError(
            f"{file}: its model_type is '{kind}', and only blocks of a Llama can be used "
            f"({' or '.join(KINDS)}); give another model"
        )
    try:
        width, heads = int(told["hidden_size"]), int(told["num_attention_heads"])
        return BlockConfig(
            width,
            heads,
            int(told.get("num_key_value_heads") or heads),
            int(told.get("head_dim") or width // heads),
            int(told["intermediate_size"]),
            int(told["num_hidden_layers"]),
            float(told.get("rms_norm_eps", 1e-6)),
            float(told.get("initializer_range", 0.02)),
            (bool(told.get("attention_bias")), bool(told.get("mlp_bias"))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsbenchError(f"{file}: says no sound sizes ({error}); {REMEDY}") from error


def names_of_layer(layers: int) -> tuple[str, ...]:
    """What the names of the last block's tensors begin with, and of the norm behind it.

    A model with a head for words has "model." before them.
    """
    return tuple(f"{of}{name}." for of in ("model.", "") for name in (f"layers.{layers - 1}", "norm"))


@functools.lru_cache(maxsize=1)
def _read(folder: Path, stamp: object, precision: str) -> tuple[BlockConfig, Frozen]:
    """Read the block of a folder; `stamp` differs where the folder was changed since."""
    config = read_config(folder)
    if not any((folder / name).is_file() for name in (WHOLE, INDEX)):
        raise UsbenchError(f"{folder}: has neither {WHOLE} nor {INDEX}; {REMEDY}")
    state = read_weights(folder, names_of_layer(config.layers))
    state = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    layer, norm = below(state, f"layers.{config.layers - 1}."), below(state, "norm.")
    if not layer or not norm:
        raise UsbenchError(f"{folder}: has no tensors of layer {config.layers - 1} or of the norm; {REMEDY}")
    state.clear()
    return config, _frozen(folder, layer, norm, precision)


def _drawn(config: BlockConfig, precision: str) -> Frozen:
    """A block as the model's own start: matrices N(0, std^2), biases 0, norms 1."""
    generator = torch.Generator().manual_seed(SEED)
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    sizes = {
        "self_attn.q_proj": (queries, config.width),
        "self_attn.k_proj": (keys, config.width),
        "self_attn.v_proj": (keys, config.width),
        "self_attn.o_proj": (config.width, queries),
        "mlp.gate_proj": (config.mlp, config.width),
        "mlp.up_proj": (config.mlp, config.width),
        "mlp.down_proj": (config.width, config.mlp),
    }
    layer = {}
    for name, size in sizes.items():
        layer[f"{name}.weight"] = torch.randn(size, generator=generator, device="cpu") * config.std
        if config.biased[name.startswith("mlp")]:
            layer[f"{name}.bias"] = torch.zeros(size[0], device="cpu")
    for name in ("input_layernorm", "post_attention_layernorm"):
        layer[f"{name}.weight"] = torch.ones(config.width, device="cpu")
    return _frozen(Path("random"), layer, {"weight": torch.ones(config.width, device="cpu")}, precision)


def _shuffled(frozen: Frozen, precision: str) -> Frozen:
    """Every tensor with its own numbers in an order that was drawn: the scale stays, what was learned not."""
    generator = torch.Generator().manual_seed(SEED)

    def mixed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        order = {
            name: torch.randperm(state[name].numel(), generator=generator, device="cpu")
            for name in sorted(state)
        }
        return {name: state[name].flatten()[order[name]].reshape(state[name].shape) for name in order}

    return _frozen(frozen.source, mixed(frozen.layer), mixed(frozen.norm), precision)


def _frozen(source: Path, layer: dict[str, Tensor], norm: dict[str, Tensor], precision: str) -> Frozen:
    """The tensors in the precision that is asked for, and their digest as they came."""
    digest = hashlib.sha256()
    for state in (layer, norm):
        for name in sorted(state):
            tensor = state[name].contiguous()
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            raw: Any = tensor.view(torch.uint8).numpy()
            digest.update(raw)
            # One after the other, so that a model is never held twice.
            state[name] = tensor.to(PRECISIONS[precision])
    return Frozen(source, layer, norm, digest.digest()[:8])
