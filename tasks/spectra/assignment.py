"""One-to-one matching of rows and columns."""

import numpy as np


def one_to_one(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows and their matched columns with the largest sum of scores."""
    # Imported here, as it takes 0.3 s and most processes do not match anything.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(scores, maximize=True)
    return rows, columns
