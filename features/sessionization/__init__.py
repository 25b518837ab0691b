"""Events to sessions."""
