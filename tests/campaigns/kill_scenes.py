"""What `kills.py` kills: commands, what lies there before they start, what of their outcome may vary."""

from __future__ import annotations

import hashlib
import http.server
import json
import random
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KIT = Path(__file__).resolve().parents[1] / "kit"
SETTINGS = (
    *("--task", "msd-prostate", "--preset", "smoke", "--device", "cpu"),
    *("--set", "data.size=32", "--set", "train.epochs=8", "--set", "train.lr=0.01"),
)
"""A training of seconds after which the DSC is about 0.6."""

PAYLOAD = random.Random(1).randbytes(6 << 20)


@dataclass(frozen=True)
class Scene:
    """A command that is killed.

    Attributes:
        name: As in the table.
        share: Of the kills.
        words: The words after `usbench`, from the folder of the stage and that of the trial.
        brings: Names within the stage that are copied into the folder of the trial first.
        environment: Of its process, beside what all have.
        cold: Started as a process of its own, not split from one that has imported torch.
        most: Kills of one trial at most.
        workers: Whether now and then a worker of the command is killed, not the command.
    """

    name: str
    share: int
    words: Callable[[Path, Path], list[str]]
    brings: tuple[str, ...] = ("cache",)
    environment: dict[str, str] = field(default_factory=dict)
    cold: bool = False
    most: int = 6
    workers: bool = False


def _data(stage: Path) -> list[str]:
    return ["--data-dir", str(stage / "data")]


def _runs(trial: Path) -> list[str]:
    return ["--runs-dir", str(trial / "runs")]


def _run(stage: Path, trial: Path) -> list[str]:
    words = ["run", "--method", "unext-small", "--fusion", "early", *SETTINGS, "--logger", "csv"]
    return [*words, *_data(stage), *_runs(trial)]


def _prepare(stage: Path, trial: Path) -> list[str]:
    size = ["--preset", "smoke", "--set", "data.size=128", "--workers", "2"]
    return ["data", "prepare", "msd-prostate", *size, *_data(stage)]


def _features(stage: Path, trial: Path) -> list[str]:
    words = ["run", "--method", "frozen", "--fusion", "hybrid", "--plugin", str(KIT / "frozen_method.py")]
    return [*words, *SETTINGS, "--yes", *_data(stage), *_runs(trial)]


def _matrix(stage: Path, trial: Path) -> list[str]:
    rows = ["--methods", "unext-small", "--fusions", "early,late", "--tasks", "msd-prostate", "--folds", "0"]
    words = ["matrix", *rows, *SETTINGS[2:], "--workers", "2", "--cpus-per-run", "1"]
    return [*words, *_data(stage), *_runs(trial)]


def _predict(stage: Path, trial: Path) -> list[str]:
    words = ["predict", str(stage / "one"), "--input", str(stage / "data" / "Task05_Prostate")]
    return [*words, "--probabilities", "--device", "cpu", "--out", str(trial / "out")]


def _robustness(stage: Path, trial: Path) -> list[str]:
    return ["evaluate", str(trial / "one"), "--track", "robustness", "--device", "cpu", *_data(stage)]


def _external(stage: Path, trial: Path) -> list[str]:
    data = ["--data-dir", str(stage / "other")]
    return ["evaluate", str(trial / "one"), "--track", "external", "--device", "cpu", *data]


def _leaderboard(stage: Path, trial: Path) -> list[str]:
    return ["leaderboard", "--runs-dir", str(stage / "runs"), "--out", str(trial / "out"), "--keep-results"]


def _submit(stage: Path, trial: Path) -> list[str]:
    runs = str(stage / "runs" / "msd-prostate-phantom" / "unext-small-early")
    return ["submit", runs, "--card", str(stage / "card.yaml"), "--out", str(trial / "out" / "entry.zip")]


def _weights(stage: Path, trial: Path) -> list[str]:
    return ["weights", "fetch", "plain", "member"]


SCENES = (
    Scene("run", 60, _run),
    Scene("data prepare", 36, _prepare, brings=()),
    Scene("features", 36, _features, environment={"FROZEN_SLEEP": "0.02"}),
    Scene("weights fetch", 36, _weights),
    Scene("matrix", 24, _matrix, cold=True, workers=True),
    Scene("predict", 30, _predict),
    Scene("evaluate robustness", 24, _robustness, brings=("cache", "one")),
    Scene("evaluate external", 18, _external, brings=("cache", "one")),
    Scene("leaderboard", 20, _leaderboard),
    Scene("submit", 16, _submit),
)


