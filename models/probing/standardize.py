"""Columns of numbers that are skewed and full of gaps, as counts and prices are.

Shapes: n rows, F columns. What is not known is NaN.
"""

import numpy as np


def signed_log(x: np.ndarray) -> np.ndarray:
    """Returns sign(x) log(1 + |x|)."""
    return np.sign(x) * np.log1p(np.abs(x))


def known_moments(x_nF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of what is known of each column; infinite where it never varies."""
    counts_F = np.maximum((~np.isnan(x_nF)).sum(axis=0), 1)
    mean_F = np.nansum(x_nF, axis=0) / counts_F
    spread_F = np.sqrt(np.nansum(np.square(x_nF - mean_F), axis=0) / counts_F)
    return mean_F, np.where(spread_F > 1e-9, spread_F, np.inf)
