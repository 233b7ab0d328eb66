"""What authors of methods need beside `usbench.Method`: weights, files written whole, programs, words.

Built-in methods take all that they use of usbench from here and from `usbench` itself. So the digest of their
code stays the same when a file of usbench moves. Plugins may do so too.
"""

from __future__ import annotations

from usbench.contracts.pipeline_words import PipelineWords
from usbench.errors import unknown
from usbench.runtime.console import say
from usbench.runtime.installed import require_packages
from usbench.runtime.programs import ProgramRun, interpreter, run_program
from usbench.runtime.torchvision_cpu import make_importable
from usbench.storage.files import atomic_folder, cache_dir, digest_of, os_errors, sha256_file
from usbench.storage.state_dict import read_state
from usbench.storage.texts import read_json
from usbench.weights.gguf import converted
from usbench.weights.lora import add_lora
from usbench.weights.reading import below, freeze, load_errors, quiet, read_weights, seeded
from usbench.weights.store import find_weight, weight_digest, weight_path

__all__ = [
    "PipelineWords",
    "ProgramRun",
    "add_lora",
    "atomic_folder",
    "below",
    "cache_dir",
    "converted",
    "digest_of",
    "find_weight",
    "freeze",
    "interpreter",
    "load_errors",
    "make_importable",
    "os_errors",
    "quiet",
    "read_json",
    "read_state",
    "read_weights",
    "require_packages",
    "run_program",
    "say",
    "seeded",
    "sha256_file",
    "unknown",
    "weight_digest",
    "weight_path",
]
