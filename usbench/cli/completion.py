"""Completion by the shell: names of methods, tasks, fusions, presets, settings and other words.

click speaks with bash, zsh and fish, and asks the type of a parameter for its words. Nothing is imported for
them that takes long, and no plugin file either: what a plugin file brings is not completed, what installed
packages bring is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, add_completion_class

FORMATS = ("table", "md", "csv", "json", "latex", "html")
OF_FUSIONS = ("fusion.hybrid", "fusion.merge", "fusion.absent")


def _methods() -> Iterable[str]:
    from usbench.methods.registry import find_methods

    return find_methods()


def _tasks() -> Iterable[str]:
    from usbench.datasets.tasks import search_tasks, task_names

    return (*task_names(), *sorted(search_tasks().found))


def _fusions() -> Iterable[str]:
    from usbench.fusions.registry import search_fusions

    return search_fusions().found


def _presets() -> Iterable[str]:
    from usbench.config import PRESETS

    return PRESETS


def _settings() -> Iterable[str]:
    from usbench.contracts.settings import DataSettings, TrainSettings, VolumeSettings

    sections = {"data": DataSettings, "train": TrainSettings, "volume": VolumeSettings}
    keys = [f"{name}.{one.name}" for name, kind in sections.items() for one in dataclasses.fields(kind)]
    return [f"{key}=" for key in (*keys, *OF_FUSIONS)]


def _weights() -> Iterable[str]:
    from usbench.weights.table import WEIGHTS

    return [weight.name for weight in WEIGHTS]


def _cache() -> Iterable[str]:
    from usbench.caches.contents import KINDS

    return KINDS


def _chosen(name: str) -> Callable[[], Iterable[str]]:
    """The choices that an option of a request states."""

    def words() -> Iterable[str]:
        from usbench.contracts.options import options_of
        from usbench.contracts.request import Request

        return options_of(Request)[name].choices

    return words


def _fixed(*words: str) -> Callable[[], Iterable[str]]:
    return lambda: words


_TRACKS = ("robustness", "external")

_ANYWHERE: dict[str, Callable[[], Iterable[str]]] = {
    "method": _methods,
    "methods": _methods,
    "task": _tasks,
    "tasks": _tasks,
    "fusion": _fusions,
    "fusions": _fusions,
    "preset": _presets,
    "settings": _settings,
    "data": _chosen("data"),
    "device": _chosen("device"),
    "precision": _chosen("precision"),
    "loggers": _chosen("loggers"),
    "track": _fixed(*_TRACKS),
    "tracks": _fixed(*_TRACKS),
    "folds": _fixed("all"),
    "form": _fixed(*FORMATS),
    "empty": _fixed("truth", "brats"),
    "reported": _fixed("auto", "none", "fitting", "all"),
    "spread": _fixed("none", "sd", "interval"),
    "layout": _fixed("rows", "methods-by-fusions"),
    "subgroups": _fixed("class", "group", "size"),
    "of_set": _fixed("bundled", "paper", "more"),
    "to": _fixed("nnunet", "msd"),
}
"""By the name of a parameter, its words."""

_AT: dict[str, Callable[[], Iterable[str]] | None] = {
    "methods names": _methods,
    "weights fetch names": _weights,
    "weights check names": _weights,
    "zeus ablation weights": _fixed("paper", "bundled"),
    "zeus ablation fusion": _fixed("hybrid", "late"),
    "new kind": _fixed("encoder-decoder", "segmenter"),
    "data import kind": _fixed("folders", "nnunet", "bids", "csv", "msd"),
    "leaderboard track": _fixed("clean", *_TRACKS),
    "cache list kinds": _cache,
    "cache clear kinds": _cache,
    "figure methods": None,  # METHOD-FUSION of rows
}
"""The same where a command differs, by its words and the name of the parameter."""

_LISTS = frozenset({"methods", "tasks", "fusions", "tracks"})
"""Parameters of "a,b": what follows the last comma is completed."""

_BY_NAMES = frozenset({"prune", "cache list", "cache clear"})
"""Commands that take several tasks, methods and fusions in one word."""

_ALSO_ALL = frozenset({"methods", "tasks", "fusions"})


class Words(type(click.STRING)):  # type: ignore[misc]
    """A text of which a shell can complete the words.

    Attributes:
        words: Gives them.
        several: Whether it is a list with commas.
        all: Whether "all" stands for every word.
        files: Whether it may be a file instead.
    """

    def __init__(
        self, words: Callable[[], Iterable[str]], several: bool, all: bool = False, files: bool = False
    ) -> None:
        self.words, self.several, self.all, self.files = words, several, all, files

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[Any]]:
        """The words that begin as what is typed; of a list those that it does not have yet."""
        before, comma, last = incomplete.rpartition(",") if self.several else ("", "", incomplete)
        there = set(before.split(",")) | set(ctx.params.get(param.name or "") or ())
        words = [*self.words(), *(["all"] if self.all and not before else [])]
        fitting = [word for word in words if word.startswith(last) and word not in there]
        if not fitting and self.files:
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(f"{before}{comma}{word}") for word in fitting]


def add_completion(command: click.Command, path: str = "") -> None:
    """Let a shell complete the words of a command and of those below it.

    It is called where a shell asks, by the variable _USBENCH_COMPLETE: others need not wait for it.

    Args:
        command: The command.
        path: The words after `usbench` that call it.
    """
    for one in command.params:
        name = one.name or ""
        words = _AT.get(f"{path} {name}", _ANYWHERE.get(name))
        if words is None or one.type is not click.STRING:
            continue
        # Options that are written several times have a word each.
        several = (name in _LISTS or (path in _BY_NAMES and name in ("method", "task", "fusion"))) and not (
            one.multiple if isinstance(one, click.Option) else False
        )
        one.type = Words(
            words, several, all=path == "matrix" and name in _ALSO_ALL, files=name in ("task", "method")
        )
    for name, inner in command.commands.items() if isinstance(command, click.Group) else ():
        add_completion(inner, f"{path} {name}".strip())


class _Bash(BashComplete):
    """Puts no space after KEY=, whose value follows."""

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)", "COMPREPLY+=($value); [[ $value == *= ]] && compopt -o nospace"
    )


class _Fish(FishComplete):
    """Keeps the commas of a list."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split -m 1 ","')


add_completion_class(_Bash)
add_completion_class(_Fish)
