"""Events and sessions to behavior features."""
