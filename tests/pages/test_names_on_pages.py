"""Whatever things are called, their names are text on a page: no element and no script is made of them."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from kit.handmade import make_run

import usbench
from usbench.leaderboards import render
from usbench.leaderboards.board import build
from usbench.pages.run_page import write_report

TAG = "<img src=x onerror=alert(1)>"
NAMES = (TAG, f'">{TAG}', f"'>{TAG}<!--", f"</script>{TAG}<script>alert(1)")


class Elements(HTMLParser):
    """Counts what a browser would make of a page: script elements and attributes that are code."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts = 0
        self.code: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.code += [f"{tag} {name}" for name, _ in attrs if name.startswith("on")]


def pages(folder: Path, name: str) -> dict[str, str]:
    """Pages and notebooks' tables of runs in which everything that others name is called `name`."""
    cases = [f"{name} {i}" for i in range(4)]
    for fold in (0, 1):
        test = cases[fold::2]
        run = make_run(
            folder / "runs",
            fold=fold,
            dsc=dict.fromkeys(test, (0.8, 0.6)),
            cell__method=name,
            cell__task=name,
            cell__fusion=name,
            task__name=name,
            task__title=name,
            task__classes=[name, f"{name} 2"],
            task__modalities=[name, f"{name} 2"],
            split__test=test,
            method__name=name,
            method__paper=name,
            method__weights=name,
            method__licence=name,
            method__origin=name,
            config__method={name: name},
            cost__device=name,
            remarks=[name],
        )
    (folder / "in").mkdir()
    (folder / "in" / f"{name.replace('/', '')}.zip").write_bytes(b"no archive")
    (folder / "runs" / name.replace("/", "")).mkdir()
    (folder / "runs" / name.replace("/", "") / "result.json").write_text("{")
    board = build(folder / "runs", submissions=folder / "in")
    assert len(board.problems) == 1
    assert board.claims
    result = usbench.load_result(run)
    return {
        "leaderboard": render(board, "html"),
        "run": write_report(run).read_text(encoding="utf-8"),
        "notebook's board": board._repr_html_(),
        "notebook's result": result._repr_html_(),
    }


@pytest.mark.parametrize("place", range(len(NAMES)))
def test_a_name_is_no_element_of_a_page(place: int, tmp_path: Path) -> None:
    found = pages(tmp_path / "named", NAMES[place])
    plain = pages(tmp_path / "plain", "plain")
    for page, text in found.items():
        assert "<img src=x" not in text, page
        assert Elements(text).code == Elements(plain[page]).code == []
        assert Elements(text).scripts == Elements(plain[page]).scripts, page
        # It stands there all the same, as text or as JSON in a script.
        assert "&lt;img src=x onerror" in text or "\\u003cimg src=x onerror" in text, page
