"""Flips single bits in every kind of file that usbench reads back, and looks whether anybody notices.

    python tests/campaigns/flips.py --state /tmp/flips [--flips 200] [--only checkpoint,store]

Each try takes a sound folder, flips one bit drawn with a seed, and uses the folder as usbench does. It is
"named" where a line says what is wrong, be it an error or a part that is made anew, and "harmless" where
nothing is said and the outcome is the same to the last bit. All else is a fault: SILENT, or a crash. What was
tried is kept in --state, and the next start goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from kit.kept_runs import kept_run
from kit.synthetic import write_msd
from kit.tampering import CARD, EXAMPLE, lay_out, taken_apart
from torch import nn

import usbench.weights.store as weights
from usbench.contracts.settings import DataSettings
from usbench.datasets.kept_phantom import unchanged
from usbench.datasets.phantom import phantom_root
from usbench.datasets.store import prepare
from usbench.datasets.tasks import get_task
from usbench.errors import UsbenchError
from usbench.leaderboards.board import build
from usbench.leaderboards.kept import check, write_kept
from usbench.results.io import load_result
from usbench.runs.checkpoint import Checkpoints, Trained
from usbench.runs.history import History
from usbench.runs.network import load_network
from usbench.runs.pipelines.call import _kept
from usbench.runs.pipelines.places import Call
from usbench.runs.predict import write_mask
from usbench.runtime.console import listening, muted
from usbench.runtime.devices import make_fabric
from usbench.storage.arrays import load_arrays, save_arrays
from usbench.storage.files import sha256_file
from usbench.storage.sealed import write_sealed
from usbench.submissions.card import dump_card
from usbench.submissions.pack import submit
from usbench.submissions.verify import read_record, verify
from usbench.weights.table import Manual, Weight

TASK = get_task("msd-prostate")
_FABRIC: list[Any] = []
WORDS = ("not what was written", "digest", "changed since", "no valid", "not valid")
"""How a line says that something is not what it was."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        make: Writes a sound folder.
        use: Reads it back as usbench does, and gives what comes of it.
        files: Patterns of the files that are flipped.
        share: Of 200 flips.
    """

    make: Callable[[Path], Any]
    use: Callable[[Path], Any]
    files: tuple[str, ...]
    share: int


def digest(*arrays: Any) -> str:
    """SHA-256 of the values of arrays."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(repr((array.dtype, array.shape)).encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def network(seed: int) -> Trained:
    """A small network that has made a step."""
    if not _FABRIC:
        _FABRIC.append(make_fabric("cpu", 1, "32"))
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 1, 3))
    optimizer = torch.optim.Adam(made.parameters())
    made(torch.ones(2, 2, 9, 9)).sum().backward()
    optimizer.step()
    return Trained(made, optimizer, _FABRIC[0])


def make_checkpoint(folder: Path) -> None:
    """After one epoch."""
    Checkpoints(folder / "checkpoint.pt", "k", network(1)).after_epoch(
        History([{"epoch": 1, "loss": 0.5}], 0.5)
    )


def use_checkpoint(folder: Path) -> Any:
    """Training goes on from it."""
    into = network(2)
    history = Checkpoints(folder / "checkpoint.pt", "k", into).restore()
    return history.rows, digest(*(value.numpy() for value in into.network.state_dict().values()))


def make_features(folder: Path) -> None:
    """Rows in eight bits with their scale and a note."""
    draws = np.random.default_rng(0)
    arrays = {
        "rows": draws.integers(-9, 9, (6, 2, 4, 4), dtype=np.int8),
        "scale": draws.random((6, 2, 1, 1)).astype(np.float32),
    }
    save_arrays(folder / "case", arrays, {"feature": "f", "key": 1, "note": {"text": "bright " * 20}})


def use_features(folder: Path) -> Any:
    """Read, or None where they are made again."""
    found = load_arrays(folder / "case", ("rows", "scale"))
    return "again" if found is None else (digest(*found[0].values()), found[1].get("note"))


def make_run(folder: Path) -> None:
    """A run of one epoch."""
    write_msd(folder / "data" / TASK.folder, ("case_1", "case_2", "case_10"))
    kept_run(folder / "data", folder / "runs", folds=[0])


def use_network(folder: Path) -> Any:
    """The network, as predictions and tracks load it."""
    found = load_network(next((folder / "runs").rglob("result.json")).parent, device="cpu")
    return digest(*(value.numpy() for value in found.network.state_dict().values()))


def make_store(folder: Path) -> None:
    """Prepared patients."""
    write_msd(folder / "data" / TASK.folder, ("case_1", "case_2"))
    use_store(folder)


def use_store(folder: Path) -> Any:
    """Prepared again where that is needed, and read whole."""
    store = prepare(TASK, folder / "data", DataSettings(size=32), workers=1, cache=folder / "cache")
    cases = [store.case(case_id) for case_id in store.case_ids]
    return store.fingerprint, [
        (digest(case.images[:], case.mask[:], case.truth(), case.affine, case.foreground), case.spacing)
        for case in cases
    ]


