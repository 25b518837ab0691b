"""Metrics of predictions, and the rows and files that keep them."""
