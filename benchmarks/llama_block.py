"""What reading the last block of a Llama takes: memory at its highest and seconds.

Usage: python benchmarks/llama_block.py [--folder FOLDER] [--precision 32|bf16]

Without a folder two files are made in a temporary one, 1.9 GB, in the format and with the sizes of
Llama-3.1-8B, random numbers in bf16: the last two of its 32 blocks, its last norm and its head for words,
spread over two shards as in the original. What is printed is of this process: memory with everything
imported, its highest while the block is read and built, and the difference. Pages of the files that the
machine keeps in memory, and can drop, count too.
"""

from __future__ import annotations

from usbench.runtime.process import settle

settle()

import argparse
import json
import os
import re
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from usbench.methods.medvisionllama.block import LanguageBlock
from usbench.methods.medvisionllama.loading import LLAMA, BlockConfig, load_block


def make(folder: Path) -> None:
    """Write the files; see above."""
    told = {"model_type": "llama", **LLAMA.for_transformers(), "num_hidden_layers": LLAMA.layers}
    (folder / "config.json").write_text(json.dumps(told))
    wide, keys = LLAMA.width, LLAMA.kv_heads * LLAMA.head_dim
    sizes = {
        "self_attn.q_proj": (wide, wide),
        "self_attn.k_proj": (keys, wide),
        "self_attn.v_proj": (keys, wide),
        "self_attn.o_proj": (wide, wide),
        "mlp.gate_proj": (LLAMA.mlp, wide),
        "mlp.up_proj": (LLAMA.mlp, wide),
        "mlp.down_proj": (wide, LLAMA.mlp),
        "input_layernorm": (wide,),
        "post_attention_layernorm": (wide,),
    }
    all_of_it = {f"model.layers.{n}.{name}.weight": size for n in (30, 31) for name, size in sizes.items()}
    last = [f"model.layers.31.{name}.weight" for name in ("mlp.down_proj", *list(sizes)[-2:])]
    shards = {
        "model-00003-of-00004.safetensors": {k: s for k, s in all_of_it.items() if k not in last},
        "model-00004-of-00004.safetensors": {
            **{name: all_of_it[name] for name in last},
            "model.norm.weight": (wide,),
            "lm_head.weight": (128_256, wide),
        },
    }
    for file, content in shards.items():
        save_file({k: torch.randn(s, dtype=torch.bfloat16) * 0.02 for k, s in content.items()}, folder / file)
    index = {name: file for file, content in shards.items() for name in content}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def memory(field: str) -> float:
    """A line of /proc/self/status in MB (10^6 bytes): VmRSS for now, VmHWM for the highest."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def measure(folder: Path, precision: str) -> None:
    """Read the block, in a process of its own so that nothing before counts."""
    LanguageBlock(BlockConfig(64, 4, 2, 16, 96, 2), None, 2)  # Imports what it needs.
    before, start = memory("VmRSS"), time.perf_counter()
    made = LanguageBlock(*load_block("llama", str(folder), precision), 8, precision)
    seconds, highest, after = time.perf_counter() - start, memory("VmHWM"), memory("VmRSS")
    frozen = made.frozen_tensors()
    held = sum(tensor.numel() * tensor.element_size() for tensor in frozen) / 1e6
    print(
        f"{sum(tensor.numel() for tensor in frozen):,} parameters, {held:.0f} MB; {seconds:.1f} s; before "
        f"{before:.0f} MB, highest {highest:.0f} MB ({highest - before:.0f} more), afterwards {after:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--precision", default="32", choices=("32", "bf16"))
    chosen = parser.parse_args()
    if chosen.folder is not None:
        measure(chosen.folder, chosen.precision)
        return
    with tempfile.TemporaryDirectory() as temporary:
        if (child := os.fork()) == 0:
            make(Path(temporary))
            os._exit(0)
        os.waitpid(child, 0)
        measure(Path(temporary), chosen.precision)


if __name__ == "__main__":
    main()
