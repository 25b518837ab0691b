"""Dagster: assets, checks, partitions, schedules, and the command line. All wiring is here."""
