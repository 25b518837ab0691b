"""A data set's YAML, validated: one file a section."""
