"""A file that nobody has described: a draft of its YAML, and what a sample of it becomes."""
