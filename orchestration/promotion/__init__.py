"""Which model versions downstream teams get: candidates, held against what is served now."""
