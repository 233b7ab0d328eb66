"""Long work leaves a line a minute where no bar can move, and in the log."""

from __future__ import annotations

from typing import Any

import pytest

from usbench.runs.watchers.terminal import Epochs
from usbench.runtime import progress as module
from usbench.runtime.console import listening, progress, told, track


class Clock:
    """A clock that stands until it is set forward."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_line_a_minute_is_printed_and_heard(clock: Clock, capsys: Any) -> None:
    heard: list[str] = []
    with listening(heard.append):
        for _ in track(range(10), "preparing", 10):
            clock.now += 25  # four steps take 100 s
    assert [line.split(",")[0] for line in heard] == [
        "preparing: 3 of 10",
        "preparing: 6 of 10",
        "preparing: 9 of 10",
    ]
    assert "preparing: 6 of 10, about" in capsys.readouterr().err


def test_short_work_says_nothing(clock: Clock) -> None:
    heard: list[str] = []
    with listening(heard.append):
        assert list(track(range(100), "preparing", 100)) == list(range(100))
    assert heard == []


def test_each_line_of_a_bar_has_its_own_minute(clock: Clock) -> None:
    heard: list[str] = []
    with listening(heard.append), progress() as bar:
        slow, quick = bar.add_task("slow", total=None), bar.add_task("quick", total=3)
        clock.now += 61
        bar.advance(slow)
        bar.advance(quick)
        bar.advance(quick)
        bar.advance(slow)
    assert [line.split(",")[0] for line in heard] == ["slow: 1", "quick: 1 of 3"]


def test_the_batches_of_a_long_epoch_are_told(clock: Clock) -> None:
    heard: list[str] = []
    with listening(heard.append):
        for _ in told(range(900), "epoch 3, batches", 900):
            clock.now += 2.0  # 1,800 s in all
    assert len(heard) == 29
    assert heard[0] == "epoch 3, batches: 30 of 900, about 29 min left"


def test_long_epochs_have_a_line_each(capsys: Any) -> None:
    """300 epochs of 20 minutes: every 15th had one, five hours apart."""
    long, short = Epochs(300), Epochs(300)
    rows = [{"epoch": epoch, "loss": 1.0} for epoch in range(1, 31)]
    assert sum(long.line({**row, "seconds": 1200.0}) is not None for row in rows) == 30
    said = [row["epoch"] for row in rows if short.line({**row, "seconds": 2.0}) is not None]
    assert said == [1, 15, 30]
