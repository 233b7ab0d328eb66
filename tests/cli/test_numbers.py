"""Numbers on the command line are written as everybody writes them."""

from __future__ import annotations

import click
import pytest

from usbench.cli.options import Number, NumberRange, Whole, WholeRange


@pytest.mark.parametrize("kind", [Whole(), WholeRange(min=1), Number(), NumberRange(min=0)])
@pytest.mark.parametrize("text", ["٣", "1_000", "nan", "inf", "", "0x10", "1e999", "²"])
def test_what_only_python_reads_is_refused(kind, text):
    with pytest.raises(click.BadParameter, match="is not a valid"):
        kind.convert(text, None, None)


def test_numbers_are_read():
    assert Whole().convert("12", None, None) == 12
    assert Number().convert("1.5e-3", None, None) == 0.0015
    assert WholeRange(min=1).convert(3, None, None) == 3
    with pytest.raises(click.BadParameter, match="range"):
        WholeRange(min=1).convert("0", None, None)
