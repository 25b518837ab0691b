"""Neural networks: behavior encoder, user encoders, text encoders, and their layers."""
