"""From a data folder to the reader of a task's data.

Every other file of this folder that holds a `LAYOUT` is a layout that usbench reads; a task names it.
"""

from __future__ import annotations

import pkgutil
import shlex
from functools import cache
from importlib import import_module
from pathlib import Path

from usbench.contracts.data import Layout, Reader, Task
from usbench.contracts.problem import plugin_raised
from usbench.datasets.readers.own import OwnReader
from usbench.errors import UsbenchError, unknown
from usbench.plugins.code_hash import of_usbench


@cache
def known_layouts() -> dict[str, Layout]:
    """The layouts that usbench reads, by name."""
    files = pkgutil.iter_modules([str(Path(__file__).parent)])
    modules = [import_module(f"{__package__}.{file.name}") for file in files]
    layouts: list[Layout] = [module.LAYOUT for module in modules if hasattr(module, "LAYOUT")]
    return {layout.name: layout for layout in layouts}


def layout_of(task: Task) -> Layout:
    """The layout that the data of a task lies in.

    Raises:
        UsbenchError: where `task.reader` names no layout or is nothing that makes a reader.
    """
    reader = task.reader
    if isinstance(reader, str):
        if reader not in known_layouts():
            raise unknown(
                "layout", reader, known_layouts(), "name one of usbench, or give a reader of your own"
            )
        return known_layouts()[reader]
    if isinstance(reader, Layout):
        return reader
    if not callable(reader):
        raise UsbenchError("its reader is no class or function; give a callable (task, folder) -> Reader")
    return Layout(name="own", description="what its own reader reads", open=reader)


def locate(task: Task, data_dir: Path) -> Path | None:
    """The folder that holds the cases of `task`, in `data_dir` or below it; None if there is none.

    Raises:
        UsbenchError: where a folder cannot be read, and for a layout of a plugin that fails.
    """
    layout = layout_of(task)
    return next(
        (folder for folder in _candidates(task, Path(data_dir)) if _holds(task, layout, folder)), None
    )


def open_reader(task: Task, root: Path) -> Reader:
    """The reader of the data of `task` in the data folder `root`.

    A reader of a plugin is held to its word at every step, see `usbench.datasets.readers.own`.

    Raises:
        UsbenchError: if nothing is there, with the places looked at and the layout expected.
    """
    root = Path(root)
    if not root.is_dir():
        raise UsbenchError(
            f"{root}: there is no such folder; give the folder that holds the data (--data-dir)"
        )
    folder, layout = locate(task, root), layout_of(task)
    if folder is None:
        places = ", ".join(str(place) for place in _candidates(task, root))
        fetch = f", or fetch it with: {download_command(task, root)}" if task.download else ""
        raise UsbenchError(
            f"{root}: no data of task {task.name} (looked in {places}); its folder {task.folder} "
            f"must hold {layout.description}{fetch}"
        )
    reader = layout.open(task, folder) if of_usbench(layout.open) else OwnReader(task, folder, layout.open)
    assert isinstance(reader, Reader)
    return reader


def download_command(task: Task, target: Path) -> str:
    """The command that downloads the data of `task` into the data folder `target`."""
    origin = task.found.origin if task.found else ""
    plugin = f" --plugin {shlex.quote(origin.removeprefix('file '))}" if origin.startswith("file ") else ""
    return f"usbench data download {task.name}{plugin} --data-dir {shlex.quote(str(target))}"


def _candidates(task: Task, data_dir: Path) -> list[Path]:
    if task.folder == ".":
        return [data_dir]
    layout, own_name = layout_of(task), Path(task.folder).name
    parents = [data_dir, *(data_dir / name for name in (task.name, *layout.parents))]
    places = [place for parent in parents for place in (parent / task.folder, parent / own_name)]
    name = data_dir.resolve().name
    if name == own_name or layout.any_name(name):
        places.append(data_dir)
    return list(dict.fromkeys(places))


def _holds(task: Task, layout: Layout, folder: Path) -> bool:
    try:
        return layout.holds(folder)
    except OSError as error:
        raise UsbenchError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error
    except Exception as error:
        raise plugin_raised(task.name, "its layout", f"holds('{folder}')", error) from error
