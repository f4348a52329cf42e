"""One-to-one matches of rows and columns."""

import numpy as np


def one_to_one(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows, and the column matched with each, whose scores have the largest sum."""
    # Here, as most processes that import this match nothing, and pay 0.3 s.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(scores, maximize=True)
    return rows, columns
