"""Reading tensors of pretrained models: by name, out of files, folders and shards; and quietly."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from usbench.errors import UsbenchError
from usbench.storage.texts import read_json

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from the CPU's generator at `seed`, and leave it afterwards as it was found."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' reports and progress bars off the terminal."""
    from transformers.utils import logging as hf

    level, bars = hf.get_verbosity(), hf.is_progress_bar_enabled()
    hf.set_verbosity(logging.CRITICAL)
    hf.disable_progress_bar()
    try:
        yield
    finally:
        hf.set_verbosity(level)
        if bars:
            hf.enable_progress_bar()


@contextmanager
def load_errors(path: Path, what: str) -> Iterator[None]:
    """Turn what libraries raise while loading something into one clear line.

    Args:
        path: Where it is loaded from, for the message.
        what: What it is, for the message.

    Raises:
        UsbenchError: In place of what the block raises.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, EOFError, ImportError) as error:
        raise _cannot_load(path, what, error) from error
    except (pickle.UnpicklingError, SafetensorError) as error:
        raise _cannot_load(path, what, error) from error


def _cannot_load(path: Path, what: str, error: Exception) -> UsbenchError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return UsbenchError(f"{path}: cannot load {what} ({reason}); check the path or get the files again")


def read_weights(path: Path, prefixes: tuple[str, ...] = ("",)) -> dict[str, Tensor]:
    """The tensors (of any shape) below some prefixes, on the CPU and under their full names.

    Args:
        path: A .safetensors file, a file of torch.save (read with weights_only), or a folder in the format
            of transformers, whole or in shards.
        prefixes: Names that begin with one of these are read.

    Raises:
        UsbenchError: Where the file is missing or damaged, or holds something other than named tensors.
    """
    if path.is_dir():
        found = [path / name for name in WEIGHT_FILES if (path / name).is_file()]
        if not found:
            raise UsbenchError(f"{path}: there are no weights; a folder needs {' or '.join(WEIGHT_FILES)}")
        path = found[0]
    if path.suffix == ".json":
        index = read_json(path, "an index of weights", "get the files again")
        weight_map = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(weight_map, dict):
            raise UsbenchError(f"{path}: the index has no weight_map; get the files again")
        shards = sorted({str(f) for key, f in weight_map.items() if key.startswith(prefixes)})
        state: dict[str, Tensor] = {}
        for shard in shards:
            if Path(shard).name != shard or shard in WEIGHT_FILES[1::2]:
                raise UsbenchError(f"{path}: '{shard}' is no file beside the index; get the files again")
            state |= read_weights(path.with_name(shard), prefixes)
        return state
    with load_errors(path, "weights"):
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys() if key.startswith(prefixes)}  # noqa: SIM118
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, Mapping) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise UsbenchError(f"{path}: this is no state dict of named tensors; give the model's weights")
    return {key: value for key, value in loaded.items() if key.startswith(prefixes)}


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors (of any shape) whose names begin with `prefix`, which is cut off."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def freeze(module: nn.Module) -> Any:
    """The module in evaluation, none of its parameters trainable."""
    return module.requires_grad_(False).eval()
