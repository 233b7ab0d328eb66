"""The workflow that verifies submissions: its commands are those of the command line, its rights are few."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import Any

import click
import pytest
import yaml
from kit.places import ROOT

from usbench.cli.main import main

WORKFLOW = ROOT / ".github" / "workflows" / "submissions.yml"
DOCUMENTS = ("docs/submissions.md", "leaderboards/submissions/README.md", ".github/pull_request_template.md")


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    # YAML 1.1 reads the key "on" as true.
    found = yaml.safe_load(WORKFLOW.read_text())
    return {("on" if key is True else key): value for key, value in found.items()}


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def commands(text: str) -> list[str]:
    """The calls of usbench in a text: lines, continued ones joined, and those between backticks."""
    joined = text.replace("\\\n", " ")
    lines = [line.strip().partition("  #")[0] for line in joined.splitlines()]
    inline = re.findall(r"`(usbench [^`]+)`", joined)
    return [line for line in (*lines, *inline) if line.startswith("usbench ")]


def accepts(words: list[str]) -> None:
    """Raise `click.UsageError` unless the command line takes these words."""
    name, *rest = words
    main.commands[name].make_context(name, rest)


def test_it_may_only_read_and_has_no_secrets(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in workflow["jobs"].values())
    assert all(0 < job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())
    # pull_request_target would give the code of a fork the rights of this repository.
    assert set(workflow["on"]) == {"pull_request"}
    assert "secrets" not in WORKFLOW.read_text()
    for step in steps(workflow):
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v[0-9]+\.[0-9]+\.[0-9]+", step["uses"])
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False


def test_nothing_of_the_pull_request_is_installed_or_run(workflow: dict[str, Any]) -> None:
    base, entry = (s["with"] for s in steps(workflow) if s.get("uses", "").startswith("actions/checkout"))
    assert base["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert entry["sparse-checkout"].split() == ["leaderboards/submissions"]
    scripts = [step["run"] for step in steps(workflow) if "run" in step]
    # Text of others in a script would be run by the shell.
    assert all("${{" not in script for script in scripts)
    (install,) = [script for script in scripts if "pip install" in script]
    assert shlex.split(install) == ["pip", "install", "-c", "base/constraints.txt", "-e", "base"]
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_its_commands_are_accepted_and_find_the_example(workflow: dict[str, Any]) -> None:
    found = [line for step in steps(workflow) for line in commands(step.get("run", ""))]
    assert found == ["usbench verify entry/leaderboards/submissions/phantoms/*.zip"]
    words = shlex.split(found[0])[1:]
    accepts(words)
    files = sorted(ROOT.glob(words[-1].removeprefix("entry/")))
    assert ROOT / "leaderboards/submissions/phantoms/unext-small.zip" in files


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_of_the_documents_are_accepted(name: str) -> None:
    found = commands((ROOT / name).read_text())
    assert found
    for line in found:
        words = [word.strip("[]") for word in shlex.split(line)[1:]]
        try:
            accepts(words)
        except click.MissingParameter:
            assert all(word.startswith("--") for word in words[1:]), line  # named in a sentence
