"""Forgetting a user: `footpath users forget` removes every trace of some ids."""
