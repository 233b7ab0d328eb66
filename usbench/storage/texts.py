"""JSON and YAML that people write, read strictly: what stands there twice is refused, not half forgotten."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from usbench.errors import UsbenchError


def distinct(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The keys and values of a JSON object as a dictionary, for `json.loads(object_pairs_hook=...)`.

    Raises:
        ValueError: for a key that is there twice, which Python's reader would take the last value of.
    """
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f'the key "{key}" is there twice')
        found[key] = value
    return found


def read_description(path: Path, what: str, remedy: str) -> Any:
    """Read JSON that a person wrote: UTF-8 with or without a byte order mark.

    Args:
        path: of the file.
        what: it should be, for messages.
        remedy: what to do about a file that cannot be read.

    Raises:
        UsbenchError: where it cannot be read, is no JSON, holds NaN or infinity, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsbenchError(f"{path}: cannot read {what} ({error.strerror}); {remedy}") from error
    except UnicodeDecodeError as error:
        raise UsbenchError(
            f"{path}: {what} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    try:
        return json.loads(text, object_pairs_hook=distinct, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UsbenchError(f"{path}: {what} is not valid JSON ({error}); correct it there") from error


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def load_yaml(text: str) -> Any:
    """The plain values of some YAML; no tags of Python are read.

    Raises:
        yaml.YAMLError: where it is no YAML, or a mapping has a key twice, which YAML forbids and PyYAML
            allows; it has a `problem_mark` then.
    """
    import yaml

    return yaml.load(text, Loader=_loader())


@cache
def _loader() -> Any:
    import yaml

    class Strict(yaml.SafeLoader):  # type: ignore[misc]
        """A loader of plain values that takes no key twice."""

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
                        None, None, f"the key '{key}' is there twice", inner.start_mark
                    )
                seen.add(key)
            mapping: dict[Any, Any] = super().construct_mapping(node, deep)
            return mapping

    return Strict