def use_open_store(folder: Path) -> Any:
    """As a training reads it that has opened it before: what is flipped changes under its hands."""
    from usbench.storage.slices import SliceArray

    return [digest(SliceArray(file)[:]) for file in sorted(folder.rglob("*.slices"))]


def make_weights(folder: Path) -> None:
    """A file of which the table knows the digest, and one of which it does not."""
    for name in ("known", "unknown"):
        (folder / f"{name}.pth").write_bytes(random.Random(name).randbytes(3000))
    use_weights(folder)


def use_weights(folder: Path) -> Any:
    """Their paths and digests, as a cell's key takes them."""
    os.environ["USBENCH_WEIGHTS"] = str(folder)
    known = hashlib.sha256(random.Random("known").randbytes(3000)).hexdigest()
    facts = {"bytes": 3000, "licence": "none", "what": "w", "set": "paper", "source": Manual("a", "b")}
    weights.WEIGHTS = (
        Weight(name="known", file="known.pth", sha256=known, **facts),
        Weight(name="unknown", file="unknown.pth", sha256=None, **facts),
    )
    return [weights.weight_digest(name) for name in ("known", "unknown")]


def use_phantom(folder: Path) -> Any:
    """Made where it is not there or damaged."""
    os.environ["USBENCH_CACHE"] = str(folder)
    root = phantom_root(TASK)
    assert unchanged(root)
    return [(file.name, sha256_file(file)) for file in sorted(root.rglob("*")) if file.is_file()]


def make_results(folder: Path) -> None:
    """Finished runs of all folds."""
    lay_out(taken_apart(), folder)
    (folder / "card.yaml").write_bytes(dump_card(CARD))


def use_results(folder: Path) -> Any:
    """Read, and packed as a submission, which holds masks and tables against their digests."""
    scores = [load_result(file).data for file in sorted(folder.rglob("result.json"))]
    with tempfile.TemporaryDirectory() as out:
        packed = submit([folder / "runs"], folder / "card.yaml", Path(out) / "a.zip")
        return scores, sha256_file(packed)


def make_submission(folder: Path) -> None:
    """The one in the repository, with its record."""
    for file in EXAMPLE.parent.glob("unext-small*"):
        shutil.copy(file, folder)


def use_submission(folder: Path) -> Any:
    """Verified: every score by its mask; and the record beside it read."""
    os.environ["USBENCH_CACHE"] = str(folder.parent.parent / "cache")
    archive = folder / EXAMPLE.name
    found = verify(archive)
    problems = [str(one) for one in getattr(found, "problems", ())]
    if problems:
        raise UsbenchError(problems[0])
    record = read_record(archive)
    if record is not None and record["sha256"] != sha256_file(archive):
        raise UsbenchError(f"{archive}: its record is of another archive")
    return json.dumps(record, sort_keys=True), sha256_file(archive)


def make_board(folder: Path) -> None:
    """Tables with the results that they were made of."""
    runs = lay_out(taken_apart(), folder / "work")
    write_kept(build(runs), runs, folder / "board", pictures=False)
    shutil.rmtree(folder / "work")


def use_board(folder: Path) -> Any:
    """Held against each other."""
    check(folder / "board")
    return [sha256_file(file) for file in sorted(folder.rglob("*.json"))]


def make_predictions(folder: Path) -> None:
    """Masks of two patients by a run."""
    make_run(folder)
    use_predictions(folder)


def use_predictions(folder: Path) -> Any:
    """Predicted where they are not there yet."""
    import usbench

    run = next((folder / "runs").rglob("result.json")).parent
    usbench.predict(run, input=folder / "data" / TASK.folder / "imagesTr", out=folder / "masks", device="cpu")
    return [(file.name, sha256_file(file)) for file in sorted((folder / "masks").glob("*.nii.gz"))]


def make_pipeline(folder: Path) -> None:
    """What a finished call of another program leaves."""
    call = Call(TASK, folder)
    call.checked.mkdir()
    draws = np.random.default_rng(0)
    for name in ("a", "b"):
        write_mask(draws.integers(0, 3, (12, 12, 6)), np.eye(4), call.checked / f"{name}.nii.gz")
    facts = dict.fromkeys(
        ("parameters", "trainable", "train_seconds", "predict_seconds", "gflops_per_slice"), 3
    )
    facts |= {"epochs": 2, "peak_memory_mb": 1.5, "remarks": ["r"], "versions": {"p": "1"}}
    masks = {file.name: sha256_file(file) for file in sorted(call.checked.iterdir())}
    write_sealed(call.outcome, {"outcome": facts, "masks": masks})


