"""Records a user's own training loop: checkpoints and metrics for `specdyn analyse`, or only singular values."""
