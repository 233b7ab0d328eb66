"""What people write is read strictly: nothing that stands there twice is half forgotten."""

from __future__ import annotations

import json
import os
import re
import socket
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from usbench.config import read_config_file
from usbench.datasets.case_table import read_case_table
from usbench.datasets.tasks.task_file import load_task_file
from usbench.errors import UsbenchError
from usbench.results.io import read_cases
from usbench.storage.texts import load_yaml, read_description, read_json
from usbench.submissions.card import parse_card


def socket_at(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(place))


def described(tmp_path: Path, content: bytes) -> object:
    file = tmp_path / "dataset.json"
    file.write_bytes(content)
    return read_description(file, "the description", "write it again")


def test_plain_json_is_read_with_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    wanted = {"a": [1, {"b": "ä"}]}
    text = '{"a": [1, {"b": "ä"}]}'
    assert described(tmp_path, text.encode()) == wanted
    assert described(tmp_path, text.encode("utf-8-sig")) == wanted


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"labels": {"1": "liver", "1": "spleen"}}', 'the key "1" is there twice'),
        (b'{"a": 1, "b": 2, "a": 1}', 'the key "a" is there twice'),
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"a": -Infinity}', "-Infinity is not a number"),
        ('{"a": 1}'.encode("utf-16"), "is not UTF-8 text"),
        (b'{"a": "\xe9"}', "is not UTF-8 text"),
        (b"[" * 100_000, "nested more than 64 levels"),
        (b'{"a": ' * 65 + b"1" + b"}" * 65, "nested more than 64 levels"),
        (b'["]]]]", ' * 65 + b"1" + b"]" * 65, "nested more than 64 levels"),
        (b"[" + b"[]," * 1_000_000 + b"1]", "more than 1,000,000 values"),
        (b'{"a": 1e400}', "1e400 is too large for a number"),
        (b'{"a": -1e400}', "too large for a number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a whole number has 5,000 digits"),
        (b'{"a": "\\ud800"}', "half of a surrogate pair"),
        (b" " * (17 << 20), "has 17,825,792 bytes, at most 16,777,216 are read"),
        (b"", "is not valid JSON"),
    ],
)
def test_what_is_ambiguous_in_json_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(UsbenchError) as error:
        described(tmp_path, content)
    assert said in str(error.value)
    assert str(tmp_path / "dataset.json") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "a", 3),
        ("train:\n  epochs: 5\n  lr: 1\n  epochs: 6\n", "epochs", 4),
        ("{a: 1, 'a': 2}", "a", 1),
        ("- {x: 1}\n- {y: 1, y: 1}\n", "y", 2),
    ],
)
def test_a_key_that_is_there_twice_in_yaml_is_named_with_its_line(text: str, key: str, line: int) -> None:
    with pytest.raises(yaml.YAMLError) as error:
        load_yaml(text)
    assert error.value.problem == f"the key '{key}' is there twice"  # type: ignore[attr-defined]
    assert error.value.problem_mark.line + 1 == line  # type: ignore[attr-defined]


def test_deep_brackets_in_texts_and_many_flat_lists_are_no_nesting(tmp_path: Path) -> None:
    flat = {"a": "[" * 500, "b\\": [[n, {}] for n in range(500)], 'c"[': "{"}
    assert described(tmp_path, json.dumps(flat).encode()) == flat
    assert described(tmp_path, b'"\\ud83d\\ude00"') == "\U0001f600"


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [1, *a]", r"the alias \*a stands within itself"),
        ("[" * 65 + "]" * 65, "nested more than 64 levels deep"),
        ("- " * 65 + "a", "nested more than 64 levels deep"),
        ("- a\n" * 250_000, "more than 200,000 values"),
        ("#" * (5 << 20), "more than 4,194,304 characters"),
        ("a: .nan", "not a finite number"),
        ("a: -.inf", "not a finite number"),
        ("a: 1.0e+400", "not a finite number"),
        ("a: 1_000", "'1_000' is no plain number"),
        ("a: 010", "'010' is no plain number"),
        ("a: 12:30", "'12:30' is no plain number"),
        ("a: " + "9" * 5000, "is no plain number"),
        ("a: 2024-99-99", "month must be in 1..12"),
        ("a: !!timestamp x", "NoneType|not what"),
        ("a: !!bool perhaps", "not what it is marked as"),
        ("? [a]\n: 1", "unhashable"),
        ("a: \x00", "special characters are not allowed|control characters"),
        ('a: "\\ud800"', "surrogate|escape"),
        ("--- a\n--- b", "another document"),
    ],
)
def test_what_a_yaml_may_not_be_is_said(text: str, said: str) -> None:
    with pytest.raises(yaml.YAMLError) as error:
        load_yaml(text)
    assert re.search(said, str(error.value))


def test_aliases_of_aliases_take_little_time_and_memory() -> None:
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(yaml.YAMLError, match="more than 200,000 values"):
        load_yaml(LAUGHS)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.monotonic() - began < 5
    assert most < 10 << 20


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda p: p.symlink_to("/dev/zero"), socket_at])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], object]) -> None:
    place = tmp_path / "odd"
    make(place)
    for read in (
        lambda: read_json(place, "a result", "remove it"),
        lambda: read_config_file(place),
        lambda: read_case_table(place),
        lambda: load_task_file(place),
        lambda: read_cases(place),
    ):
        with pytest.raises(UsbenchError, match=r"odd: cannot read .* \(is a .*, not a file\)"):
            read()


def test_yaml_means_what_pyyaml_reads() -> None:
    text = "base: &b {x: 1, y: [2, 3]}\nother: {<<: *b, x: 4}\nlist: [1, 1]\nempty:\n1: one\n'1': text\n"
    assert load_yaml(text) == yaml.safe_load(text)
    with pytest.raises(yaml.YAMLError):
        load_yaml("!!python/object/apply:os.getcwd []")


def test_settings_given_twice_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("train: {epochs: 5}\ntrain: {lr: 1}\n")
    with pytest.raises(UsbenchError, match=r"in line 2 \(the key 'train' is there twice\)"):
        read_config_file(file)
    file.write_text("train: {epochs: 5}\ntrain.epochs: 6\n")
    with pytest.raises(UsbenchError, match=r"'train\.epochs' is given twice, nested and flat"):
        read_config_file(file)


def test_a_card_with_a_key_twice_is_refused() -> None:
    with pytest.raises(UsbenchError, match="in line 2: the key 'paper' is there twice"):
        parse_card(b"paper: one\npaper: two\n", "card.yaml")
