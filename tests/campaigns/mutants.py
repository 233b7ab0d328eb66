"""Mutation testing: mutants of the code that decides results, each run against the tests that reach its line.

    python tests/campaigns/mutants.py --state FOLDER                     # draw, run or go on, print the table
    python tests/campaigns/mutants.py --state FOLDER --again FILES ...   # survivors, against new test files

cosmic-ray makes the mutants. A place (an operator, a number, a comparison ...) is drawn, and then one of its
mutants, so that an operator with eleven replacements counts once. What is never evaluated (types) and
what does not compile is no mutant. `coverage` says which tests reach a line; they run cheapest first until
one fails. Everything is kept in the state folder, so that a campaign that is stopped goes on.

Needs, besides the packages of the tests: cosmic-ray, coverage, pytest-cov.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import functools
import gc
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import xml.etree.ElementTree as Tree
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from preloaded import preload

ROOT = Path(__file__).resolve().parents[2]
AREAS = {
    "scores": ("usbench/scores", ["tests/scores", "tests/tracks"]),
    "fusions": ("usbench/fusions", ["tests/fusions"]),
    "splits": (
        "usbench/datasets/splits.py",
        ["tests/datasets/test_splits.py", "tests/datasets/test_tasks.py", "tests/datasets/test_task_file.py"],
    ),
    "stats": ("usbench/leaderboards/stats", ["tests/leaderboards"]),
    "results": (
        "usbench/results",
        [
            "tests/results",
            "tests/runs/test_kept.py",
            "tests/runs/test_of_result.py",
            "tests/runs/test_prune.py",
            "tests/tracks",
        ],
    ),
    "submissions": ("usbench/submissions", ["tests/submissions"]),
}
"""By area: what is mutated, and the tests that are asked."""

LEAST = 25
"""Mutants of an area at least."""

EVERYDAY = [
    "-o",
    "addopts=-q --strict-markers -m 'not slow and not network'",
    "-p",
    "no:xdist",
    "-p",
    "no:cacheprovider",
]
LIMITS_S = {"first": 20.0, "second": 150.0}
"""Seconds of the test files of one mutant at most: of all mutants, then of those that survive.

Files whose tests cost least come first, those of the own area before others. A file is charged with all its
tests, since any of them needs its fixtures.
"""


def main() -> None:
    words = argparse.ArgumentParser(description="Mutation testing of what decides results.")
    words.add_argument(
        "--state", type=Path, required=True, help="folder of the campaign, outside the checkout"
    )
    words.add_argument("--count", type=int, default=300)
    words.add_argument("--seed", type=int, default=19)
    words.add_argument("--area", choices=AREAS, help="with --again: survivors of this area alone")
    words.add_argument("--again", nargs="+", metavar="FILE", help="run survivors against these test files")
    words.add_argument("--table", action="store_true", help="only print what is known")
    asked = words.parse_args()
    state = asked.state.resolve()
    state.mkdir(parents=True, exist_ok=True)
    if not asked.table:
        _settle(state)
        drawn = _drawn(state, asked.count, asked.seed)
        if asked.again:
            _again(state, [one for one in drawn if asked.area in (None, one["area"])], asked.again)
        else:
            _run_all(state, drawn)
    _print(state, _drawn(state, asked.count, asked.seed))


def _settle(state: Path) -> None:
    """The copy that is mutated, and an environment in which tests cost little and leave nothing."""
    os.environ |= {
        "PYTHONPATH": str(state / "copy"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
    }
    sys.dont_write_bytecode = True
    if (state / "copy").exists():
        return
    half = Path(tempfile.mkdtemp(dir=state))
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "x", "-C", str(half)], input=archive, check=True)
    half.rename(state / "copy")


# Which tests reach a line, and what they cost.


def _reaching(state: Path) -> tuple[dict[str, dict[int, set[str]]], dict[str, float]]:
    """By file and line the tests that run it, and by test its seconds; those that fail are left out."""
    lines: dict[str, dict[int, set[str]]] = {}
    seconds: dict[str, float] = {}
    for area in AREAS:
        _cover(state, area)
        cost = _seconds(state / f"{area}.xml")
        found = _coverage(state / f"{area}.coverage")
        for file in found.measured_files():
            by_line = lines.setdefault(str(Path(file).relative_to(state / "copy")), {})
            for line, contexts in found.contexts_by_lineno(file).items():
                tests = {context.rpartition("|")[0] for context in contexts if "|" in context}
                passing = {test for test in tests if _of_id(test) in cost}
                by_line.setdefault(line, set()).update(passing)
                seconds |= {test: cost[_of_id(test)] for test in passing}
    return lines, seconds


def _cover(state: Path, area: str) -> None:
    """Run the tests of an area unmutated, once, with coverage."""
    if (state / f"{area}.xml").exists():
        return
    half = state / f"{area}.half.xml"
    cover = ["--cov=usbench", "--cov-context=test", "--cov-report=", f"--junitxml={half}"]
    with tempfile.TemporaryDirectory(dir=state) as base:
        subprocess.run(
            [sys.executable, "-m", "pytest", *EVERYDAY, f"--basetemp={base}/t", *cover, *AREAS[area][1]],
            cwd=state / "copy",
            env={**os.environ, "COVERAGE_FILE": str(state / f"{area}.coverage")},
            check=False,
        )
    half.rename(state / f"{area}.xml")


def _seconds(xml: Path) -> dict[str, float]:
    """What each passed test took."""
    return {
        _key(case.get("classname", ""), case.get("name", "")): float(case.get("time", "0"))
        for case in Tree.parse(xml).iter("testcase")
        if not any(True for kind in ("failure", "error", "skipped") for _ in case.iter(kind))
    }


def _coverage(file: Path) -> Any:
    from coverage import CoverageData

    found = CoverageData(str(file))
    found.read()
    return found


def _key(classname: str, name: str) -> str:
    return f"{classname}::{name}"


def _of_id(test: str) -> str:
    """The key, in pytest's XML file, of the test of an id `tests/a/test_b.py::Class::test[x]`."""
    path, _, rest = test.partition("::")
    *classes, name = (
        rest.split("::") if "[" not in rest else [*rest.split("[")[0].split("::")[:-1], _last(rest)]
    )
    return _key(".".join([path.removesuffix(".py").replace("/", "."), *classes]), name)


