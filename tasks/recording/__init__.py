"""Recording a training loop of one's own: checkpoints and metrics for `specdyn analyse`, or singular values alone."""
