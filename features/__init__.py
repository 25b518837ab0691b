"""Events to sessions, behavior features, labels and training sequences; the feature store."""
