"""What every command has: help, examples that parse, -q, -v and --debug, and remedies for wrong lines."""

from __future__ import annotations

import shlex
from typing import Any

import click
import pytest

from usbench.cli.examples import EXAMPLES
from usbench.cli.main import main
from usbench.contracts.options import options_of
from usbench.contracts.request import Request
from usbench.matrices.request import MatrixRequest


def commands(command: click.Command = main, path: str = "") -> list[tuple[str, click.Command]]:
    """Every command and group, with the words that call it."""
    found = [(path, command)]
    for name, inner in command.commands.items() if isinstance(command, click.Group) else ():
        found += commands(inner, f"{path} {name}".strip())
    return found


ALL = commands()
GROUPS = [path for path, command in ALL if isinstance(command, click.Group)]


def parsed(line: str) -> click.Context:
    """The context of a command line that begins with `usbench`; raises what the line is refused for."""
    words = shlex.split(line, comments=True)
    assert words.pop(0) == "usbench"
    context = main.make_context("usbench", words)
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert command is not None
        context = command.make_context(name, rest, parent=context)
    return context


def test_every_command_has_examples() -> None:
    assert {path for path, _ in ALL} == set(EXAMPLES)


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_examples_parse(line: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.yaml").write_text("methods: [unet]\ntasks: [chaos]\n")
    if line.split("#")[0].rstrip().endswith("--help"):
        with pytest.raises(click.exceptions.Exit):
            parsed(line)
        return
    context = parsed(line)
    # An example that names choices names some that there are.
    own = options_of(MatrixRequest) if context.command.name == "matrix" else {}
    shared = {name: value for name, value in context.params.items() if name in options_of(Request)}
    Request(**shared)
    if own:
        MatrixRequest.of(**{**shared, **{k: v for k, v in context.params.items() if k in own}})


@pytest.mark.parametrize("path", [path for path, _ in ALL], ids=lambda path: path or "usbench")
def test_an_example_is_of_its_command(path: str) -> None:
    for line in EXAMPLES[path]:
        assert line.startswith(f"usbench {path}".strip())
        assert len(line) <= 115


@pytest.mark.parametrize("path", GROUPS, ids=lambda path: path or "usbench")
def test_a_group_alone_prints_its_help(command: Any, path: str) -> None:
    bare, asked = command(*path.split()), command(*path.split(), "--help")
    assert bare.returncode == 0
    assert bare.stderr == ""
    assert bare.stdout == asked.stdout
    assert "\nCommands:\n" in bare.stdout
    assert "\n  Examples:\n    usbench " in bare.stdout


@pytest.mark.parametrize(("path", "one"), ALL, ids=[path or "usbench" for path, _ in ALL])
def test_every_command_has_the_options_of_all(path: str, one: click.Command) -> None:
    names = [name for option in one.params for name in option.opts]
    for name in ("-q", "--quiet", "-v", "--verbose", "--debug"):
        assert names.count(name) == 1, (path, name)


@pytest.mark.parametrize("words", ["--debug run --task nowhere", "run --debug --task nowhere"])
def test_debug_stands_anywhere(command: Any, words: str) -> None:
    done = command(*words.split())
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "unknown task 'nowhere'" in done.stderr


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("run --method unet --task chaos --seeds 1,2", "matrix --methods unet --tasks chaos --seeds 1,2"),
        ("run --methods=unet,attunet", "matrix --methods=unet,attunet"),
        ("run --method unet --fusions all", "matrix --methods unet --fusions all"),
        ("run --tasks chaos", "matrix --tasks chaos"),
        ("run --method unet --workers 2", "matrix --methods unet --workers 2"),
        ("matrix --method unet --seed 1", "matrix --methods unet --seeds 1"),
    ],
)
def test_words_of_the_other_command_give_the_right_line(command: Any, line: str, right: str) -> None:
    done = command(*line.split())
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert done.stderr.rstrip().endswith(f": usbench {right}")
    parsed(f"usbench {right}")  # What is proposed is right.


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run --format csv", "it is an option of usbench leaderboard"),
        ("prune", "Missing argument 'PATHS...'; see usbench prune --help"),
        ("data check --tasc chaos", "see usbench data check --help"),
        ("-q run --verbose", "--quiet and --verbose are opposites"),
        ("data -v list -q", "--quiet and --verbose are opposites"),
    ],
)
def test_a_wrong_line_says_where_to_look(command: Any, line: str, said: str) -> None:
    done = command(*line.split())
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_quiet_says_results_alone_and_verbose_more(command: Any, tmp_path: Any) -> None:
    words = ("run", "--method", "unext-small", "--fusion", "early", "--task", "msd-prostate", "--preset")
    said = {}
    for loudness in ("-q", "", "-v"):
        folder = tmp_path / (loudness or "usual")
        line = [word for word in (loudness, *words, "smoke", "--runs-dir", folder) if word]
        done = command(*line)
        assert done.returncode == 0, done.stderr
        assert "DSC" in done.stdout
        said[loudness] = done.stderr
    assert said["-q"] == ""
    assert "epoch" in said[""]
    assert "settings of train" in said["-v"]
    assert "settings of train" not in said[""]
