"""Values for the options of a request, and the request that a command line makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from hypothesis import strategies as st

from usbench.contracts.options import Option
from usbench.contracts.request import Request
from usbench.matrices.request import MatrixRequest

# What a word of a command line can hold: no zero byte, no half of a surrogate pair.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)
NAME = TEXT.map(lambda text: text.replace(",", "").strip()).filter(bool)
KEY = st.from_regex(r"(data|train|fusion|method)\.[a-z_]{1,8}", fullmatch=True)
NUMBER = st.floats(allow_nan=False)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAME, inner, max_size=3),
    max_leaves=4,
)


def values(one: Option) -> st.SearchStrategy[Any]:
    """Values that an option may have, in the forms that Python has for them."""
    if one.choices:
        found = st.sampled_from(one.choices)
    elif one.kind in ("whole", "number"):
        low, high = one.least, one.most
        whole = one.kind == "whole"
        limit = 10**18 - 1  # a word of the command line has at most 18 digits
        if whole:
            found = st.integers(int(-limit if low is None else low), int(min(high or limit, limit)))
        else:
            found = st.floats(low, high, allow_nan=False)
    elif one.kind == "wholes":
        found = st.lists(st.integers(int(one.least or 0), 99), min_size=1, max_size=4)
    elif one.kind == "numbers":
        found = st.lists(st.floats(one.least, one.most, allow_nan=False), max_size=4)
    elif one.kind == "folds":
        found = st.just("all") | st.lists(st.integers(0, 9), min_size=1, max_size=4)
    elif one.kind == "names":
        found = st.lists(NAME, max_size=3)
    elif one.kind == "switch":
        found = st.booleans()
    elif one.kind == "settings":
        return st.dictionaries(KEY, VALUE, max_size=3)
    elif one.kind == "path":
        found = NAME.filter(lambda text: not text.startswith("~")).map(Path)
    else:
        found = TEXT
    if one.repeated:
        return st.lists(found, max_size=3)
    return found | st.none() if one.default is None else found


def parsed(command: click.Command, words: Sequence[str]) -> Request | MatrixRequest:
    """The request that the command `usbench run` or `usbench matrix` makes of these words; nothing is run."""
    context = command.make_context(command.name, list(words))
    options = {name: value for name, value in context.params.items() if name != "dry_run"}
    return MatrixRequest.of(**options) if command.name == "matrix" else Request(**options)
