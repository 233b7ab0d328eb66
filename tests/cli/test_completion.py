"""Completion by the shell: through click's protocol, in a real bash, and quick."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from usbench.cli import completion
from usbench.results.digests import DEFAULTS, PROTOCOL_VERSION

SCRIPT = """#!{python}
import sys
from usbench.cli.main import entry
entry()
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a command `usbench`."""
    script = tmp_path / "usbench"
    script.write_text(SCRIPT.format(python=sys.executable))
    script.chmod(0o755)
    return tmp_path


def completed(place: Path, line: str, shell: str = "bash") -> list[str]:
    """What the protocol gives for the last word of a line."""
    words = line.split(" ")
    asked = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "fish": {"COMP_WORDS": line, "COMP_CWORD": words[-1]},
    }[shell]
    done = subprocess.run(
        [place / "usbench"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **asked, "_USBENCH_COMPLETE": f"{shell}_complete"},
    )
    assert done.stderr == ""
    if shell == "zsh":
        return done.stdout.splitlines()[1::3]
    # A line is kind,value and, in newer versions of click, what fish shows beside it.
    return [line.partition(",")[2].partition("\t")[0] for line in done.stdout.splitlines()]


LINES = {
    "usbench run --method unet-": ["unet-classic"],
    "usbench run --method=unet-": ["unet-classic"],
    "usbench run --task msd-b": ["msd-brain", "msd-brain-regions"],
    "usbench run --fusion ": ["early", "hybrid", "late"],
    "usbench run --preset s": ["smoke"],
    "usbench run --set train.e": ["train.epochs=", "train.empty="],
    "usbench run --precision b": ["bf16"],
    "usbench matrix --methods unet,att": ["unet,attunet"],
    "usbench matrix --fusions early,": ["early,hybrid", "early,late"],
    "usbench matrix --tasks a": ["all"],
    "usbench leaderboard --format l": ["latex"],
    "usbench leaderboard --track c": ["clean"],
    "usbench evaluate runs --track r": ["robustness"],
    "usbench weights fetch --set b": ["bundled"],
    "usbench weights fetch sam-vit-": ["sam-vit-b", "sam-vit-l", "sam-vit-h"],
    "usbench prune runs --method zeus,unet-": ["zeus,unet-classic"],
    "usbench --debug da": ["data"],
    "usbench data ch": ["check"],
    "usbench run --prec": ["--precision"],
}


@pytest.mark.parametrize("line", LINES)
def test_words_are_completed(place: Path, line: str) -> None:
    assert completed(place, line) == LINES[line]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_the_same(place: Path, shell: str) -> None:
    for line in ("usbench run --task msd-b", "usbench matrix --methods unet,att"):
        assert completed(place, line, shell) == LINES[line]


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("usbench matrix --methods unet,att", ["unet,attunet"]),
        ("usbench run --set train.epo", ["train.epochs="]),
        ("usbench lead", ["leaderboard"]),
    ],
)
def test_a_real_bash_completes(place: Path, line: str, becomes: list[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    # compopt is for a completion that readline asks for; here the function is called by itself.
    script = f"""
eval "$(_USBENCH_COMPLETE=bash_source usbench)"
complete -p usbench >/dev/null || exit 1
compopt() {{ local IFS=' '; echo "compopt $*"; }}
COMP_WORDS=({line}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_usbench_completion usbench
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    path = f"{place}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert [text for text in printed if not text.startswith("compopt")] == becomes
    # The value follows at once.
    assert ("compopt -o nospace" in printed) == becomes[0].endswith("=")


@pytest.mark.parametrize(("shell", "own"), [("bash", "nospace"), ("zsh", "compdef"), ("fish", "-m 1")])
def test_what_a_shell_evaluates(place: Path, shell: str, own: str) -> None:
    done = subprocess.run(
        [place / "usbench"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "_USBENCH_COMPLETE": f"{shell}_source"},
    )
    assert "usbench" in done.stdout
    assert own in done.stdout


def test_a_word_imports_no_torch() -> None:
    code = (
        "import os, sys\n"
        "os.environ.update(_USBENCH_COMPLETE='bash_complete', COMP_WORDS=sys.argv[1], COMP_CWORD='3')\n"
        "sys.argv = ['usbench']\n"
        "from usbench.cli.main import entry\n"
        "try:\n    entry()\nexcept SystemExit:\n    pass\n"
        "assert not [m for m in ('torch', 'monai', 'pandas', 'rich', 'SimpleITK') if m in sys.modules]\n"
    )
    for line in (
        "usbench run --task ",
        "usbench run --method ",
        "usbench run --set ",
        "usbench run --fusion ",
    ):
        done = subprocess.run([sys.executable, "-c", code, line], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "plain," in done.stdout


def test_the_words_are_those_that_are_taken() -> None:
    from usbench.datasets.readers import recognise
    from usbench.leaderboards.columns import SPREADS
    from usbench.leaderboards.formats import FORMATS
    from usbench.leaderboards.reported.beside import CHOICES
    from usbench.leaderboards.subgroups import KINDS
    from usbench.leaderboards.view import LAYOUTS
    from usbench.weights.store import SETS

    words = {name: set(give()) for name, give in completion._ANYWHERE.items()}
    assert words["form"] == set(FORMATS)
    assert words["spread"] == set(SPREADS)
    assert words["layout"] == set(LAYOUTS)
    assert words["subgroups"] == set(KINDS)
    assert words["reported"] == set(CHOICES)
    assert words["of_set"] == set(SETS)
    assert set(completion._AT["data import kind"]()) == set(recognise.KINDS)
    usual = DEFAULTS[PROTOCOL_VERSION]
    keys = {f"{name}.{key}" for name in ("data", "train", "volume") for key in usual[name]}
    keys |= {f"fusion.{key}" for name in ("early", "hybrid", "late") for key in usual[f"fusion.{name}"]}
    assert words["settings"] == {f"{key}=" for key in keys}
