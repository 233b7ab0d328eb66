"""The checks in their order, and running them on a method."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from usbench.checks import keeping, learning, outputs, peeking, repeating, telling
from usbench.checks.outcome import Outcome, Verdict, failed, not_applicable
from usbench.checks.subject import Subject
from usbench.errors import UsbenchError, unknown
from usbench.fusions.build import require_fusion, require_network
from usbench.fusions.registry import declared
from usbench.runtime.devices import fresh_memory
from usbench.weights.store import without_fetching

if TYPE_CHECKING:
    from usbench.contracts.method import Method


@dataclass(frozen=True)
class Check:
    """A check by name.

    Attributes:
        name: As `usbench check --only` takes it.
        run: Says what is seen of a subject.
        remedy: What usually helps.
        needs: Checks without which it would say nothing.
    """

    name: str
    run: Callable[[Subject], Outcome]
    remedy: str
    needs: tuple[str, ...] = ("builds",)


_REPEATS = ("builds", "dtype", "same-output", "state")

CHECKS = (
    Check(
        "fusions",
        outputs.fusions,
        "declare in METHOD.fusions the protocols that the builder can build, no others",
        needs=(),
    ),
    Check(
        "builds",
        outputs.builds,
        "take modalities and classes from the builder's arguments; give one tensor, in training too",
        needs=("fusions",),
    ),
    Check("shape", outputs.shape, "give finite logits [B, K, H, W] at the size of the images"),
    Check(
        "dtype", outputs.dtype, "compute in the type of the images; convert nothing with half() or double()"
    ),
    Check(
        "logits",
        outputs.logits,
        "leave the last sigmoid, softmax or activation out: the loss and the decision have their own",
    ),
    Check(
        "bfloat16",
        outputs.bfloat16,
        "compute logarithms, divisions and exponentials in float32, under torch.autocast(enabled=False)",
    ),
    Check(
        "gradients",
        learning.gradients,
        "use the parameter in forward, remove it, or set its requires_grad to False",
    ),
    Check(
        "same-seed",
        repeating.same_seed,
        "draw starting weights from torch's generator alone, and never seed it",
    ),
    Check(
        "same-output",
        repeating.same_output,
        "draw nothing in evaluation; in training draw from torch's generator, where self.training",
    ),
    Check(
        "same-training",
        repeating.same_training,
        "draw from torch's generator alone: the trainer seeds it, and no other",
    ),
    Check(
        "state",
        repeating.state,
        "keep nothing from one forward to the next",
        ("builds", "dtype", "same-output"),
    ),
    Check("samples", repeating.samples, "compute no statistics over the batch in evaluation", _REPEATS),
    Check("frozen", learning.frozen, "change nothing in forward that requires no gradient"),
    Check(
        "train-eval",
        repeating.train_eval,
        "use self.training for dropout, drop path and batch norm only",
        (*_REPEATS, "same-training", "frozen"),
    ),
    Check(
        "batch-of-one",
        repeating.batch_of_one,
        "no batch norm after global pooling: use group or layer norm there",
    ),
    Check("modalities", learning.modalities, "let every modality reach the decoder", _REPEATS),
    Check(
        "present",
        telling.present,
        "take present=None as all; leave out what is absent, slice by slice; or drop takes_present",
        _REPEATS,
    ),
    Check(
        "mask",
        peeking.mask,
        "read the reference nowhere: the trainer's loss alone may see it",
        (*_REPEATS, "same-seed", "same-training"),
    ),
    Check(
        "saves",
        keeping.saves,
        "keep all that is learned in nn.Parameter, buffers and submodules (nn.ModuleList, not a list)",
        _REPEATS,
    ),
    Check(
        "pickles",
        keeping.pickles,
        "keep no lambda, local function or open file in the network; classes belong at the top of a module",
        _REPEATS,
    ),
    Check(
        "overfits",
        learning.overfits,
        "look at what the loss can reach: the last layer's start, saturated activations, detached tensors",
        ("builds", "dtype", "logits", "gradients"),
    ),
    Check("cost", outputs.cost, ""),
)

# What takes longer; in `usbench.testing.MethodTests` only.
MORE = (
    Check("large-sizes", outputs.large_sizes, "give finite logits [B, K, H, W] at the size of the images"),
    Check("compiles", outputs.compiles, "keep to what torch.compile takes"),
)


def get_check(name: str) -> Check:
    """The check of that name; an unknown one is a `UsbenchError`."""
    for one in (*CHECKS, *MORE):
        if one.name == name:
            return one
    raise unknown("check", name, (one.name for one in CHECKS))


def run_check(one: Check, subject: Subject) -> Outcome:
    """Run a check. What it raises is a failure; weights that are absent are n/a."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        # Filled: a network that reads memory which it never wrote to gives NaN.
        with torch.random.fork_rng(devices=()), warnings.catch_warnings(), fresh_memory(filled=True):
            warnings.simplefilter("ignore")
            torch.use_deterministic_algorithms(True, warn_only=True)
            found = one.run(subject)
    except (Exception, SystemExit) as error:
        found = outputs.absent_weights(error) or failed(f"{type(error).__name__}: {error}")
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
    reason = " ".join(found.reason.split())
    if len(reason) > 400:
        reason = reason[:397] + "..."
    return Outcome(found.state, reason, (found.remedy or one.remedy) if found.state == "fail" else "")


