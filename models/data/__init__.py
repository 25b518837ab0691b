"""Training sequences, labels and examples, and the packed batches that are made of them."""
