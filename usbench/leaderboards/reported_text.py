"""Published figures as sections of the text formats; in one line where the leaderboard is small."""

from __future__ import annotations

from collections.abc import Sequence

from usbench.leaderboards.reported import Measured, Reported
from usbench.leaderboards.words import TextTable, number
from usbench.scores.registry import all_scores

_FACTS = "as printed, not measured here; never ranked or subtracted"


def reported_texts(reported: Sequence[Reported], shortened: bool = False) -> list[TextTable]:
    """A section for each publication, or one that is a line and says how the figures are shown.

    Args:
        reported: What publications report.
        shortened: Whether one line is enough.
    """
    if shortened and reported:
        lines = sum(len(one.lines) for one in reported)
        facts = (
            f"Reported elsewhere: {lines} {'lines' if lines > 1 else 'line'} of published tables, "
            f"not measured here ({'; '.join(one.title for one in reported)}); "
            "usbench leaderboard --reported fitting shows them"
        )
        return [TextTable(title="", facts=facts, columns=(), words=(), rows=[], notes=[])]
    return [_text(one) for one in reported]


def _text(one: Reported) -> TextTable:
    heads = {
        name: f"{score.mean_heading.removesuffix(score.unit).strip()} ({line.units[name]})"
        for score in all_scores()
        for line in one.lines
        if (name := score.mean_name) in line.scores
    }
    titles = list(dict.fromkeys(row.table for line in one.lines for row in line.measured))
    rows = [
        {
            "task": line.task,
            "as printed": line.printed_task,
            "of": line.part or "-",
            "method": line.method,
            "fusion": line.fusion or "-",
            **{head: line.scores.get(name, "-") for name, head in heads.items()},
            "parameters": line.parameters or "-",
            "measured here": "; ".join(_measured(row, titles) for row in line.measured) or "-",
            "where": line.table,
        }
        for line in one.lines
    ]
    notes = [f"Source: {one.reference}" + (f"; {one.address}" if one.address else ".")]
    if one.second_hand:
        notes.append(f"Second-hand: {one.second_hand}")
    if titles:
        numbered = "; ".join(f"[{i}] {title}" for i, title in enumerate(titles, 1))
        notes.append(f"Measured here: the mean DSC of rows of {numbered}.")
    return TextTable(
        title=f"Reported elsewhere: {one.title}",
        facts=_FACTS,
        columns=tuple(name for name in rows[0] if any(row[name] != "-" for row in rows)),
        words=("task", "as printed", "of", "method", "fusion", "measured here", "where"),
        rows=rows,
        notes=[*notes, *(f"Differs: {sentence}" for sentence in one.differs)],
        dispensable=("where", "parameters", "task", *reversed(list(heads.values())[1:]), "measured here"),
        printed=("as printed", "of", "method", "fusion", *heads.values(), "measured here"),
    )


def _measured(row: Measured, titles: Sequence[str]) -> str:
    """A row of ours in a few words: its mean DSC, its name, the number of its table, why it has no rank."""
    status = f", {row.status.partition(':')[0]}" if row.status else ""
    return f"{number(row.dsc, 3)} {row.label}, {row.fusion}{status} [{titles.index(row.table) + 1}]"
