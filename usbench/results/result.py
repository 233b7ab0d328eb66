"""A finished cell, and several of them, as people look at them: in Python, as data frames, in notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbench.scores.registry import all_scores

if TYPE_CHECKING:
    from pandas import DataFrame

    from usbench.results.schema import ResultFile


@dataclass(frozen=True, repr=False)
class Result:
    """A finished cell.

    Attributes:
        path: Its folder.
        data: Its result.json, as `docs/result.schema.json` says.
        rows: The rows of its cases.csv, a mapping for each case and class; NaN where a score is undefined.
            `cases` has them as a data frame.
    """

    path: Path
    data: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def scores(self) -> dict[str, Any]:
        """The mean of each score over classes within a case, then over cases; see `docs/metrics.md`."""
        scores: dict[str, Any] = self.data["scores"]
        return scores

    @cached_property
    def typed(self) -> ResultFile:
        """Its result.json with types, such as `result.typed.cost.parameters`."""
        from usbench.results.schema import typed

        return typed(self.data, str(self.path / "result.json"), "compute it again")

    @cached_property
    def cases(self) -> DataFrame:
        """Its cases.csv as a data frame: a row a case and class, with every score and the counts of voxels.

        Returns:
            The columns of `docs/metrics.md`; NaN where a score is undefined.
        """
        from pandas import DataFrame

        return DataFrame(self.rows)

    def __repr__(self) -> str:
        cell = self.data["cell"]
        return (
            f"<Result: {cell['task']}, {cell['method']}, {cell['fusion']}, fold {cell['fold']}, "
            f"seed {cell['seed']}, DSC {_decimals(self.scores['dsc'])}, {self.path}>"
        )

    def _repr_html_(self) -> str:
        """Its mean scores, a row for each class, for a notebook."""
        from pandas import DataFrame

        classes = [{"class": name, **values} for name, values in self.scores["classes"].items()]
        table = DataFrame(classes).to_html(index=False, float_format=_decimals, na_rep="")
        return f"<p>{escape(repr(self)[1:-1])}</p>{table}"


class Results(list[Result]):
    """The results that `usbench.run` and `usbench.matrix` return: a list that is also a table."""

    def to_frame(self) -> DataFrame:
        """The results as a data frame.

        Returns:
            A row a result: task, kind of data, method, fusion, fold, seed and the number of patients that
            it was trained on; the mean of every score, NaN
            where it is undefined or came after the result; what the cell cost; and its folder.
        """
        from pandas import DataFrame

        return DataFrame([flat_row(result.path, result.data) for result in self], columns=list(_columns()))

    def __repr__(self) -> str:
        if not self:
            return "<Results: none>"
        lines = "".join(f"\n  {result!r}" for result in self)
        return f"<Results: {len(self)}{lines}>"

    def _repr_html_(self) -> str:
        """The data frame, for a notebook."""
        return str(self.to_frame().to_html(index=False, float_format=_decimals, na_rep=""))


def flat_row(path: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """One result as a row of `Results.to_frame`.

    Args:
        path: Its folder.
        data: Its result.json.

    Returns:
        A value for each column.
    """
    nan = float("nan")
    cell, means = data["cell"], data["scores"]
    row = {"task": cell["task"], "data": data["data"]["kind"]}
    row |= {name: cell[name] for name in ("method", "fusion", "fold", "seed")}
    row["trained_on"] = len(data["split"]["train"])
    for score in all_scores():
        value = means.get(score.mean_name)
        row[score.mean_name] = nan if value is None else value
    row["cases"] = means["cases"]
    for name in _cost_columns():
        value = data["cost"].get(name)
        row[name] = nan if value is None else value
    return {**row, "path": str(path)}


def _columns() -> Iterable[str]:
    means = (score.mean_name for score in all_scores())
    facts = ("task", "data", "method", "fusion", "fold", "seed", "trained_on")
    return (*facts, *means, "cases", *_cost_columns(), "path")


def _cost_columns() -> Iterable[str]:
    from usbench.results.schema import CostBlock

    return CostBlock.model_fields


def _decimals(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
