"""Running experiments: inputs built, jobs of a plan run side by side through Dagster Pipes."""
