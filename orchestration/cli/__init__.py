"""The `footpath` command, one file a group of commands."""
