"""What to beat: linear models on items and features, and rankings without training."""
