"""The HTTP service of the feature store: reads alone, with tokens, by several processes."""
