"""The training loop and its parts: optimizers, numerics, states, masks, branches."""
