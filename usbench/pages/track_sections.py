"""The sections of a run's page that show its finished tracks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from usbench.errors import UsbenchError
from usbench.pages.case_pictures import reduced
from usbench.pages.missing_masks import as_evaluated
from usbench.pages.shell import data_uri, escape
from usbench.results.result import Result
from usbench.results.track_scores import check_rows, condition_scores
from usbench.results.tracks import TrackResult, load_track, track_folders
from usbench.runtime.console import count
from usbench.scores.registry import all_scores
from usbench.scores.robustness import AVERAGES
from usbench.scores.text import number

_WIDTH = 1200  # pixels: a wider picture is reduced


def track_sections(result: Result) -> str:
    """A section for each finished track of a run; what cannot be trusted is named instead of shown."""
    parts = []
    for folder in track_folders(result.path):
        try:
            track = load_track(folder, result.data["digest"])
            check_rows(track, result.data)
        except UsbenchError as error:
            parts.append(
                f'<section><h2>{escape(folder.name)}</h2><p class="bad">{escape(error)}</p></section>'
            )
            continue
        parts.append(_section(track))
    return "".join(parts)


def _section(track: TrackResult) -> str:
    data = track.data
    if data["track"] == "robustness":
        title, table = "Missing and noisy modalities", _robustness(track)
        told = "was" if data["told"] else "was not"
        cases = len(data["data"]["cases"])
        about = f"The network {told} told which modalities are there. Means over {count(cases, 'case')}."
    else:
        title, table = f"On other data: {data['data']['name']}", _external(data)
        about = (
            f"{count(data['data']['cases'], 'case')} of task {data['data']['task']} "
            f"({data['data']['kind']}), data {data['data']['fingerprint'][:10]}; nothing was trained on it."
        )
    return (
        f'<section class="track"><h2>{escape(title)}</h2><p class="muted">{escape(about)}</p>{table}'
        f"{_picture(track)}</section>"
    )


def _robustness(track: TrackResult) -> str:
    scores, modalities = track.data["scores"], track.data["modalities"]
    rows: list[tuple[str, str, float | None, float | None, float | None]] = [
        (label, hint, scores[name], scores[f"iou_{name}"], None)
        for name, (label, hint) in AVERAGES.items()
        if scores[name] is not None
    ]
    if len(modalities) > 1:
        dsc, iou = (_by_condition(track, name) for name in ("dsc", "iou"))
        for name in modalities:
            condition = f"missing-{name}"
            lost = _paired(dsc["clean"], dsc[condition])
            mean, other = (_mean(list(values[condition].values())) for values in (dsc, iou))
            rows.append((f"without {name}", "every other modality is there", mean, other, lost))
    lines = "".join(
        f'<tr><th scope="row" title="{escape(hint)}">{escape(label)}</th>'
        + "".join(f'<td class="number">{escape(number(value, 3))}</td>' for value in (mean, other, lost))
        + "</tr>"
        for label, hint, mean, other, lost in rows
    )
    heads = ("condition", "DSC", "IoU", "DSC that is lost")
    return _grid(heads, lines, "averages of the robustness track")


def _by_condition(track: TrackResult, name: str) -> dict[str, dict[str, float]]:
    """A score by condition, then by case."""
    found: dict[str, dict[str, float]] = {}
    for case, scores in condition_scores(track, name).items():
        for condition, value in scores.items():
            found.setdefault(condition, {})[case] = value
    return found


def _paired(clean: Mapping[str, float], damaged: Mapping[str, float]) -> float | None:
    return _mean([value - damaged[case] for case, value in clean.items()])


def _mean(values: list[float]) -> float | None:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else None


def _external(data: Mapping[str, Any]) -> str:
    means = data["scores"]
    lines = "".join(
        f'<tr><th scope="row" title="{escape(score.sentence)}">{escape(score.mean_heading)}</th>'
        f'<td class="number">{escape(number(means[name], score.digits))}</td></tr>'
        for score in all_scores()
        if (name := score.mean_name if score.mean_name in means else score.name) in means
    )
    return _grid(("score", "mean"), lines, f"scores on {data['data']['name']}")


def _grid(heads: tuple[str, ...], lines: str, name: str) -> str:
    head = "".join(
        f'<th scope="col"{"" if i == 0 else " class=number"}>{escape(text)}</th>'
        for i, text in enumerate(heads)
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table>'
        f'<caption class="hidden">{escape(name)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _picture(track: TrackResult) -> str:
    file = as_evaluated(track, "figure.png")
    if file is None:
        return ""
    try:
        content, (width, height) = reduced(file, _WIDTH)
    except (OSError, ValueError):
        return ""
    src = data_uri(content, "image/jpeg")
    words = escape(f"{track.data['name']}: picture of the evaluation")
    return f'<div class="picture"><img src="{src}" width="{width}" height="{height}" alt="{words}"></div>'
