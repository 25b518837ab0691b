"""Measures the baselines: `python -m models.baselines JOB.json`."""

from contracts.recipes.jobs import BaselinesJob
from models.baselines.measure import baselines
from models.runtime.report import run_program

run_program(BaselinesJob, baselines)
