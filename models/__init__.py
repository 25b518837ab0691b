"""User-behaviour encoders: objectives, training, fine-tuning, embedding, evaluation."""
