"""Numbers as people read them in plans."""

import pytest

from specdyn.tasks.plan.tables import size


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "1 Byte"), (999, "999 Bytes"), (1234, "1.23 kB"), (999_600, "1 MB"), (12_345_678, "12.3 MB"), (2e12, "2 TB")],
)
def test_a_size_has_three_digits_and_a_unit(count: float, text: str) -> None:
    assert size(count) == text
