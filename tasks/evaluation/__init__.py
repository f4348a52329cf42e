"""Loss and metrics of given weights, and the environment that computes them."""
