"""What every command has: help, examples that parse, -q, -v and --debug, and remedies for wrong lines."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from kit.handmade import write_run

from usbench.cli.examples import EXAMPLES
from usbench.cli.main import main
from usbench.contracts.options import options_of
from usbench.contracts.request import Request
from usbench.leaderboards.table import titles_of
from usbench.matrices.request import MatrixRequest
from usbench.results.words import task_words


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
        ("data check --tasc chaos", "ee usbench data check --help"),
        ("-q run --verbose", "--quiet and --verbose are opposites"),
    ],
)
def test_a_wrong_line_says_where_to_look(command: Any, line: str, said: str) -> None:
    done = command(*line.split())
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_opposites_are_refused_behind_what_was_said_already(command: Any) -> None:
    done = command("data", "-v", "list", "-q")
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    assert first.startswith("usbench ")
    assert last.startswith("Error: --quiet and --verbose are opposites")


def test_quiet_says_results_alone_and_verbose_more(command: Any, small_prostate: Any, tmp_path: Any) -> None:
    words = ("run", "--method", "unext-small", "--fusion", "early", "--task", "msd-prostate")
    words = (*words, "--data-dir", small_prostate, "--preset", "smoke", "--set", "train.epochs=1")
    said = {}
    for loudness in ("-q", "-v"):
        done = command(loudness, *words, "--runs-dir", tmp_path / loudness)
        assert done.returncode == 0, done.stderr
        assert "DSC" in done.stdout
        said[loudness] = done.stderr
    assert said["-q"] == ""
    assert "4 of 4 cases are prepared already" in said["-v"]
    assert "settings of train" in said["-v"]


DSC = {"p1": {"liver": 0.9}, "p2": {"liver": 0.7}}


def here(*words: object) -> Result:
    """A command in this process, which is quick; errors are raised."""
    return CliRunner().invoke(main, [*map(str, words)])


def test_report_takes_several_runs_or_the_newest(tmp_path: Path) -> None:
    assert "holds no finished run" in str(here("report", "--runs-dir", tmp_path).exception)
    runs = [write_run(tmp_path / "runs" / "chaos" / name, DSC) for name in ("a", "b", "c")]
    for second, folder in zip((10, 30, 20), runs, strict=True):
        os.utime(folder / "result.json", (second, second))
    assert here("report", "--runs-dir", tmp_path / "runs").stdout == f"written: {runs[1] / 'report.html'}\n"
    some = here("report", runs[0], runs[2]).stdout.splitlines()
    assert some == [f"written: {folder / 'report.html'}" for folder in (runs[0], runs[2])]
    assert all((folder / "report.html").is_file() for folder in runs)
    both = here("report", tmp_path / "runs", "--out", tmp_path / "one.html")
    assert "3 runs are named" in str(both.exception)


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ("folder", "chaos (own data)"),
        ("mine/task.yaml", "chaos (own data)"),
        ("built in", "chaos (sample)"),
        ("package more-tasks 1.0", "chaos (sample)"),
        (None, "chaos (sample)"),  # of an older version, which did not say
    ],
)
def test_own_data_is_no_sample(tmp_path: Path, origin: str | None, words: str) -> None:
    # Programs read the key that they always did.
    folder = write_run(tmp_path / "a", DSC, data__kind="sample", cell__task="chaos")
    data = json.loads((folder / "result.json").read_text())
    if origin is not None:
        data["task"]["origin"] = origin
    assert task_words(data) == words
    assert titles_of([data])[0][0].startswith(f"{words}, preset")
    data["data"]["kind"] = "phantom"
    assert task_words(data) == "chaos (phantom)"
    data["data"]["kind"] = "real"
    assert task_words(data) == "chaos"


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("data list --json", {"name", "title", "modalities", "classes", "cases", "licence", "here"}),
        ("weights list --json", {"name", "set", "bytes", "licence", "what", "state", "path", "problem"}),
        ("weights check --json", {"name", "state", "problem", "file", "folder", "address", "accept", "how"}),
    ],
)
def test_json_alone_is_on_standard_output(line: str, keys: set[str]) -> None:
    done = here(*line.split())
    assert done.exit_code == 0, done.stderr
    rows = json.loads(done.stdout)
    assert rows
    assert all(keys <= set(row) for row in rows)


def test_json_of_a_check_and_of_a_prune(small_prostate: Path, tmp_path: Path) -> None:
    right = here("data", "check", "msd-prostate", "--data-dir", small_prostate, "--json")
    assert json.loads(right.stdout)["problems"] == []
    wrong = here("data", "check", "msd-prostate", "--data-dir", tmp_path, "--json")
    assert wrong.exit_code == 1
    (problem,) = json.loads(wrong.stdout)["problems"]
    assert set(problem) == {"case_id", "file", "what", "remedy"}
    folder = write_run(tmp_path / "runs" / "chaos" / "a", DSC, files={"network.safetensors": b"x" * 10})
    found = json.loads(here("prune", tmp_path, "--networks", "--dry-run", "--json").stdout)
    assert set(found) == {"dry_run", "runs", "bytes", "found", "removed", "left", "failed"}
    assert [row["bytes"] for row in found["found"]] == [10]
    assert (folder / "network.safetensors").is_file()
