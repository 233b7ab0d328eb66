"""What is wrong with a value of a result, in words."""

from __future__ import annotations

from pydantic_core import ErrorDetails

_SHOULD_BE = {
    "string_type": "not text",
    "int_type": "not a whole number",
    "int_from_float": "not a whole number",
    "float_type": "not a number",
    "finite_number": "not a finite number",
    "list_type": "not a list",
    "too_short": "empty",
    "dict_type": "not a mapping",
    "model_type": "not a mapping",
    "model_attributes_type": "not a mapping",
}


def what_is_wrong(error: ErrorDetails) -> str:
    """One error of pydantic in words, with the key and the value: "'cost.epochs' is 'x', not a whole number".

    Args:
        error: One of `ValidationError.errors()`.

    Returns:
        Part of a line, without the file and the remedy.
    """
    key = ".".join(str(part)[:60] for part in error["loc"])
    kind, value, more = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        return f"lacks '{key}'"
    if kind == "extra_forbidden":
        return f"has the key '{key}', which results do not have"
    if not key:
        return error["msg"]
    shown = ascii(value) if isinstance(value, str) else repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    if kind in _SHOULD_BE:
        return f"'{key}' is {shown}, {_SHOULD_BE[kind]}"
    if kind == "literal_error":
        return f"'{key}' is {shown}, not {more['expected']}"
    if kind == "greater_than_equal":
        return f"'{key}' is {shown}, less than {more['ge']}"
    return f"'{key}' is {shown}: {error['msg']}"
