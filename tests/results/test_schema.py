"""The model of a result.json: real results fit it, broken ones are named, its JSON schema says the same."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from kit.handmade import make_run, rewrite
from kit.places import ROOT

import usbench
from usbench.errors import UsbenchError
from usbench.leaderboards import build
from usbench.results.io import write_result
from usbench.results.schema import OutsideBlock, json_schema, result_model
from usbench.submissions.archive import opened
from usbench.submissions.content import read_submission

KEPT = sorted((ROOT / "leaderboards").glob("*/results/**/result.json"))
SUBMISSIONS = sorted((ROOT / "leaderboards" / "submissions").glob("**/*.zip"))


def test_every_kept_result_is_read_as_it_was_written() -> None:
    glioma = [file for file in KEPT if "glioma-64" in file.parts]
    assert len(KEPT) > 400
    assert len(glioma) == 116
    for file in KEPT:
        result = usbench.load_result(file)
        assert result.data == json.loads(file.read_text())
        assert result.typed.cost.parameters == result.data["cost"]["parameters"]
        # What the model holds is what the file holds: nothing is converted, added or lost.
        assert result.typed.model_dump(mode="json", by_alias=True, exclude_unset=True) == result.data


def test_every_submission_is_read() -> None:
    assert SUBMISSIONS
    for path in SUBMISSIONS:
        with opened(path) as archive:
            assert len(read_submission(archive).runs) > 0


def test_the_committed_schema_is_that_of_the_model() -> None:
    committed = json.loads((ROOT / "docs" / "result.schema.json").read_text())
    assert committed == json_schema(), "run: python docs/make_schema.py"
    jsonschema.Draft202012Validator.check_schema(committed)
    validator = jsonschema.Draft202012Validator(committed)
    for file in KEPT[::20]:
        validator.validate(json.loads(file.read_text()))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def verdict(data: Any) -> str:
    """The first reason of the model to refuse `data`, "" where it does not."""
    from pydantic import ValidationError

    try:
        result_model().model_validate(data)
        return ""
    except ValidationError as error:
        return error.errors()[0]["type"]


def test_model_and_json_schema_agree_on_any_value_in_any_place() -> None:
    """The package jsonschema, with the committed file, refuses what the model refuses and nothing else."""
    validator = jsonschema.Draft202012Validator(
        json.loads((ROOT / "docs" / "result.schema.json").read_text())
    )
    data = json.loads(KEPT[0].read_text())
    junk = (None, True, -1, 3, 0.5, "", "x", [], ["x"], [1], {}, {"x": 1}, {"x": {"y": 0.5}}, {"x": "y"})
    refused = accepted = 0
    for *path, last in list(places(data)):
        block = data
        for key in path:
            block = block[key]
        kept = block[last]
        for value in junk:
            block[last] = value
            said = verdict(data)
            # JSON schema has no words for what two keys say of each other.
            if said not in ("fold", "words", "outside"):
                assert bool(said) != validator.is_valid(data), (*path, last, value, said)
            refused, accepted = refused + bool(said), accepted + (not said)
        if isinstance(block, dict):
            del block[last]
            assert bool(verdict(data)) != validator.is_valid(data), (*path, last)
            block["surplus"] = 1
            assert bool(verdict(data)) != validator.is_valid(data), (*path, "surplus")
            del block["surplus"]
        block[last] = kept
    assert refused > 1000
    assert accepted > 100


Change = Callable[[dict[str, Any]], object]
BROKEN: dict[str, tuple[Change, str]] = {
    "block absent": (lambda d: d.pop("cost"), "lacks 'cost'"),
    "key absent": (lambda d: d["cell"].pop("seed"), "lacks 'cell.seed'"),
    "key unknown": (lambda d: d["cost"].update(watts=3), "has the key 'cost.watts', which results do"),
    "one of a group absent": (lambda d: d["task"].update(origin="file x"), "lacks 'task.words'"),
    "number as text": (lambda d: d["cost"].update(epochs="3"), "'cost.epochs' is '3', not a whole number"),
    "yes for a number": (lambda d: d["cost"].update(ms_per_slice=True), "is True, not a number"),
    "fraction of a count": (lambda d: d["data"].update(cases=2.5), "'data.cases' is 2.5, not a whole number"),
    "negative cost": (lambda d: d["cost"].update(train_seconds=-1), "'cost.train_seconds' is -1, less"),
    "score not finite": (lambda d: d["scores"].update(dsc=math.inf), "Infinity is not a number"),
    "score of a class": (
        lambda d: d["scores"]["classes"]["liver"].update(dsc="high"),
        "'scores.classes.liver.dsc' is 'high', not a number",
    ),
    "name no text": (lambda d: d["task"].update(classes=["liver", 3]), "'task.classes.1' is 3, not text"),
    "no classes": (lambda d: d["task"].update(classes=[]), "'task.classes' is [], empty"),
    "other kind": (lambda d: d["data"].update(kind="fake"), "'data.kind' is 'fake', not 'real', 'sample'"),
    "no mapping": (lambda d: d.update(method="unet"), "'method' is 'unet', not a mapping"),
    "fold beyond": (lambda d: d["cell"].update(fold=2), "cell.fold is 2 of 2 folds"),
    "too few words": (
        lambda d: d["task"].update(
            words={"modalities": ["t1"], "classes": []}, nsd_tolerance_mm=1.0, origin="folder", version=""
        ),
        "task.words has not a word for each modality and class",
    ),
    "count beyond 64 bits": (
        lambda d: d["cost"].update(parameters=2**63), "'cost.parameters' is 9223372036854775808"
    ),
    "endless seconds": (lambda d: d["cost"].update(train_seconds=1e300), "'cost.train_seconds' is 1e+300"),
    "no limit": (lambda d: d["data"].update(limit=0), "'data.limit' is 0, less than 1"),
    "many folds": (lambda d: d["split"].update(folds=2**31), "'split.folds' is 2147483648"),
    "agreement beyond 1": (
        lambda d: d["data"].update(agreement={"a": {"liver": 1.5}}), "'data.agreement.a.liver' is 1.5"
    ),
    "large seed": (lambda d: d["cell"].update(seed=2**31), "'cell.seed' is 2147483648"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named_in_one_line(name: str, tmp_path: Path) -> None:
    change, words = BROKEN[name]
    make_run(tmp_path, fold=0)
    broken = make_run(tmp_path, fold=1)
    rewrite(broken, change)
    with pytest.raises(UsbenchError) as caught:
        usbench.load_result(broken)
    message = str(caught.value)
    assert message.startswith(f"{broken / 'result.json'}: ")
    assert words in message
    assert message.endswith("compute it again with usbench run --overwrite, or remove its folder")
    (left_out,) = build(tmp_path).problems
    assert left_out.path == broken
    assert left_out.reason.startswith("result.json: ")
    assert words in left_out.reason


def test_a_result_that_does_not_fit_is_not_written(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    data = json.loads((folder / "result.json").read_text())
    (folder / "result.json").unlink()
    wrong = copy.deepcopy(data)
    wrong["cost"]["epochs"] = -3
    with pytest.raises(UsbenchError, match=r"result\.json: 'cost\.epochs' is -3, less than 0"):
        write_result(folder, wrong)
    assert not (folder / "result.json").exists()
    assert write_result(folder, data).typed.cost.epochs == 3


def test_masks_of_another_program_have_a_name_to_be_shown_by() -> None:
    block = {
        "kind": "masks", "label": "theirs", "missing": [], "claims": [], "predict_seconds": None,
        "versions": {},
    }  # fmt: skip
    assert OutsideBlock.model_validate(block).label == "theirs"
    with pytest.raises(ValueError, match="label"):
        OutsideBlock.model_validate({**block, "label": ""})
