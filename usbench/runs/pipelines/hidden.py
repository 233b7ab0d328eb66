"""What a pipeline that runs within this process is not told."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from usbench.runtime.programs import without_places


@contextlib.contextmanager
def hidden_places() -> Iterator[None]:
    """Take from the environment what tells where the data of usbench lies, and put it back."""
    told = {name: os.environ[name] for name in os.environ if name not in without_places(os.environ)}
    for name in told:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(told)
