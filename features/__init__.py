"""Events to sessions, behaviour features, labels and training sequences; the feature store."""
