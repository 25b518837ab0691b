"""Events and sessions to behaviour features."""
