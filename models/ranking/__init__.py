"""Heads and scores that rank items: next item, and candidates of a list."""
