"""Programs that usbench starts: what they say is kept, and they end with the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from usbench import UsbenchError
from usbench.tools import run_program


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def _alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _gone(process: int) -> bool:
    for _ in range(100):
        if not _alive(process):
            return True
        time.sleep(0.1)
    return False


def test_lines_go_to_the_log_and_to_who_listens(tmp_path: Path) -> None:
    heard: list[str] = []
    code = "import sys; print('one'); print('two', file=sys.stderr); print('10%\\r90%'); print('\\xe9')"
    took = run_program(_python(code), tmp_path / "log.txt", heard.append)
    assert heard == ["one", "two", "90%", "\xe9"]
    assert (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()[-4:] == heard
    assert 0 < took.seconds < 60


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells it")
def test_peak_memory_counts_what_the_program_took(tmp_path: Path) -> None:
    code = "import time; block = bytearray(200 << 20); time.sleep(2)"
    took = run_program(_python(code), tmp_path / "log.txt")
    assert took.peak_memory_mb is not None
    assert 200 < took.peak_memory_mb < 300
    assert took.seconds > 2


def test_it_is_not_told_where_the_data_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USBENCH_DATA", "/somewhere")
    heard: list[str] = []
    code = "import os; print(os.getcwd()); print([k for k in os.environ if 'USBENCH' in k or 'PWD' in k])"
    run_program(_python(code), tmp_path / "log.txt", heard.append, environment={"OWN": "1"})
    assert heard == [str(tmp_path), "[]"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["no-such-program"], "no-such-program: cannot be started"),
        (_python("print('a'); print('b'); raise SystemExit(4)"), "ended with exit code 4: a | b; its whole"),
        (_python("raise SystemExit(1)"), "ended with exit code 1: it said nothing"),
        (_python("import os; os.kill(os.getpid(), 9)"), "was ended by signal 9"),
    ],
)
def test_what_fails_is_one_line(tmp_path: Path, command: list[str], words: str) -> None:
    with pytest.raises(UsbenchError) as error:
        run_program(command, tmp_path / "log.txt")
    assert words in str(error.value)


def test_one_that_says_nothing_is_ended(tmp_path: Path) -> None:
    with pytest.raises(UsbenchError, match=r"has said nothing for 0\.02 minutes"):
        run_program(_python("import time; time.sleep(60)"), tmp_path / "log.txt", silent_minutes=0.02)


def test_an_error_of_the_listener_ends_it_and_its_children(tmp_path: Path) -> None:
    child = "import time; time.sleep(60)"
    code = f"import subprocess, sys, os, time; p = subprocess.Popen([sys.executable, '-c', '{child}']); "
    code += "print(os.getpid(), p.pid, flush=True); time.sleep(60)"
    seen: list[int] = []

    def hear(line: str) -> None:
        seen.extend(map(int, line.split()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_program(_python(code), tmp_path / "log.txt", hear)
    assert len(seen) == 2
    assert all(_gone(process) for process in seen)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells it")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_and_its_children_die_with_the_process_that_started_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Also a grandchild in a session of its own that does not obey SIGTERM."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    inner = (
        "import os, subprocess, sys, time; "
        f"one = subprocess.Popen([sys.executable, '-c', {deaf!r}]); "
        f"two = subprocess.Popen([sys.executable, '-c', {deaf!r}], start_new_session=True); "
        "time.sleep(0.5); text = ' '.join(map(str, (os.getpid(), one.pid, two.pid))); "
        f"open({str(tmp_path / 'half')!r}, 'w').write(text); "
        f"os.rename({str(tmp_path / 'half')!r}, {str(tmp_path / 'pids')!r}); time.sleep(60)"
    )
    outer = (
        "import sys; from pathlib import Path; from usbench.tools import run_program; "
        f"run_program([sys.executable, '-c', {inner!r}], Path({str(tmp_path / 'log.txt')!r}))"
    )
    parent = subprocess.Popen(_python(outer), stderr=subprocess.DEVNULL)
    for _ in range(600):
        if (tmp_path / "pids").exists():
            break
        time.sleep(0.1)
    processes = [int(word) for word in (tmp_path / "pids").read_text().split()]
    watchers = [p for p in _children(parent.pid) if p not in processes]
    assert len(processes) == 3
    assert len(watchers) == 1
    assert all(map(_alive, processes))
    os.kill(parent.pid, number)
    parent.wait(60)
    assert all(map(_gone, [*processes, *watchers]))


def _children(parent: int) -> list[int]:
    listed = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(word) for file in listed for word in file.read_text().split()]
