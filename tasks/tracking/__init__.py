"""What is measured of runs, sent to the trackers that people watch: TensorBoard, Weights & Biases, MLflow."""