def _last(rest: str) -> str:
    head, bracket, parameters = rest.partition("[")
    return head.split("::")[-1] + bracket + parameters


# The mutants.


def _drawn(state: Path, count: int, seed: int) -> list[dict[str, Any]]:
    file = state / "drawn.json"
    if file.exists():
        found: list[dict[str, Any]] = json.loads(file.read_text())
        return found
    places = {area: _places(state / "copy", where) for area, (where, _) in AREAS.items()}
    whole = sum(map(len, places.values()))
    free = count - LEAST * len(AREAS)
    numbers = {area: LEAST + round(free * len(found) / whole) for area, found in places.items()}
    largest = max(numbers, key=lambda area: numbers[area])
    numbers[largest] += count - sum(numbers.values())
    lines, seconds = _reaching(state)
    drawn: list[dict[str, Any]] = []
    for area, found in places.items():
        draw = random.Random(f"{seed} {area}")
        order = sorted(found)
        draw.shuffle(order)
        mutants = [draw.sample(found[place], len(found[place])) for place in order]
        # One of each place, and where places are few a second one of each.
        flat = (of_place[turn] for turn in range(20) for of_place in mutants if turn < len(of_place))
        valid = (one for one in flat if _is_valid(state / "copy", one))
        for one in itertools.islice(valid, numbers[area]):
            tests = sorted(_tests(one, lines), key=lambda test: (seconds[test], test))
            drawn.append(
                {"number": len(drawn), "area": area, **one, "tests": [[t, seconds[t]] for t in tests]}
            )
    file.write_text(json.dumps(drawn, indent=1))
    return drawn


