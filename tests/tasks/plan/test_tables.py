"""Numbers as people read them in plans."""

import pytest

from specdyn.models.wording import size
from specdyn.tasks.plan.tables import in_words


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "1 Byte"), (999, "999 Bytes"), (1234, "1.23 kB"), (999_600, "1 MB"), (12_345_678, "12.3 MB"), (2e12, "2 TB")],
)
def test_a_size_has_three_digits_and_a_unit(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.000296 * 3600, "1 second"),
        (0.0, "1 second"),
        (45.4, "45 seconds"),
        (120, "2 minutes"),
        (3 * 3600, "3 hours"),
        (3 * 3600 + 20 * 60, "3 hours and 20 minutes"),
        (12.04 * 86400, "12 days and 1 hour"),
    ],
)
def test_a_time_in_words(seconds: float, text: str) -> None:
    assert in_words(seconds) == text
