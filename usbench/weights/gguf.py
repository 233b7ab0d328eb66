"""Models in the format GGUF, converted once to a folder of transformers."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING

from usbench.errors import UsbenchError
from usbench.runtime.torchvision_cpu import make_importable
from usbench.storage.files import atomic_folder, cache_dir, os_errors
from usbench.storage.in_use import use
from usbench.weights.reading import load_errors, quiet, seeded

if TYPE_CHECKING:
    import torch


def converted(path: Path, precision: str) -> Path:
    """The folder of transformers that a .gguf file was converted to, made where it is not there yet.

    It lies in the cache under the file's name, size and time, since reading the .gguf takes several times as
    long as reading this. A second process waits.

    Args:
        path: The .gguf file.
        precision: "32" keeps 32 bit, the others 16.

    Raises:
        UsbenchError: Where the file is missing or damaged, a package is missing, or the folder cannot be
            written.
    """
    if not path.is_file():
        raise UsbenchError(f"{path}: there is no such file; check the path of the language model")
    for package in ("gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise UsbenchError(f"{path}: reading a .gguf file needs {package}; pip install gguf accelerate")
    import torch
    from filelock import FileLock

    stat, dtype = path.stat(), torch.float32 if precision == "32" else torch.bfloat16
    bits = 8 * dtype.itemsize
    folder = cache_dir() / "converted" / f"{path.stem}-{stat.st_size}-{stat.st_mtime_ns:x}-{bits}"
    with os_errors(folder, "write the converted language model"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        use(folder)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            if not (folder / "config.json").is_file():
                _convert(path, folder, dtype)
    return folder


def _convert(path: Path, folder: Path, dtype: torch.dtype) -> None:
    make_importable()
    # The reader's progress bar knows no switch.
    silence = contextlib.redirect_stderr(io.StringIO())
    with seeded(0), quiet(), silence, load_errors(path, "the language model"):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        where = {"gguf_file": path.name, "local_files_only": True}
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **where)
        model = AutoModelForCausalLM.from_pretrained(path.parent, dtype=dtype, **where)
    # The weights are plain numbers now, but transformers still takes them for quantised ones.
    for holder, mark in ((model.config, "quantization_config"), (model, "hf_quantizer")):
        if hasattr(holder, mark):
            delattr(holder, mark)
    with quiet(), atomic_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
