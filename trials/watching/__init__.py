"""What one watches a training or a search with: TensorBoard, Weights & Biases, MLflow, CSV."""
