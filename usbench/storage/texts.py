"""JSON and YAML read strictly, whoever wrote it.

What stands there twice is refused and not half forgotten; so is what is no finite number. Size and nesting
are bounded, and so is what aliases make of a YAML: a short text could otherwise fill the memory.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from usbench.errors import UsbenchError
from usbench.storage.regular import MOST_BYTES, read_text

DEEPEST = 64
"""Lists and mappings within each other."""

MOST_VALUES = 1_000_000
"""Values of a JSON; each takes up to a hundred bytes of memory."""

MOST_YAML = 4 << 20
"""Bytes of a YAML, of which some hundred thousand are read in a second."""

MOST_NODES = 200_000
"""Values of a YAML, each as often as aliases repeat it; a node takes some hundred bytes of memory."""

_LONGEST_INTEGER = 40
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_NO_BRACKET = re.compile(r"[^\[\]{}]+")
_LONG = re.compile(r"[0-9]{41}")
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,39})")


def distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The keys and values of a JSON object as a dictionary, for `json.loads(object_pairs_hook=...)`.

    Raises:
        ValueError: for a key that is there twice, which Python's reader would take the last value of.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f'the key "{next(key for key in keys if keys.count(key) > 1)[:80]}" is there twice')
    return found


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: saying what is wrong: no JSON, a key twice, NaN, infinity or a number that is as large,
            more than `DEEPEST` levels or `MOST_VALUES` values, half a surrogate pair.
    """
    opened = text.count("[") + text.count("{")
    if len(text) > MOST_VALUES and opened + text.count(",") > MOST_VALUES:
        raise ValueError(f"it has more than {MOST_VALUES:,} values")
    if opened > DEEPEST:
        _check_depth(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=distinct,
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_integer if _LONG.search(text) else None,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it has half of a surrogate pair, which is no text") from None
    return value


def read_json(path: Path, what: str, remedy: str, undecoded: str = "strict", most: int = MOST_BYTES) -> Any:
    """Read JSON from a file: UTF-8 with or without a byte order mark.

    Args:
        path: of the file.
        what: it should be, for messages.
        remedy: what to do about a file that cannot be read.
        undecoded: "replace" for a file of another program whose free text is not UTF-8.
        most: bytes that it may have.

    Raises:
        UsbenchError: where it cannot be read, is no regular file, too large, or no such JSON as `parse_json`
            reads.
    """
    try:
        return parse_json(read_text(path, most, undecoded))
    except OSError as error:
        raise UsbenchError(f"{path}: cannot read {what} ({error.strerror}); {remedy}") from error
    except UnicodeDecodeError as error:
        raise not_text(path, what, error) from error
    except ValueError as error:
        raise UsbenchError(f"{path}: {what} is not valid JSON ({error}); {remedy}") from error


def read_description(path: Path, what: str, remedy: str) -> Any:
    """As `read_json`, of JSON that a person wrote and is to correct."""
    return read_json(path, what, f"{remedy}, or correct it there")


def not_text(path: Path, what: str, error: UnicodeDecodeError) -> UsbenchError:
    """The error for a file that is no UTF-8."""
    where = f"{error.reason} at byte {error.start}"
    return UsbenchError(f"{path}: {what} is not UTF-8 text ({where}); save it as UTF-8")


def _check_depth(text: str) -> None:
    depth = 0
    for bracket in _NO_BRACKET.sub("", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep")


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:20]} is too large for a number")
    return value


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER:
        raise ValueError(f"a whole number has {len(text):,} digits")
    return int(text)


def load_yaml(text: str) -> Any:
    """The plain values of some YAML; no tags of Python are read.

    Raises:
        yaml.YAMLError: where it is no YAML, is larger or deeper than what is read, a mapping has a key twice,
            which YAML forbids and PyYAML allows, a number is infinite, none, or written as few know it
            (1_000, 010, 1:30); `problem` says what is wrong, and most have a `problem_mark`.
    """
    import yaml

    try:
        if len(text) > MOST_YAML:
            raise _refused(f"it has more than {MOST_YAML:,} characters")
        _check_events(text)
        return yaml.load(text, Loader=_loader())
    except yaml.YAMLError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        # What PyYAML raises for a value that its own tag does not fit, such as the day 2024-99-99.
        why = "a value is not what it is marked as" if isinstance(error, KeyError) else str(error)
        raise _refused(why[:120] or "it cannot be read") from error


