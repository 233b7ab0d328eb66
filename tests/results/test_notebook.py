"""A notebook in a real Jupyter kernel: a run with its progress, and how results and leaderboards look."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow

CELLS = (
    "import usbench\nassert 'load_result' in dir(usbench)",
    "results = usbench.run('unext-small', 'late', 'chaos', preset='smoke', folds='0', device='cpu')",
    "results",
    "results[0]",
    "results[0].cases",
    "usbench.leaderboard('runs')",
    "print(results)",
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """What each cell of the notebook put out."""
    folder: Path = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in CELLS])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USBENCH_CACHE", str(folder / "cache"))
        patch.delenv("USBENCH_DATA", raising=False)
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        ).execute()
    return [cell.outputs for cell in notebook.cells]


def html(outputs: list[Any]) -> str:
    (shown,) = [one.data["text/html"] for one in outputs if one.output_type == "execute_result"]
    return str(shown)


def test_results_cases_and_leaderboard_are_tables(outputs: list[list[Any]]) -> None:
    for place in (2, 3, 4, 5):
        assert "<table" in html(outputs[place]), CELLS[place]
    assert "unext-small" in html(outputs[2])
    assert "liver" in html(outputs[3])
    assert "<th>tp</th>" in html(outputs[4])
    assert "<h4>chaos (phantom), preset smoke</h4>" in html(outputs[5])
    assert outputs[6][0].text.startswith(
        "<Results: 1\n  <Result: chaos, unext-small, late, fold 0, seed 0, DSC "
    )


def test_progress_shows_and_does_not_flood(outputs: list[list[Any]]) -> None:
    """What a run says is text on standard error: a line for each message, and one for each bar, redrawn."""
    assert {one.output_type for one in outputs[1]} == {"stream"}
    text = "".join(one.text for one in outputs[1])
    assert "ipywidgets" not in text
    # As a front end shows it: a carriage return goes back to the start of the line.
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    shown = [line for raw in plain.split("\n") if (line := raw.rstrip("\r").rsplit("\r", 1)[-1]).strip()]
    assert any("using its phantom" in line for line in shown)
    for bar, end in (("making the chaos phantom", "10/10"), ("unext-small late fold 0", "2/2")):
        (line,) = [line for line in shown if bar in line]
        assert end in line
    assert len(shown) < 15, shown
