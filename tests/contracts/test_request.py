"""One request for command line, YAML, Python, matrix and worker: an option is a field, all else follows."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.requests import parsed, values

import usbench
from usbench.cli.main import main
from usbench.cli.matrix import matrix
from usbench.cli.options import request_options
from usbench.cli.run import run
from usbench.contracts.options import Option, option, options_of
from usbench.contracts.request import Request, run_options
from usbench.errors import UsbenchError
from usbench.matrices.request import MatrixRequest, matrix_options

REQUESTS = st.fixed_dictionaries(
    {}, optional={name: values(one) for name, one in run_options().items()}
).filter(lambda words: not (words.get("train_share") and words.get("train_cases")))
EXAMPLES: dict[str, Any] = {
    "text": "word",
    "path": "some/where",
    "names": ["a", "b"],
    "folds": [0, 2],
    "whole": 3,
    "wholes": [1, 2],
    "number": 0.5,
    "numbers": [0.25, 0.5],
    "settings": {"train.epochs": 5},
}


def example(one: Option) -> Any:
    """A value that is not the default."""
    if one.choices:
        return next(choice for choice in one.choices if choice != one.default)
    if one.kind == "switch":
        return not one.default
    if one.kind == "whole" and one.most is not None:
        return min(EXAMPLES["whole"], int(one.most))
    return [EXAMPLES[one.kind]] if one.repeated else EXAMPLES[one.kind]


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(REQUESTS)
def test_the_command_of_a_request_asks_for_the_same(words: dict[str, Any]) -> None:
    """Whatever a request holds: its words, through click, make an equal one; so does the printed line."""
    request = Request(**words)
    read = parsed(run, request.command())
    assert read == request
    assert repr(read) == repr(request), "1, 1.0 and true are equal, but not the same"
    line = shlex.split(str(request))
    assert line[:2] == ["usbench", "run"]
    assert parsed(run, line[2:]) == request
    assert Request(**{name: getattr(request, name) for name in run_options()}) == request
    assert pickle.loads(pickle.dumps(request)) == request


@pytest.mark.parametrize("name", run_options())
def test_every_option_of_run(name: str) -> None:
    """It stands in the help, in the signature with its default, and is written and read back."""
    one = run_options()[name]
    shown = CliRunner().invoke(main, ["run", "--help"], terminal_width=200).output
    assert f"--{one.flag} " in shown
    assert " ".join(one.help.split()) in " ".join(shown.split())
    default = inspect.signature(usbench.run).parameters[name].default
    assert Request(**{name: default}) == Request()
    request = Request(**{name: example(one)})
    assert getattr(request, name) != getattr(Request(), name)
    flag = f"--no-{one.flag}" if one.kind == "switch" and one.default else f"--{one.flag}"
    assert flag in request.command()
    assert parsed(run, request.command()) == request


@pytest.mark.parametrize("name", matrix_options())
def test_every_option_of_matrix(name: str, tmp_path: Path) -> None:
    """It stands in the help, in the signature with its default, and in a file as on the command line."""
    one = matrix_options()[name]
    shown = CliRunner().invoke(main, ["matrix", "--help"], terminal_width=200).output
    assert f"--{one.flag} " in shown
    assert " ".join(one.help.split()) in " ".join(shown.split())
    default = inspect.signature(usbench.matrix).parameters[name].default
    assert MatrixRequest.of(**{name: default}) == MatrixRequest()
    asked = MatrixRequest.of(**{name: example(one)})
    assert asked != MatrixRequest()
    file = tmp_path / "table.yaml"
    file.write_text(yaml.safe_dump({one.flag: example(one)}))
    assert parsed(matrix, [str(file)]) == asked
    # The command line wins over the file, settings of both are merged.
    file.write_text(yaml.safe_dump({one.flag: {"train.lr": 0.1} if one.kind == "settings" else "1"}))
    value = example(one)
    if one.kind == "switch":
        file.write_text(yaml.safe_dump({one.flag: one.default}))
        words = [f"--no-{one.flag}" if one.default else f"--{one.flag}"]
    elif one.kind == "settings":
        words = ["--set", "train.epochs=5"]
        asked = MatrixRequest.of(settings={"train.lr": 0.1, "train.epochs": 5})
    elif isinstance(value, list) and one.repeated:
        words = [f"--{one.flag}", str(value[0])]
    else:
        words = [f"--{one.flag}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    assert parsed(matrix, [str(file), *words]) == asked


def test_yes_in_a_file_is_no_truth_value(tmp_path: Path) -> None:
    """YAML reads the word of this option as "true" where nobody quotes it."""
    file = tmp_path / "table.yaml"
    for text, yes in (
        ("yes: true", True),
        ("yes: no", False),
        ('"yes": yes', True),
        ("methods: unet", False),
    ):
        file.write_text(text)
        assert parsed(matrix, [str(file)]) == MatrixRequest.of(
            yes=yes, **({"methods": "unet"} if "unet" in text else {})
        )


def test_the_signatures_are_those_of_the_options() -> None:
    """What editors and the pages of the API show has every option, in order, and no other."""
    own = list(inspect.signature(usbench.run).parameters)
    # Watchers are objects: no command line can name them.
    assert own == [*run_options(), "watchers"]
    assert list(inspect.signature(usbench.matrix).parameters) == [*matrix_options(), "dry_run"]
    for function, options in ((usbench.run, run_options()), (usbench.matrix, matrix_options())):
        told = inspect.getdoc(function) or ""
        assert [name for name in options if f"\n    {name}: " not in told] == []


def test_options_of_a_cell_are_said_once() -> None:
    """A matrix has the options of a cell, but for the five that it has several of and those of one run."""
    own = options_of(MatrixRequest)
    plural = {one.instead_of for one in own.values()} - {""}
    assert plural == {"method", "fusion", "task", "task_dir", "seed"}
    alone = {name for name, one in run_options().items() if one.commands == ("run",)} - plural
    assert {name for name in own if not own[name].instead_of}.isdisjoint(run_options())
    assert set(matrix_options()) == set(run_options()) - plural - alone | set(own)


@dataclass(frozen=True)
class Wider(Request):
    """A request with one more option: this field is all that is written."""

    share: float = option(1.0, "Share of the training cases.", kind="number", least=0.1, most=1)
    tags: tuple[str, ...] = option((), "Word for the log.", flag="tag", repeated=True, choices=("a", "b"))


def test_a_new_option_is_one_field() -> None:
    """The command line shows, takes, checks and writes it; nothing else was told of it."""

    @click.command()
    @request_options(options_of(Wider))
    def wider(**options: Any) -> None:
        click.echo(" ".join(Wider(**options).command()))

    shown = CliRunner().invoke(wider, ["--help"]).output
    assert "--share FLOAT" in shown
    assert "Share of the training cases.  [default: 1.0]" in shown
    words = "--method unet --fusion late --seed 3 --share 0.5 --tag a --tag b"
    assert CliRunner().invoke(wider, shlex.split(words)).output.strip() == words
    wrong = CliRunner().invoke(wider, ["--share", "2"]).exception
    assert str(wrong) == "--share 2 is out of range; choose from 0.1 to 1"
    with pytest.raises(UsbenchError, match="unknown value of --tag 'c'; choose one of: a, b"):
        Wider(tags=["c"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"data": "phantm"}, "unknown value of --data 'phantm', did you mean 'phantom'? choose one of: "),
        ({"device": "gpu"}, "unknown device 'gpu', did you mean 'cpu'? choose one of: auto, cpu, cuda"),
        ({"precision": "bf61"}, "unknown precision 'bf61', did you mean 'bf16'? choose one of: 16, 32, bf16"),
        ({"limit": 1}, "--limit 1 leaves nothing to train on; use at least 2 cases"),
        ({"seed": -1}, "--seed -1 is out of range; choose from 0 to 2147483647"),
        ({"seed": 2**31}, "--seed 2147483648 is out of range; choose from 0 to 2147483647"),
        ({"seed": 0.5}, "--seed '0.5' is not a whole number; write a number such as 2"),
        ({"seed": True}, "--seed 'True' is not a whole number; write a number such as 2"),
        ({"cache_gb": -1}, "--cache-gb -1 is out of range; choose 0 or more GB"),
        ({"cache_gb": float("nan")}, "--cache-gb nan is out of range; choose 0 or more GB"),
        ({"cache_gb": "much"}, "--cache-gb 'much' is not a number; write a number such as 0.5"),
        ({"modalities": ","}, "--modalities ',' names nothing; write names such as a,b"),
        ({"settings": ["train.epochs=5"]}, "--set '['train.epochs=5']' holds no settings; write {'train.ep"),
        ({"plugins": ["~nobody-of-that-name/x.py"]}, "~nobody-of-that-name/x.py: there is no user of that"),
    ],
)
def test_values_that_are_wrong(words: dict[str, Any], message: str) -> None:
    with pytest.raises(UsbenchError) as told:
        Request(**words)
    assert str(told.value).startswith(message)


def test_texts_and_numbers_are_taken_as_on_a_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    request = Request(
        modalities="t2, adc,t2",  # type: ignore[arg-type]
        folds=[2, 0],  # type: ignore[arg-type]
        seed="7",  # type: ignore[arg-type]
        data_dir="~/data",  # type: ignore[arg-type]
        plugins="mine.py",  # type: ignore[arg-type]
        precision=16,  # type: ignore[arg-type]
        settings=None,  # type: ignore[arg-type]
    )
    assert request.modalities == ("t2", "adc")
    assert (request.folds, request.seed, request.precision) == ("2,0", 7, "16")
    assert request.data_dir == Path("/home/someone/data")
    assert request.plugins == (Path("mine.py"),)
    assert request.settings == {}
    assert str(Request(task="chaos", settings={"train.lr": 1e-05})) == (
        "usbench run --method unet --fusion late --task chaos --set train.lr=1.0e-05"
    )


def test_a_request_is_frozen_and_changed_as_a_copy() -> None:
    request = usbench.Request("unet", "early", "chaos")
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.seed = 1  # type: ignore[misc]
    third = Request("unet", "early", "chaos", seed=3)
    assert request.with_(seed=3) == dataclasses.replace(request, seed=3) == third
    with pytest.raises(UsbenchError, match="--seed -3 is out of range"):
        request.with_(seed=-3)
    other = request.with_(settings={"train.epochs": 1})
    assert request.settings == {} == Request().settings
    assert other != request


def test_a_setting_that_no_command_line_can_hold_is_named() -> None:
    with pytest.raises(
        UsbenchError, match=r"--set method\.depth: a value of type object cannot stand on a command line"
    ):
        Request(settings={"method.depth": object()}).command()
