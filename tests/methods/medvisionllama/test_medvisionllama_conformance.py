"""MedVisionLlama keeps the contract of methods, around a block that is drawn: no weights are needed."""

from __future__ import annotations

from typing import Any

import pytest

from usbench.methods.medvisionllama.model import METHOD
from usbench.testing import MethodTests

SMALL = {"method.llm": "random", "method.width": 32, "method.depth": 1}


@pytest.mark.slow
class TestMedVisionLlama(MethodTests):
    method = METHOD
    settings: dict[str, Any] = SMALL


@pytest.mark.slow
class TestBeforeTheEncoder(MethodTests):
    method = METHOD
    settings: dict[str, Any] = {**SMALL, "method.place": "after-embedding", "method.residual": "inner"}  # noqa: RUF012
    modalities = (2,)


@pytest.mark.slow
class TestBaseline(MethodTests):
    method = METHOD
    settings: dict[str, Any] = {"method.llm": "none", "method.width": 32, "method.depth": 1}  # noqa: RUF012
    modalities = (2,)
