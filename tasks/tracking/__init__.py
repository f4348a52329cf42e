"""Sends results of runs to trackers: TensorBoard, Weights & Biases, MLflow."""
