"""Run folders, cards, submissions and configurations drawn at random: each is read, or refused in one line.

`pytest -m slow` draws 2,000 in all, the suite of every day a few dozen.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.handmade import make_run
from kit.mutations import ODD_FILES, contents, json_with_twice, modest, values
from kit.tampering import CARD, folder_of_fold, put_together, seal, taken_apart

from usbench.config import make_config, read_config_file
from usbench.datasets.tasks.task_file import load_task_file
from usbench.errors import UsbenchError
from usbench.leaderboards import render
from usbench.leaderboards.board import build
from usbench.matrices.request import MatrixRequest, matrix_options, read_file
from usbench.storage.files import digest_of, sha256_file
from usbench.submissions.archive import opened
from usbench.submissions.card import dump_card, parse_card
from usbench.submissions.content import read_submission

FEW, MANY = 15, 500

SETTINGS = b"""
preset: smoke
data: {size: 64, normalise: zscore}
train:
  epochs: 5
  lr: 1.0e-3
  augment: light
  clip: 0.5
"""


def drawn(count: int) -> Callable[[Any], Any]:
    """As many draws, the same in each run."""
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def both(check: Callable[[Path, st.DataObject], None]) -> tuple[Any, Any]:
    """The test of every day and the slow one of a check that takes a folder and what is drawn."""

    def made(count: int) -> Any:
        def test(tmp_path_factory: pytest.TempPathFactory) -> None:
            folder = tmp_path_factory.mktemp("drawn")

            @drawn(count)
            @given(st.data())
            def each(data: st.DataObject) -> None:
                check(folder, data)

            each()

        return test

    return made(FEW), pytest.mark.slow(made(MANY))


def is_line(text: str) -> bool:
    return bool(text) and "\n" not in text and text.isprintable() and len(text) < 5000


def read_or_refused(read: Callable[[], object]) -> None:
    with modest():
        try:
            read()
            said = "read"
        except UsbenchError as error:
            said = str(error)
    assert is_line(said), said


GOOD: dict[Path, Path] = {}


def run_folder(folder: Path, what: Any) -> None:
    """A bad folder beside two good ones, which stay on the board."""
    if folder not in GOOD:
        for method in ("unet", "resunet"):
            for fold in range(2):
                make_run(folder / "runs", method, fold=fold)
        GOOD[folder] = make_run(folder, "unext", fold=0)
    bad = folder / "runs" / "chaos-phantom" / "unext-late" / "0-0-bad"
    shutil.rmtree(bad, ignore_errors=True)
    shutil.copytree(GOOD[folder], bad)
    name, kind, change = what
    file = bad / name
    if kind == "odd":
        file.unlink()
        change(file)
    elif kind == "bytes":
        file.write_bytes(change(file.read_bytes()))
    if (name != "result.json" and file.is_file() and file.stat().st_size < 1 << 20) or kind == "value":
        data = json.loads((bad / "result.json").read_text())
        data["files"][name] = sha256_file(file)
        data = change(data) if kind == "value" else data
        data.pop("digest", None)
        try:
            data["digest"] = digest_of(data)
            (bad / "result.json").write_text(json.dumps(data))
        except ValueError:  # half a surrogate pair
            (bad / "result.json").write_text(json.dumps(data, ensure_ascii=True))
    with modest():
        board = build(folder / "runs")
        for form in ("table", "md", "csv", "json"):
            render(board, form)
    methods = {row.method for table in board.tables for row in table.rows}
    assert {"unet", "resunet"} <= methods
    assert all(is_line(str(one)) for one in board.problems)


def changed_run(folder: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(("result.json", "result.json", "cases.csv")))
    kind = data.draw(st.sampled_from(("odd", "bytes", "value", "value")))
    if kind == "odd":
        what: Any = data.draw(st.sampled_from(ODD_FILES))
    elif kind == "bytes":
        what = lambda content: data.draw(contents(content))  # noqa: E731
    else:
        what = lambda value: data.draw(values(value))  # noqa: E731
    run_folder(folder, (name, kind, what))


test_a_run_folder_leaves_the_board_of_the_others, test_many_run_folders = both(changed_run)


def changed_card(folder: Path, data: st.DataObject) -> None:
    card = data.draw(values(CARD)) if data.draw(st.booleans()) else CARD
    try:
        content = dump_card(card)
    except Exception:  # what is no card cannot be written as one
        content = json.dumps(card).encode()
    if data.draw(st.booleans()):
        content = data.draw(contents(content))
    read_or_refused(lambda: parse_card(content, "card.yaml"))


test_a_card_that_is_drawn_is_read_or_refused, test_many_cards = both(changed_card)


def changed_submission(folder: Path, data: st.DataObject) -> None:
    path = folder / "one.zip"
    members = taken_apart()
    inner = folder_of_fold(members, data.draw(st.integers(0, 2)))
    kind = data.draw(st.sampled_from(("archive", "member", "result", "twice")))
    if kind == "result":
        result = data.draw(values(json.loads(members[f"{inner}/result.json"])))
        try:
            seal(members, inner, result, rehash=data.draw(st.booleans()))
        except Exception:  # what has no hash cannot be given one
            members[f"{inner}/result.json"] = json.dumps(result).encode()
    elif kind == "member":
        name = data.draw(st.sampled_from(sorted(members)))
        members[name] = data.draw(contents(members[name]))
    elif kind == "twice":
        members[f"{inner}/result.json"] = json_with_twice(json.loads(members[f"{inner}/result.json"]))
    put_together(path, members)
    if kind == "archive":
        path.write_bytes(data.draw(contents(path.read_bytes())))

    def read() -> None:
        with opened(path) as archive:
            read_submission(archive)

    read_or_refused(read)


test_a_submission_that_is_drawn_is_read_or_refused, test_many_submissions = both(changed_submission)

TASK = (
    b"name: own\ntitle: Own\nfolder: .\n"
    b"modalities:\n  t1: '{case}/{case}_t1.nii.gz'\n  t2: '{case}/t2.nii.gz'\n"
    b"mask: '{case}/mask.nii.gz'\nclasses: {liver: 1, lesion: 2}\nnsd-tolerance-mm: 2\nlicence: none\n"
    b"citation: nobody\nsplit: [[a, b], [c, d]]\n"
)
MATRIX = b"methods: [unet, unext]\nfusions: [early, late]\ntasks: [chaos]\npreset: smoke\nseeds: [0, 1]\n"


def changed_configuration(folder: Path, data: st.DataObject) -> None:
    file = folder / "words.yaml"
    if file.is_dir():
        file.rmdir()
    file.unlink(missing_ok=True)
    kind = data.draw(st.sampled_from(("settings", "task", "matrix")))
    content = {"settings": SETTINGS, "task": TASK, "matrix": MATRIX}[kind]
    if data.draw(st.integers(0, 9)) == 0:
        data.draw(st.sampled_from(ODD_FILES))(file)
    else:
        for _ in range(data.draw(st.integers(1, 2))):
            content = data.draw(contents(content))
        file.write_bytes(content)

    def read() -> None:
        if kind == "settings":
            given = read_config_file(file)
            make_config("smoke", {}, {}, {key: value for key, value in given.items() if key != "preset"})
        elif kind == "task":
            load_task_file(file)
        else:
            MatrixRequest.of(**read_file(file, matrix_options()))

    read_or_refused(read)


test_a_configuration_is_read_or_refused, test_many_configurations = both(changed_configuration)
