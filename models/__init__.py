"""User-behavior encoders: objectives, training, fine-tuning, embedding, evaluation."""