def check_subject(subject: Subject, names: Sequence[str] | None = None) -> Iterator[Verdict]:
    """The verdicts on a method under one fusion protocol, one after the other.

    A check that would say nothing, because one that it needs has failed, is n/a.

    Args:
        subject: The method and its fusion.
        names: Only these checks, and what they need.
    """
    failures: set[str] = set()
    for one in _chosen(names):
        start = time.perf_counter()
        missing = [name for name in one.needs if name in failures]
        if missing:
            found = not_applicable(f"says nothing while '{missing[0]}' fails")
            if missing[0] in ("fusions", "builds"):
                failures.add(one.name)
        else:
            found = run_check(one, subject)
            if found.state == "fail":
                failures.add(one.name)
        seconds = time.perf_counter() - start
        yield Verdict(
            subject.method.name, subject.fusion, one.name, found.state, found.reason, found.remedy, seconds
        )


def _chosen(names: Sequence[str] | None) -> list[Check]:
    if names is None:
        return list(CHECKS)
    wanted: set[str] = set()
    left = list(names)
    while left:
        one = get_check(left.pop())
        if one.name not in wanted:
            wanted.add(one.name)
            left += one.needs
    return [one for one in CHECKS if one.name in wanted]


def check(
    method: str | Path | Method,
    *,
    fusions: Sequence[str] | None = None,
    checks: Sequence[str] | None = None,
    preset: str = "smoke",
    settings: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] = (),
) -> list[Verdict]:
    """Does a method keep the contract?

    A progress bar is shown; nothing is fetched, so that without its weights most checks of a method are
    n/a. What a method prints goes to standard error.

    Args:
        method: A name, a plugin file (all methods in it), or a `Method`.
        fusions: Only these protocols; by default all that the method declares.
        checks: Only these, and what they need.
        preset: As for `usbench.run`; it should make the method small.
        settings: Likewise.
        plugins: Plugin files, for names.

    Returns:
        The verdicts, in order of method, fusion protocol and check.

    Raises:
        UsbenchError: Where the method cannot be imported or a name or setting is wrong.
    """
    from usbench.runtime.console import progress

    with contextlib.redirect_stdout(sys.stderr):
        methods = _methods(method, plugins)
        own = dict(settings or {})
        subjects = []
        chosen = _chosen(checks)
        with tempfile.TemporaryDirectory(prefix="usbench-check-") as folder:
            for one in methods:
                shared = len(methods) > 1
                overrides = {k: v for k, v in own.items() if not shared or _has(one, k)}
                require_network(one, "the checks are for networks: try it with usbench run --preset smoke")
                for fusion in fusions or one.fusions:
                    require_fusion(one, declared(fusion))
                    subject = Subject(one, fusion, Path(folder), preset, overrides)
                    _ = subject.config  # A wrong setting is an error, not a verdict.
                    subjects.append(subject)
            for key in own:
                if not any(key in subject.settings for subject in subjects):
                    raise unknown("setting", key, [f"method.{k}" for m in methods for k in m.settings])
            verdicts: list[Verdict] = []
            with without_fetching(), progress() as bar:
                line = bar.add_task("", total=len(subjects) * len(chosen))
                while subjects:
                    subject = subjects.pop(0)
                    running = check_subject(subject, checks)
                    for one_check in chosen:
                        words = f"{subject.method.name} {subject.fusion}: {one_check.name}"
                        bar.update(line, description=words)
                        verdicts.append(next(running))
                        bar.advance(line)
    return verdicts


