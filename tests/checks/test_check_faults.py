"""Networks with one fault each: found, by the right check and by no other; sound ones pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit.faulty_methods import DECLARES_LATE, FAULTS, Dropping, method_of, verdicts
from kit.faulty_training import ReadsFresh, ReadsFreshInTraining
from kit.sound_network import Deep, Sound
from kit.told_networks import Told
from torch import Tensor, nn

from usbench import Supervised
from usbench.checks.subject import Subject
from usbench.checks.suite import CHECKS, Check, run_check

pytestmark = pytest.mark.usefixtures("own_loss")


@pytest.mark.parametrize(
    "network",
    # Every day a fifth of them, which are of all kinds; the others with the slow tests.
    [
        pytest.param(fault, marks=() if place % 5 == 1 else pytest.mark.slow, id=fault.__name__)
        for place, fault in enumerate(FAULTS)
    ],
)
def test_fault_is_found_by_its_check_alone(network: type[nn.Module], folder: Path) -> None:
    found = verdicts(method_of(network), folder)
    failures = {v.check: v.reason for v in found if v.state == "fail"}
    assert set(failures) == {FAULTS[network]}, failures
    (verdict,) = [v for v in found if v.state == "fail"]
    assert verdict.reason
    assert verdict.remedy


@pytest.mark.parametrize("network", [Sound, Dropping, Told, Deep], ids=lambda network: network.__name__)
def test_sound_network_passes_all(network: type[nn.Module], folder: Path) -> None:
    found = verdicts(method_of(network), folder)
    assert [v.check for v in found] == [c.name for c in CHECKS]
    states = {v.check: v.state for v in found}
    expected = dict.fromkeys(states, "pass")
    expected |= {} if network is Dropping else {"frozen": "n/a"}
    expected |= {} if network is Told else {"present": "n/a"}
    assert states == expected, [v for v in found if v.state == "fail"]


def test_more_than_logits_in_evaluation_is_found(folder: Path) -> None:
    class Always(Deep):
        def forward(self, images: Tensor) -> Supervised:
            return Supervised(self.head(self.features(images)), [self.beside(self.features(images))])

    found = {v.check: v for v in verdicts(method_of(Always), folder)}
    assert [v.check for v in found.values() if v.state == "fail"] == ["builds"]
    assert "give logits alone unless self.training" in found["builds"].reason


@pytest.mark.parametrize("one", CHECKS, ids=lambda one: one.name)
def test_a_check_alone_says_what_it_says_among_the_others(one: Check, folder: Path) -> None:
    """None relies on what an earlier one left behind, such as numbers drawn."""
    subject = Subject(method_of(Dropping), "early", folder, overfit_steps=200, overfit_lr=1e-2)
    found = run_check(one, subject)
    assert found.state == ("n/a" if one.name == "present" else "pass"), found.reason


def test_declared_fusion_that_does_not_build(folder: Path) -> None:
    late = {v.check: v for v in verdicts(DECLARES_LATE, folder, "late")}
    assert late["fusions"].state == "fail"
    assert "late is declared and does not build: KeyError" in late["fusions"].reason
    assert {v.state for name, v in late.items() if name != "fusions"} == {"n/a"}
    early = {v.check: v for v in verdicts(DECLARES_LATE, folder)}
    assert early["fusions"].state == "pass"
    assert "hybrid refused" in early["fusions"].reason


@pytest.mark.parametrize(
    ("network", "check", "reason"),
    [
        (ReadsFresh, "shape", "7500 of 7500 logits are not finite"),
        (ReadsFreshInTraining, "same-training", "a step taken twice from one seed differs in 8 of 8"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_memory_that_was_never_written_to_is_found(
    network: type[nn.Module], check: str, reason: str, folder: Path
) -> None:
    """It holds zeros more often than not, so that no comparison would show it: checks fill it with NaN."""
    found = {v.check: v for v in verdicts(method_of(network), folder)}
    assert found[check].state == "fail"
    assert reason in found[check].reason
    assert found["builds"].state == "pass"