def _places(copy: Path, where: str) -> dict[str, list[dict[str, Any]]]:
    """By place (file, position, family of operators) its mutants."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    found: dict[str, list[dict[str, Any]]] = {}
    files = [copy / where] if where.endswith(".py") else sorted((copy / where).glob("*.py"))
    for file in files:
        code = file.read_text()
        unseen = _annotations(code)
        nodes = list(ast_nodes(get_ast(code)))
        for name in operator_names():
            if get_operator(name).arguments():
                continue
            operator = get_operator(name)()
            spots = (start for node in nodes for start, _ in operator.mutation_positions(node))
            for occurrence, (line, column) in enumerate(spots):
                if (line, column) in unseen or "TYPE_CHECKING" in code.splitlines()[line - 1]:
                    continue
                family = name.split("/")[1].split("_")[0]
                relative = file.relative_to(copy).as_posix()
                place = f"{relative}:{line:04}:{column:03} {family}"
                one = {"file": relative, "line": line, "operator": name, "occurrence": occurrence}
                found.setdefault(place, []).append(one)
    return found


def _is_valid(copy: Path, one: dict[str, Any]) -> bool:
    """Whether a mutant is other code, and compiles."""
    try:
        code, mutated = _mutated(copy, one)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(mutated, one["file"], "exec")
    except Exception:
        return False
    return code != mutated


def _annotations(code: str) -> set[tuple[int, int]]:
    """Positions (line, column) within annotations, never evaluated."""
    found: set[tuple[int, int]] = set()
    lines = code.splitlines()
    for node in ast.walk(ast.parse(code)):
        for notes in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(notes, ast.expr) and notes.end_lineno and notes.end_col_offset:
                for line in range(notes.lineno, notes.end_lineno + 1):
                    first = notes.col_offset if line == notes.lineno else 0
                    last = notes.end_col_offset if line == notes.end_lineno else len(lines[line - 1])
                    found |= {(line, column) for column in range(first, last)}
    return found


def _tests(one: dict[str, Any], lines: dict[str, dict[int, set[str]]]) -> set[str]:
    """The tests that run the statement of a mutant; of one that is run on import, all that run its file."""
    by_line = lines.get(one["file"], {})
    code = (ROOT / one["file"]).read_text()
    everything = set().union(*by_line.values(), set())
    if not _in_function(code, one["line"]):
        return everything
    first, last = _statement(code, one["line"])
    return set().union(*(by_line.get(line, set()) for line in range(first, last + 1)))


def _in_function(code: str, line: int) -> bool:
    """Whether a line is in the body of a function, and not run by the first test that imports the file."""
    return any(
        node.body[0].lineno <= line <= (node.end_lineno or 0)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def _statement(code: str, line: int) -> tuple[int, int]:
    """First and last line of the innermost statement at a line; of a compound one its head alone."""
    best = (line, line)
    size = 10**9
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.stmt) and node.end_lineno:
            body = getattr(node, "body", None)
            last = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno
            if node.lineno <= line <= last and last - node.lineno < size:
                best, size = (node.lineno, last), last - node.lineno
    return best


def _mutated(copy: Path, one: dict[str, Any]) -> tuple[str, str]:
    """The code of the file as it is, and mutated."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    code = (copy / one["file"]).read_text()
    return code, mutate_code(code, get_operator(one["operator"])(), one["occurrence"])


# Running them.


@contextlib.contextmanager
def _in_place(copy: Path, one: dict[str, Any]) -> Iterator[str]:
    """The mutant in its file; yields what differs."""
    code, mutated = _mutated(copy, one)
    file = copy / one["file"]
    file.write_text(mutated)
    try:
        yield "\n".join(
            list(difflib.unified_diff(code.splitlines(), mutated.splitlines(), lineterm="", n=1))[2:]
        )
    finally:
        file.write_text(code)


def _run_all(state: Path, drawn: Sequence[dict[str, Any]]) -> None:
    # Areas take turns, so that a campaign that is stopped early says something of each.
    turns = sorted(
        drawn, key=lambda one: (sum(o["area"] == one["area"] for o in drawn[: one["number"]]), one["area"])
    )
    for one in turns:
        if str(one["number"]) not in _outcomes(state):
            _run_one(state, one, "first")
    for one in turns:
        if _outcomes(state)[str(one["number"])]["turn"] == "first":
            survived = _outcomes(state)[str(one["number"])]["outcome"] == "survived"
            if survived and _within(state, one, "first") != _within(state, one, "second"):
                _run_one(state, one, "second")


def _within(state: Path, one: dict[str, Any], turn: str) -> list[tuple[str, float]]:
    """Which tests a mutant is run against, and their seconds."""
    whole = _file_seconds(str(state))
    files: dict[str, list[tuple[str, float]]] = {}
    for test, cost in one["tests"]:
        files.setdefault(test.split("::")[0], []).append((test, cost))
    own = tuple(AREAS[one["area"]][1])
    order = sorted(files, key=lambda file: (not file.startswith(own), whole[file] / len(files[file])))
    tests: list[tuple[str, float]] = []
    seconds = 0.0
    for file in order:
        if not tests or seconds + whole[file] <= LIMITS_S[turn]:
            tests += files[file]
            seconds += whole[file]
    return tests


@functools.cache
def _file_seconds(state: str) -> dict[str, float]:
    """What all tests of a file take together."""
    found: dict[str, float] = {}
    for area in AREAS:
        of_area: dict[str, float] = {}
        for key, cost in _seconds(Path(state) / f"{area}.xml").items():
            names = [name for name in key.split("::")[0].split(".") if not name.startswith("Test")]
            file = "/".join(names) + ".py"
            of_area[file] = of_area.get(file, 0.0) + cost
        found |= of_area
    return found


