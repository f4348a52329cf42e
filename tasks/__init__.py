"""What is done: plain functions of values, free of any engine."""
