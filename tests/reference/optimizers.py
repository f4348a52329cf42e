"""AdamW and SGD written out, in float64, for a linear model with squared error."""

import numpy as np


def gradients(w: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Of mean((x w' + b - y)^2) over all entries."""
    residual = 2 * (x @ w.T + b - y) / y.size
    return [residual.T @ x, residual.sum(axis=0)]


def adamw(
    start: list[np.ndarray],
    x: np.ndarray,
    y: np.ndarray,
    rates: list[float],
    decay: float | list[float],
    beta1: float,
    beta2: float,
    epsilon: float,
) -> list[np.ndarray]:
    """Loshchilov and Hutter's algorithm 2, decay on every parameter, one number or one for each update."""
    decays = decay if isinstance(decay, list) else [decay] * len(rates)
    theta = [p.copy() for p in start]
    m, v = [np.zeros_like(p) for p in start], [np.zeros_like(p) for p in start]
    for t, rate in enumerate(rates, start=1):
        for i, g in enumerate(gradients(*theta, x, y)):
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g * g
            step = (m[i] / (1 - beta1**t)) / (np.sqrt(v[i] / (1 - beta2**t)) + epsilon)
            theta[i] = theta[i] - rate * decays[t - 1] * theta[i] - rate * step
    return theta


def sgd(
    start: list[np.ndarray],
    x: np.ndarray,
    y: np.ndarray,
    rates: list[float],
    decay: float,
    momentum: float,
    nesterov: bool = False,
    radius: float = 0.0,
) -> list[np.ndarray]:
    """Heavy-ball momentum, weight decay as an L2 term in the gradient.

    With a radius the gradient is taken that far up the gradient, without the L2 term (Foret et al., equation 2).
    """
    theta = [p.copy() for p in start]
    velocity = [np.zeros_like(p) for p in start]
    for rate in rates:
        slopes = gradients(*theta, x, y)
        norm = np.sqrt(sum((g**2).sum() for g in slopes))
        slopes = gradients(*(p + radius * g / norm for p, g in zip(theta, slopes, strict=True)), x, y)
        for i, slope in enumerate(slopes):
            g = slope + decay * theta[i]
            velocity[i] = momentum * velocity[i] + g
            theta[i] = theta[i] - rate * (g + momentum * velocity[i] if nesterov else velocity[i])
    return theta
