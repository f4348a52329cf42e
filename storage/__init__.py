"""Where things are kept: checkpoints, run stores, sweep cubes. Knows no model."""
