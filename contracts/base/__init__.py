"""The lowest layer: errors, reference time, batches, hashing, the base of the YAML schema."""
