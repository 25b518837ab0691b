"""Heads for classes and numbers: linear probe, fine-tuned, from scratch."""
