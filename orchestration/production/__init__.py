"""Running Dagster and the servers it needs under supervisord, on one machine."""
