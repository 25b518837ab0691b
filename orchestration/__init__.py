"""Dagster: assets, checks, partitions, automation, and the command line. All wiring is here."""
