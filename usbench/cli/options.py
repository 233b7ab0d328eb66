"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def _debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.find_root().meta["usbench.debug"] = True


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_debug,
    help="Show the traceback of an error.",
)


data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where the data sets are (default: $USBENCH_DATA)."
)

plugin_option = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Python file with a METHOD, TASK or FUSION.",
)


def split_names(text: str | None) -> list[str] | None:
    """Comma-separated names as a list, None where nothing was given."""
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


_CELL_OPTIONS = (
    data_dir_option,
    click.option(
        "--data",
        default="auto",
        show_default=True,
        help="auto: real data where it is found, else the phantom. real: absence is an error. "
        "phantom: always.",
    ),
    click.option("--modalities", help="Use only these, comma-separated."),
    click.option("--merge-labels", metavar="NAME", help="Merge all labels into one foreground of this name."),
    click.option("--folds", help="all, or numbers such as 0,2 (default: 0; with preset paper: all)."),
    click.option(
        "--preset", help="paper, quick or smoke (default: quick on phantoms and on a CPU, else paper)."
    ),
    click.option(
        "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a setting; may be repeated."
    ),
    click.option(
        "--config", type=click.Path(path_type=Path), help="YAML file of settings; --set wins over it."
    ),
    plugin_option,
    click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
    click.option("--precision", default="32", show_default=True, help="32, bf16 or 16."),
    click.option("--runs-dir", default="runs", show_default=True, type=click.Path(path_type=Path)),
    click.option(
        "--limit", type=int, metavar="N", help="Use the first N cases only; such a run is never ranked."
    ),
    click.option(
        "--cache-gb",
        default=50.0,
        show_default=True,
        help="Bound on stored features of frozen parts; past it they are computed anew in every batch.",
    ),
)


def cell_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what a cell is, for `run` and `matrix` alike."""
    for option in reversed(_CELL_OPTIONS):
        command = option(command)
    return command


def words_of_file(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    """Take the words of FILE.yaml as defaults; settings are kept apart, since those are merged."""
    if value is None:
        return
    from usbench.matrices.words import read_file

    options = {option.opts[0].removeprefix("--"): option.name for option in context.command.params}
    for name in ("file", "dry-run", "debug"):
        options.pop(name, None)
    found = read_file(value, options)
    context.meta["usbench.settings"] = found.pop("set", {})
    context.default_map = {str(options[name]): given for name, given in found.items()}