def read_yaml(path: Path, what: str, remedy: str, correct: str = "") -> Any:
    """Read the plain values of a YAML file: UTF-8 with or without a byte order mark.

    Args:
        path: of the file.
        what: it should be, for messages.
        remedy: what to do where there is no such file.
        correct: what to do about text that is no YAML; `remedy` where it is not given.

    Raises:
        UsbenchError: where it cannot be read, is no regular file, or is no such YAML as `load_yaml` reads.
    """
    import yaml

    try:
        return load_yaml(read_text(path, MOST_YAML))
    except OSError as error:
        raise UsbenchError(f"{path}: cannot read {what} ({error.strerror}); {remedy}") from error
    except UnicodeDecodeError as error:
        raise not_text(path, what, error) from error
    except yaml.YAMLError as error:
        raise UsbenchError(f"{path}: not valid YAML{where_in_yaml(error)}; {correct or remedy}") from error


def where_in_yaml(error: Any) -> str:
    """Line and problem of a `yaml.YAMLError`: " in line 3 (the key 'a' is there twice)"."""
    mark = getattr(error, "problem_mark", None)
    why = getattr(error, "problem", None) or getattr(error, "reason", None)
    return (f" in line {mark.line + 1}" if mark else "") + (f" ({why})" if why else "")


def _refused(why: str, mark: Any = None) -> Any:
    from yaml import MarkedYAMLError

    return MarkedYAMLError(None, None, why, mark)


def _check_events(text: str) -> None:
    """Refuse what is too deep, or too much where every alias is written out, before anything is built."""
    import yaml

    sizes: dict[str, int] = {}
    opened: list[tuple[str | None, int]] = []
    count = 0
    for event in yaml.parse(text, Loader=_base()):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in opened):
                raise _refused(f"the alias *{event.anchor} stands within itself", event.start_mark)
            count += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            event.value.encode()  # half a surrogate pair is no text
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, count))
            count += 1
            if len(opened) > DEEPEST:
                raise _refused(f"it is nested more than {DEEPEST} levels deep", event.start_mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor:
                sizes[anchor] = count - before
        if count > MOST_NODES:
            raise _refused(f"it has more than {MOST_NODES:,} values", event.start_mark)


def _base() -> Any:
    """PyYAML's loader of plain values, in C where it was built with it: six times as fast."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def _loader() -> Any:
    import yaml

    base: Any = _base()

    class Strict(base):  # type: ignore[misc]
        """A loader of plain values that takes no key twice, and numbers as everybody writes them."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for inner, _ in node.value:
                if inner.tag == "tag:yaml.org,2002:merge":
                    continue
                key = self.construct_object(inner, deep=True)
                if not isinstance(key, Hashable):
                    continue
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key '{str(key)[:80]}' is there twice", inner.start_mark
                    )
                seen.add(key)
            mapping: dict[Any, Any] = super().construct_mapping(node, deep)
            return mapping

        def whole(self, node: Any) -> int:
            text = self.construct_scalar(node)
            if not _WHOLE.fullmatch(text):
                raise _refused(f"'{text[:40]}' is no plain number; put a text in quotes", node.start_mark)
            return int(self.construct_yaml_int(node))

        def number(self, node: Any) -> float:
            text = self.construct_scalar(node)
            value = math.nan if set(text) & set("_:") else float(self.construct_yaml_float(node))
            if not math.isfinite(value):
                raise _refused(
                    f"'{text[:40]}' is not a finite number as everybody writes them", node.start_mark
                )
            return value

    Strict.add_constructor("tag:yaml.org,2002:int", Strict.whole)
    Strict.add_constructor("tag:yaml.org,2002:float", Strict.number)
    return Strict