def _has(method: Method, key: str) -> bool:
    section, _, name = key.partition(".")
    return section != "method" or name in method.settings


def _methods(method: str | Path | Method, plugins: Sequence[str | Path]) -> list[Method]:
    from usbench.contracts.method import Method
    from usbench.methods.registry import get_method, methods_in_file

    if isinstance(method, Method):
        return [method]
    if isinstance(method, Path) or method.endswith(".py"):
        return methods_in_file(Path(method))
    return [get_method(method, [Path(p) for p in plugins])[0]]


def render(verdicts: Sequence[Verdict], form: str = "text") -> str:
    """Verdicts as "json", or as "text": a line a check, fusion protocols that agree in one."""
    if form == "json":
        return json.dumps([asdict(verdict) for verdict in verdicts], indent=2, ensure_ascii=False)
    lines = []
    width = max((len(verdict.check) for verdict in verdicts), default=0)
    for method in dict.fromkeys(verdict.method for verdict in verdicts):
        own = [verdict for verdict in verdicts if verdict.method == method]
        fusions = list(dict.fromkeys(verdict.fusion for verdict in own))
        seconds = sum(verdict.seconds for verdict in own)
        lines.append(f"{method}: {', '.join(fusions)} fusion")
        for name in dict.fromkeys(verdict.check for verdict in own):
            lines += _lines([v for v in own if v.check == name], width)
        counts = [f"{sum(v.state == s for v in own)} {s}" for s in ("pass", "fail", "n/a")]
        lines.append(f"{', '.join(counts)} in {seconds:.0f} s\n")
    return "\n".join(lines).rstrip("\n")


def _lines(verdicts: Sequence[Verdict], width: int) -> list[str]:
    """The lines of one check: one for all protocols with the same words."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for v in verdicts:
        if v.state == "pass" and v.check != "cost":
            groups.setdefault((v.state, "", ""), []).append(v.fusion)
        else:
            groups.setdefault((v.state, v.reason, v.remedy), []).append(v.fusion)
    lines = []
    for (state, reason, remedy), fusions in groups.items():
        where = "" if len(groups) == 1 else f"{', '.join(fusions)}"
        if state == "pass" and not reason:
            seen = list(dict.fromkeys(v.reason for v in verdicts if v.state == "pass"))
            reason = seen[0] if len(seen) == 1 else ""
        text = ": ".join(part for part in (where, reason) if part)
        word = "FAIL" if state == "fail" else state
        text += f"; {remedy}" if remedy else ""
        lines.append(f"  {verdicts[0].check:{width}}  {word:4}  {text}".rstrip())
    return lines


def require_passed(verdicts: Sequence[Verdict]) -> None:
    """Raise `UsbenchError` where a check has failed."""
    names = list(dict.fromkeys(v.check for v in verdicts if v.state == "fail"))
    if names:
        raise UsbenchError(f"failed: {', '.join(names)}; the lines above say what to change")
