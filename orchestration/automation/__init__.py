"""The reconciler: what should be there against what is there, and requests for the difference."""