def _run_one(state: Path, one: dict[str, Any], turn: str) -> None:
    tests = _within(state, one, turn)
    if turn == "second":
        tests = [test for test in tests if test not in _within(state, one, "first")]
    with _in_place(state / "copy", one) as differs:
        asked = _ask(state, [test for test, _ in tests], sum(cost for _, cost in tests))
        _note(state, one, turn, differs, *asked)


def _again(state: Path, drawn: Sequence[dict[str, Any]], files: Sequence[str]) -> None:
    """Survivors against test files as they are in the checkout now."""
    shutil.copytree(ROOT / "tests", state / "copy" / "tests", dirs_exist_ok=True)
    start = time.monotonic()
    outcome, last = _ask(state, files, 600)[:2]
    if outcome != "survived":
        sys.exit(f"the tests fail without a mutant: {last}")
    seconds = time.monotonic() - start
    done = _outcomes(state)
    for one in drawn:
        if done.get(str(one["number"]), {}).get("outcome") == "survived":
            with _in_place(state / "copy", one) as differs:
                _note(state, one, "again", differs, *_ask(state, files, seconds))


def _ask(state: Path, tests: Sequence[str], seconds: float) -> tuple[str, str, float]:
    """Whether tests kill what lies in the copy ("killed", "survived"), what they said, the seconds."""
    if not tests:
        return "survived", "no test reaches it", 0.0
    preload()
    gc.freeze()
    log = state / "last.log"
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_pytest(state, tests, log)
    limit = start + 4 * seconds + 30
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < limit:
        time.sleep(0.05)
    took = time.monotonic() - start
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if ended[0] == 0:
        os.waitpid(child, 0)
        return "killed", "time", took
    said = log.read_text(errors="replace").splitlines()
    last = next((line for line in reversed(said) if line.startswith(("FAILED", "ERROR", "E  "))), "")
    return ("survived" if ended[1] == 0 else "killed"), last[:300], took


def _be_pytest(state: Path, tests: Sequence[str], log: Path) -> None:
    """Become the process that runs the tests; never returns."""
    code = 99
    try:
        os.setsid()
        # Data is prepared by as many processes as there are cores: here by none besides this one.
        os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(state / "copy")
        sys.path[:] = [str(state / "copy"), *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
        import pytest
        from hypothesis import settings

        # A slow machine kills no mutant.
        settings.register_profile("mutants", deadline=None, database=None, derandomize=True)
        settings.load_profile("mutants")
        with tempfile.TemporaryDirectory(dir=state) as base:
            os.environ["TMPDIR"] = base
            tempfile.tempdir = None
            code = int(pytest.main([*EVERYDAY, "-x", f"--basetemp={base}/t", "-p", "no:cov", *tests]))
    finally:
        sys.stdout.flush()
        os._exit(code)


def _note(
    state: Path, one: dict[str, Any], turn: str, differs: str, outcome: str, last: str, took: float
) -> None:
    line = {
        "number": one["number"],
        "turn": turn,
        "outcome": outcome,
        "by": last,
        "seconds": round(took, 1),
        "diff": differs,
    }
    with open(state / "outcomes.jsonl", "a") as stream:
        stream.write(json.dumps(line) + "\n")
    print(
        one["number"],
        one["area"],
        f"{one['file']}:{one['line']}",
        outcome,
        f"{took:.0f} s",
        last[:90],
        flush=True,
    )


def _outcomes(state: Path) -> dict[str, dict[str, Any]]:
    """By number the latest outcome; one that was killed once stays so."""
    found: dict[str, dict[str, Any]] = {}
    file = state / "outcomes.jsonl"
    for text in file.read_text().splitlines() if file.exists() else []:
        line = json.loads(text)
        if found.get(str(line["number"]), {}).get("outcome") != "killed":
            found[str(line["number"])] = line
    return found


def _print(state: Path, drawn: Sequence[dict[str, Any]]) -> None:
    """The table by area, and the survivors with what differs."""
    done = _outcomes(state)
    print("\n| area | mutants | run | killed at first | killed now | survive |\n|---|---|---|---|---|---|")
    for area in [*AREAS, "all"]:
        ones = [one for one in drawn if area in (one["area"], "all")]
        ran = [done[str(one["number"])] for one in ones if str(one["number"]) in done]
        killed = [r for r in ran if r["outcome"] == "killed"]
        first = [r for r in killed if r["turn"] != "again"]
        print(
            f"| {area} | {len(ones)} | {len(ran)} | {len(first)} | {len(killed)} | {len(ran) - len(killed)} |"
        )
    for one in drawn:
        if (outcome := done.get(str(one["number"]))) and outcome["outcome"] == "survived":
            print(f"\n{one['number']} {one['file']}:{one['line']} \n{outcome['diff']}")


if __name__ == "__main__":
    main()
