"""Weights published as a NumPy archive in the layout of JAX, put into layers of PyTorch.

In that layout a convolution's kernel is [height, width, in, out], a dense layer's is [in, out], and
those of attention are [in, heads, width] for query, key and value and [heads, width, out] for the
output. The scale and bias of a norm may carry leading axes of length 1.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from usbench import UsbenchError

MOST_BYTES = 256 << 20
"""Of one array: the largest that is published, a classifier of 21,843 classes, has a quarter."""


class NpzFile:
    """The arrays of one .npz file, each checked as it is taken.

    Args:
        path: The file.
        remedy: What the user should do where it is missing, damaged or another file. Every error is a
            `UsbenchError` that names the file and ends with it.
    """

    def __init__(self, path: str | Path, remedy: str) -> None:
        self.path = Path(path).expanduser()
        self.remedy = remedy
        if not self.path.is_file():
            raise self._error("a folder, not a file" if self.path.is_dir() else "there is no such file")
        try:
            arrays = np.load(self.path, allow_pickle=False)
        # Damaged archives raise errors of many kinds: of zip, of zlib, of the array's header.
        except Exception as error:
            raise self._error(f"not a readable .npz archive ({error})") from error
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise self._error("a single array, not a .npz archive")
        self._arrays = arrays
        assert arrays.zip is not None
        self._zip = arrays.zip

    def __enter__(self) -> NpzFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._arrays.close()

    def take(self, key: str) -> Tensor:
        """The array `key` as a float32 tensor of any shape: the one it has in the file."""
        if f"{key}.npy" not in self._zip.namelist():
            raise self._error(f"it has no array '{key}'")
        try:
            dtype, stated, there = self._header(key)
        except Exception as error:
            raise self._error(f"array '{key}' cannot be read ({error})") from error
        if dtype.kind != "f":
            raise self._error(f"array '{key}' holds {dtype}, not floating-point numbers")
        if stated > MOST_BYTES:
            raise self._error(f"array '{key}' has {stated:,} bytes, at most {MOST_BYTES:,} are read")
        if stated != there:
            raise self._error(f"array '{key}' has {there:,} bytes, and {stated:,} by its header")
        try:
            array = self._arrays[key]
        except Exception as error:
            raise self._error(f"array '{key}' cannot be read ({error})") from error
        if not np.isfinite(array).all():
            raise self._error(f"array '{key}' holds numbers that are not finite")
        return torch.from_numpy(np.asarray(array, dtype=np.float32))

    def _header(self, key: str) -> tuple[np.dtype[Any], int, int]:
        """Type of an array, its bytes by its own header, and those that the archive says it unpacks to.

        NumPy makes room for what the header says before it reads anything.
        """
        member = self._zip.getinfo(f"{key}.npy")
        with self._zip.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
            return dtype, math.prod(shape) * dtype.itemsize, member.file_size - stream.tell()

    def conv(self, layer: nn.Conv2d, key: str) -> None:
        """Fill a convolution from `key`/kernel, and its bias, where it has one, from `key`/bias."""
        out, inner, *size = layer.weight.shape
        kernel = self._shaped(f"{key}/kernel", (*size, inner, out))
        _fill(layer.weight, kernel.permute(3, 2, 0, 1))
        if layer.bias is not None:
            _fill(layer.bias, self._shaped(f"{key}/bias", (out,)))

    def image_conv(self, layer: nn.Conv2d, key: str) -> None:
        """Fill a network's first convolution, whose stored kernel is for three colours.

        For C input channels other than 3, each gets the sum over the colours divided by C. The
        kernel then does to an image whose C channels are equal what the stored one does to a grey
        image; a layer that standardises its kernel changes the scale of each filter beside that.
        """
        out, inner, *size = layer.weight.shape
        kernel = self._shaped(f"{key}/kernel", (*size, 3, out))
        if inner != 3:
            kernel = kernel.sum(dim=2, keepdim=True).expand(*size, inner, out) / inner
        _fill(layer.weight, kernel.permute(3, 2, 0, 1))

    def norm(self, layer: nn.GroupNorm | nn.LayerNorm, key: str) -> None:
        """Fill a norm from `key`/scale and `key`/bias."""
        for parameter, name in ((layer.weight, "scale"), (layer.bias, "bias")):
            values = self.take(f"{key}/{name}")
            if values.numel() != parameter.numel() or values.shape[-1:] != parameter.shape:
                raise self._misshapen(f"{key}/{name}", values, tuple(parameter.shape))
            _fill(parameter, values.reshape(-1))

    def dense(self, layer: nn.Linear, key: str, heads_in: int = 0, heads_out: int = 0) -> None:
        """Fill a linear layer from `key`/kernel and `key`/bias.

        Args:
            layer: The layer, whose weight is [out, in].
            key: Name of the arrays in the file.
            heads_in: Into how many heads the file splits the input; 0 where it does not.
            heads_out: The same for the output.
        """
        out, inner = layer.weight.shape
        inputs = (heads_in, inner // heads_in) if heads_in else (inner,)
        outputs = (heads_out, out // heads_out) if heads_out else (out,)
        kernel = self._shaped(f"{key}/kernel", (*inputs, *outputs))
        _fill(layer.weight, kernel.reshape(inner, out).T)
        _fill(layer.bias, self._shaped(f"{key}/bias", outputs).reshape(-1))

    def positions(self, key: str, width: int) -> Tensor:
        """A position embedding [1, 1 + side * side, width] as a map [1, width, side, side].

        Its first row, which belongs to the class token, is dropped.
        """
        stored = self.take(key)
        side = round(max(stored.shape[1] - 1, 0) ** 0.5) if stored.ndim == 3 else 0
        if side < 1 or stored.shape != (1, 1 + side * side, width):
            raise self._misshapen(key, stored, (1, "1 + a square", width))
        return stored[:, 1:].transpose(1, 2).reshape(1, width, side, side)

    def _shaped(self, key: str, shape: tuple[int, ...]) -> Tensor:
        values = self.take(key)
        if tuple(values.shape) != shape:
            raise self._misshapen(key, values, shape)
        return values

    def _misshapen(self, key: str, values: Tensor, wanted: tuple[int | str, ...]) -> UsbenchError:
        found, needed = (" x ".join(str(n) for n in shape) for shape in (values.shape, wanted))
        return self._error(f"array '{key}' is {found or 'a number'}, not {needed}")

    def _error(self, what: str) -> UsbenchError:
        return UsbenchError(f"{self.path}: {what}; {self.remedy}")


def _fill(parameter: Tensor, values: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(values)
