"""Where data lies, how it is read, and how it becomes visible in one step."""