def use_pipeline(folder: Path) -> Any:
    """Taken up, or None where the program is called again."""
    call = Call(TASK, folder)
    found = _kept(call)
    return repr(found), [sha256_file(file) for file in sorted(call.checked.iterdir())] if found else []


KINDS = {
    "checkpoint": Kind(make_checkpoint, use_checkpoint, ("*.pt",), 30),
    "features and notes": Kind(make_features, use_features, ("case/*",), 25),
    "network": Kind(make_run, use_network, ("runs/**/network.safetensors",), 15),
    "store and notes": Kind(make_store, use_store, ("cache/**/*.slices", "cache/**/*.json"), 25),
    "open store": Kind(make_store, use_open_store, ("cache/**/*.slices",), 10),
    "weights": Kind(make_weights, use_weights, ("*.pth", ".*.json"), 20),
    "phantoms": Kind(use_phantom, use_phantom, ("phantoms/**/*", "phantoms/.*.json"), 10),
    "results, cases, masks": Kind(
        make_results, use_results, ("**/result.json", "**/cases.csv", "**/history.csv", "**/*.nii.gz"), 25
    ),
    "submissions, records": Kind(make_submission, use_submission, ("*.zip", "*.json"), 12),
    "kept boards": Kind(make_board, use_board, ("board/**/*.json", "board/**/*.csv", "board/*.md"), 12),
    "predictions": Kind(make_predictions, use_predictions, ("masks/*.nii.gz", "masks/*.json"), 6),
    "outside program": Kind(make_pipeline, use_pipeline, ("*.json", "checked/*"), 10),
}


def attempt(kind: Kind, folder: Path) -> tuple[str, str, Any]:
    """(how it ended, what was said, what came of it)."""
    said: list[str] = []
    try:
        with listening(said.append), muted():
            outcome = kind.use(folder)
    except UsbenchError as error:
        return "named", str(error), None
    except BaseException as error:
        return f"CRASH {type(error).__name__}", str(error), None
    named = [line for line in said if any(word in line for word in WORDS)]
    return ("named" if named else ""), " | ".join(named), outcome


def flip(file: Path, bit: int) -> None:
    """Flip one bit of a file in its place."""
    with open(file, "r+b") as stream:
        stream.seek(bit // 8)
        byte = stream.read(1)[0]
        stream.seek(bit // 8)
        stream.write(bytes([byte ^ 1 << bit % 8]))


def tried(name: str, number: int, state: Path) -> SimpleNamespace:
    """One flip of a kind."""
    kind, sound, work = KINDS[name], state / "sound" / name, state / "work" / name
    if not sound.exists():
        half = sound.with_name(f"{name}.half")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        kind.make(half)
        half.rename(sound)
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(sound, work)
    how, said, wanted = attempt(kind, work)
    assert not how, (name, how, said)
    draws = random.Random(f"{name} {number}")
    files = sorted({f for p in kind.files for f in work.glob(p) if f.is_file() and f.stat().st_size})
    file = draws.choice(files)
    bit = draws.randrange(8 * file.stat().st_size)
    flip(file, bit)
    how, said, outcome = attempt(kind, work)
    if not how:
        how = "harmless" if outcome == wanted else "SILENT"
    shutil.rmtree(work, ignore_errors=True)
    where = file.relative_to(work).as_posix()
    return SimpleNamespace(kind=name, number=number, file=where, bit=bit, how=how, said=said[:300])


def main() -> None:
    """Tries what was not tried yet, and prints a table by kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--only", default="", help="words of the names of kinds, with commas")
    words = parser.parse_args()
    words.state.mkdir(parents=True, exist_ok=True)
    log = words.state / "tried.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = {(one["kind"], one["number"]) for one in done}
    asked = [name.strip() for name in words.only.split(",") if name.strip()]
    only = [kind for kind in KINDS if not asked or any(name in kind for name in asked)]
    if not only:
        parser.error(f"--only {words.only}: no such kind; there are {'; '.join(KINDS)}")
    for name in only:
        for number in range(round(KINDS[name].share * words.flips / 200)):
            if (name, number) in known:
                continue
            one = vars(tried(name, number, words.state))
            done.append(one)
            with open(log, "a") as stream:
                stream.write(json.dumps(one) + "\n")
            if one["how"] not in ("named", "harmless"):
                print(one, flush=True)
    counts = Counter((one["kind"], one["how"].split()[0]) for one in done)
    print(f"{'kind':24} {'flips':>6} {'named':>6} {'harmless':>9} {'faults':>7}")
    for name in [*KINDS, ""]:
        mine = {
            how: sum(n for (kind, h), n in counts.items() if h == how and name in ("", kind))
            for _, how in counts
        }
        total, fine = sum(mine.values()), (mine.get("named", 0), mine.get("harmless", 0))
        print(f"{name or 'all':24} {total:6} {fine[0]:6} {fine[1]:9} {total - sum(fine):7}")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
