"""What people write is read strictly: nothing that stands there twice is half forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from usbench.config import read_config_file
from usbench.errors import UsbenchError
from usbench.storage.texts import load_yaml, read_description
from usbench.submissions.card import parse_card


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
        (b"[" * 100_000, "is not valid JSON"),
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
