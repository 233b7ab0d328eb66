"""Downloads take no more than they should, follow no link, and show nothing that a terminal would obey."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kit.serving import Server, tar

from usbench.datasets.download import download as download_data
from usbench.errors import UsbenchError
from usbench.storage import download as transfer
from usbench.storage.download import download, download_wheel, receive


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def address(server: Server, name: str = "file.bin") -> str:
    return f"http://127.0.0.1:{server.http.server_port}/{name}"


@pytest.mark.parametrize(("size", "most"), [(50_000, 1 << 30), (None, 50_000)])
@pytest.mark.parametrize("length", [True, False])
def test_no_more_is_taken_than_was_stated(
    server: Server, tmp_path: Path, size: int | None, most: int, length: bool
) -> None:
    server.content, server.length = b"x" * 200_000, length
    part = tmp_path / "file.bin.part"
    grown = []
    with pytest.raises(
        UsbenchError, match=r"file\.bin: the server (offers|sends more than) .*[25]0000.*again"
    ):
        grown = list(receive(address(server), part, size, "expected 50000; again", chunk=1000, most=most))
    assert not grown
    assert transfer.size_of(part) == 0


def test_what_fits_is_taken_where_no_size_is_stated(server: Server, tmp_path: Path) -> None:
    server.content, server.length = b"x" * 5000, False
    part = tmp_path / "file.bin.part"
    list(receive(address(server), part, 5000, "again", most=10))
    assert part.read_bytes() == server.content


def test_no_link_is_followed(server: Server, tmp_path: Path) -> None:
    server.content = b"x" * 5000
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / "file.bin.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsbenchError, match=r"file\.bin"):
        download(address(server), tmp_path / "file.bin.part", 5000, "again")
    assert (tmp_path / "elsewhere").read_bytes() == b""


def test_what_a_server_says_is_shown_without_codes(server: Server, tmp_path: Path) -> None:
    server.status, server.reason = 503, "\x1b]0;owned\x07\x1b[2J busy"
    with pytest.raises(UsbenchError, match="the server answered 503") as refused:
        download(address(server), tmp_path / "file.bin.part", 5000, "again")
    assert str(refused.value).isprintable()
    assert "busy" in str(refused.value)


def test_pip_writes_no_larger_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.py").write_text(
        "import sys, pathlib\n"
        "try:\n"
        "    (pathlib.Path(sys.argv[-1]) / 'a-1-py3-none-any.whl').write_bytes(b'x' * 100_000)\n"
        "except OSError as error:\n"
        "    sys.exit(f'ERROR: \\x1b[2J{error.strerror}')\n"
    )
    run = transfer.subprocess.run

    def pip(words: list[Any], **options: Any) -> Any:
        return run([words[0], str(tmp_path / "pip.py"), *words[4:]], **options)

    monkeypatch.setattr(transfer, "subprocess", SimpleNamespace(run=pip, DEVNULL=transfer.subprocess.DEVNULL))
    monkeypatch.setattr(transfer, "MOST_OF_WHEEL", 50_000)
    with pytest.raises(UsbenchError, match=r"cannot download a==1 .*File too large") as refused:
        download_wheel("a", "1", tmp_path, "again")
    assert str(refused.value).isprintable()


def test_two_downloads_of_one_data_set_are_one(server: Server, tmp_path: Path) -> None:
    task = server.task(tar({"Task05_Prostate/dataset.json": b"{}", "Task05_Prostate/a": b"a" * 300_000}))
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(download_data(task, tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / "Task05_Prostate"] * 2
    assert server.asked == [None]
    assert [entry.name for entry in tmp_path.iterdir()] == ["Task05_Prostate"]