def build_stage(stage: Path, usbench: Callable[[list[str], dict[str, str]], None]) -> None:
    """Make phantoms, prepared data, and finished runs whose network has learnt; once.

    Args:
        stage: Where they go.
        usbench: Runs a command whole, with more variables of the environment.
    """
    cache = {"USBENCH_CACHE": str(stage / "cache")}
    data = ["data", "phantom", "msd-prostate"]
    usbench([*data, str(stage / "data"), "--cases", "8", "--seed", "3"], cache)
    usbench([*data, str(stage / "other"), "--cases", "3", "--seed", "4"], cache)
    runs = ["--folds", "all", "--data-dir", str(stage / "data"), "--runs-dir", str(stage / "runs")]
    usbench(["run", "--method", "unext-small", "--fusion", "early", *SETTINGS, *runs], cache)
    tiny = ["--method", "tiny", "--plugin", str(KIT / "tiny_methods.py")]
    usbench(["run", *tiny, "--fusion", "late", *SETTINGS, *runs], cache)
    (one,) = (stage / "runs").glob("*/unext-small-early/0-0-*")
    dsc = json.loads((one / "result.json").read_text())["scores"]["dsc"]
    if not dsc > 0.3:
        sys.exit(f"{one}: DSC {dsc}, the network has learnt too little for the campaign to prove anything")
    shutil.copytree(one, stage / "one")
    sys.path.insert(0, str(KIT.parent))
    from kit.tampering import CARD

    (stage / "card.yaml").write_text(json.dumps(CARD))


# What is compared.

_CLOCK = {
    "seconds", "train_seconds", "ms_per_slice", "peak_memory_mb", "finished", "digest", "files", "mtime_ns",
    "made", "threads", "hours", "result_digest", "written", "mtime", "ctime_ns", "memory_since", "commit",
    "seal",
}  # fmt: skip
"""Keys of JSON of what a clock or a meter measured, and digests that cover it."""

_VARIES = re.compile(
    r"(^|/)(log\.txt|signs\.json)$|\.html$|leaderboard[^/]*\.(md|csv|tex|json|png)$|learning[^/]*$"
)
"""Files that show milliseconds, memory or inodes: they must be there, numbers are compared in others."""


def picture(folder: Path) -> dict[str, str]:
    """What a command left: by name a digest of each file, but for what a clock or a meter measured."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            if not any(path.iterdir()):
                found[name + "/"] = "an empty folder"
        else:
            found[name] = _content(path, name, folder)
    return found


def _content(path: Path, name: str, folder: Path) -> str:
    if _VARIES.search(name) and "results/" not in name:
        return "there" if path.stat().st_size else "empty"
    content = path.read_bytes()
    if path.suffix == ".json":
        text = content.decode().replace(str(folder), "FOLDER")
        content = json.dumps(_without_clock(json.loads(text)), sort_keys=True).encode()
    elif path.suffix == ".csv":
        content = _without_seconds(content.decode()).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def _without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_clock(inner) for key, inner in value.items() if not _of_clock(key)}
    if isinstance(value, list):
        return [_without_clock(inner) for inner in value]
    return value


def _of_clock(key: str) -> bool:
    return key in _CLOCK or key.endswith("_seconds")


def _without_seconds(text: str) -> str:
    rows = [line.split(",") for line in text.splitlines()]
    if not rows:
        return text
    kept = [i for i, head in enumerate(rows[0]) if not re.search(r"second|time|_ms|memory", head)]
    return "\n".join(",".join(row[i] for i in kept if i < len(row)) for row in rows)


# The server of the weights.


def serve(port_file: Path) -> None:
    """Serve a file and a zip slowly, with ranges, until the process is ended."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            whole = _zipped() if self.path.endswith(".zip") else PAYLOAD
            start = int((re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, 0])[1])
            if start >= len(whole):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(whole)}")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
            self.send_header("Content-Length", str(len(whole) - start))
            self.end_headers()
            for first in range(start, len(whole), 1 << 17):
                try:
                    self.wfile.write(whole[first : first + (1 << 17)])
                except OSError:
                    return
                time.sleep(0.02)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port_file.write_text(str(server.server_port))
    server.serve_forever()


def _zipped() -> bytes:
    import io
    import zipfile

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("inside/member.pth"), PAYLOAD[::-1])
    return stream.getvalue()


def put_weights(port: int) -> None:
    """Let the table of weights, in this process, be two entries of that server."""
    from usbench.weights import store
    from usbench.weights.table import Url, Weight

    def entry(name: str, content: bytes, source: Url) -> Weight:
        digest = hashlib.sha256(content).hexdigest()
        return Weight(name, f"{name}.pth", len(content), digest, "MIT", "random", "more", source)

    at = f"http://127.0.0.1:{port}"
    store.WEIGHTS = (
        entry("plain", PAYLOAD, Url(f"{at}/plain.pth")),
        entry("member", PAYLOAD[::-1], Url(f"{at}/member.zip", member="inside/member.pth")),
    )
