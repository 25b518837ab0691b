"""Measures the baselines: `python -m models.baselines CONFIG.json`."""

from models.baselines.measure import baselines
from models.runtime.config import BaselinesConfig
from models.runtime.report import run_program

run_program(BaselinesConfig, baselines)
