"""How many patients a share is, and its words."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usbench.contracts.few import FewPatients, few_of


@pytest.mark.parametrize(
    ("share", "patients", "wanted"),
    [
        (0.5, 3, 2),  # 1.5: halves go up
        (0.3, 5, 2),  # 1.5
        (0.1, 10, 1),
        (0.1, 2, 1),  # 0.2: one at least
        (0.145, 100, 15),  # 14.5, which is 14.499999999999998 in floating point
        (0.3, 16, 5),  # 4.8
        (0.95, 4, 4),  # 3.8: everyone
    ],
)
def test_a_share_is_rounded_half_up_and_never_nobody(share: float, patients: int, wanted: int) -> None:
    assert FewPatients(share=share).of(patients) == wanted


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 999), st.integers(1, 500))
def test_rounding_is_exact(thousandths: int, patients: int) -> None:
    """Whatever the share: as whole numbers have it, without floating point."""
    exact = Fraction(thousandths, 1000) * patients
    found = FewPatients(share=thousandths / 1000).of(patients)
    assert found == max(1, int(exact + Fraction(1, 2)))


def test_words() -> None:
    assert str(FewPatients(share=0.3)) == "30% of the training patients"
    assert str(FewPatients(share=0.125)) == "12.5% of the training patients"
    assert str(FewPatients(cases=5)) == "5 training patients"
    assert str(FewPatients(cases=1)) == "1 training patient"
    assert few_of({"share": 0.3, "of": 10}) == FewPatients(share=0.3)
    assert few_of({"train_cases": 2, "of": 10}) == FewPatients(cases=2)
    assert few_of({"train": ["a"]}) is None
