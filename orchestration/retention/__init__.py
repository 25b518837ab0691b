"""One retention rule: what of the lake and of Dagster's history is kept, and why."""
