"""The training loop and all that acts in it: optimizers, numerics, states, masks, branches."""
