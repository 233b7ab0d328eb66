"""A leaderboard as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from usbench.pages.compact import Pairs, compact_tables
from usbench.pages.shell import data_uri, first_sort, shell
from usbench.scores.registry import all_scores, beside_dsc
from usbench.scores.robustness import AVERAGES

LIMIT = 5_000_000
"""Bytes of a page; pictures are left out before it grows past this."""

_RESERVE = 100_000  # bytes for the words around the pictures

_SCRIPTS = tuple(
    f"{name}.js"
    for name in (
        *("page", "plots", "board_data", "saving", "filters", "grid", "standing", "compare"),
        *("cost", "cases", "learning", "tracks", "board"),
    )
)

_BODY = """<header class="top">
<h1>Leaderboard</h1>
<button type="button" id="theme"></button>
</header>
<noscript><p>This page is drawn by JavaScript, which is switched off here.
The files leaderboard.md and leaderboard.csv hold the same tables.</p></noscript>
<main id="board"><p id="about" class="muted"></p></main>"""


def html(
    data: Mapping[str, Any],
    pictured: Mapping[str, Any] | None,
    pairs: Sequence[Pairs | None] = (),
    looks: Mapping[str, Mapping[str, str]] | None = None,
    plots: Sequence[bytes | None] = (),
    notes: Sequence[Sequence[str]] = (),
) -> str:
    """The page of a leaderboard. It needs no other file and asks no host for anything.

    Args:
        data: The leaderboard as plain data.
        pictured: The same leaderboard, whose rows say where their runs are; pictures of cases are drawn from
            those that can be read. None for a page without pictures.
        pairs: For each table the differences of its ranked rows; None where there are too many.
        looks: By name of a fusion its label, colour, colour_on_dark and mark.
        plots: For each table of a track a plot as PNG, None where there is none.
        notes: For each table, and then for each of a track, what stands below it, a sentence or two each.

    Returns:
        The whole page as HTML.
    """
    from usbench.pages.case_pictures import characters, table_pictures

    tables = data["tables"]
    count = len(tables) + len(data.get("tracks", ()))
    below = [list(one) for one in notes] + [[]] * (count - len(notes))
    compacted = compact_tables(tables, [*pairs, *[None] * (len(tables) - len(pairs))])
    content = {
        **data,
        "tables": [{**table, "notes": one} for table, one in zip(compacted, below, strict=False)],
        "scores": _score_columns(),
        "fusions": dict(looks or {}),
    }
    if tracks := data.get("tracks"):
        pictures = [*plots, *[None] * (len(tracks) - len(plots))]
        content |= {
            "tracks": [
                {**table, "picture": None if plot is None else data_uri(plot, "image/png"), "notes": one}
                for table, plot, one in zip(tracks, pictures, below[len(tables) :], strict=True)
            ],
            "track_columns": _track_columns(),
        }
    left = LIMIT - _RESERVE - len(_page(content))
    if left < 0:
        # Numbers go before plots, which are in a file of their own too.
        for table in content.get("tracks", ()):
            table["picture"] = None
        left = LIMIT - _RESERVE - len(_page(content))
    sources = [None] * len(tables) if pictured is None else pictured["tables"]
    for i, (source, compact) in enumerate(zip(sources, content["tables"], strict=True)):
        share = max(0, left) // (len(tables) - i)
        compact["pictures"] = None if source is None else table_pictures(source, share)
        for case in (compact["pictures"] or {}).get("cases", ()):
            left -= sum(characters(panel) for panel in case["panels"])
    return _page(content)


def _page(content: Mapping[str, Any]) -> str:
    return shell("usbench leaderboard", _BODY, _SCRIPTS, content)


def _score_columns() -> list[dict[str, Any]]:
    """The columns of the scores beside the DSC, as the page's script draws them."""
    return [
        {
            "key": score.mean_name,
            "name": score.mean_heading,
            "sort": first_sort(score),
            "digits": score.digits,
            "hint": score.sentence,
        }
        for score in beside_dsc()
    ]


def _track_columns() -> dict[str, list[dict[str, Any]]]:
    """The columns of numbers of the tables of each track, as the page's script draws them."""
    robust = [
        {"key": key, "name": name, "sort": "down", "digits": 3, "hint": hint}
        for key, (name, hint) in AVERAGES.items()
    ]
    external = [
        {"key": "dsc", "name": "DSC", "sort": "down", "digits": 3, "hint": "on the other data"},
        {"key": "clean", "name": "clean DSC", "sort": "down", "digits": 3, "hint": "on their own test folds"},
        {
            "key": "loss",
            "name": "loss",
            "sort": "up",
            "digits": 3,
            "hint": "clean DSC less DSC, of other patients",
        },
        *(
            {
                "key": score.name,
                "name": score.mean_heading,
                "sort": first_sort(score),
                "digits": score.digits,
                "hint": score.sentence,
            }
            for score in all_scores()
            if score.in_leaderboard and score.name != "dsc"
        ),
    ]
    return {"robustness": robust, "external": external}
