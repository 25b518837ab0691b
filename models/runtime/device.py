"""Where tensors live and how many threads work on them."""

import os

import torch
from threadpoolctl import threadpool_limits

from contracts.base.errors import FootpathError


def prepare(device: str, threads: int) -> torch.device:
    """Sets threads and determinism, and returns the device: 'auto', or a name such as 'cuda:0'.

    Raises:
      FootpathError: there is no such device here.
    """
    # Threads of NumPy and scikit-learn wait by spinning, and matrices of heads are small: beside
    # another program, several took eight times as long as one.
    threadpool_limits(1, "blas")
    if threads:
        torch.set_num_threads(threads)
        threadpool_limits(threads, "openmp")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and "LOCAL_RANK" in os.environ:  # torchrun: a GPU each
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        chosen = torch.empty(1, device=device).device  # 'cuda' says which one
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
    except (RuntimeError, AssertionError) as error:
        fault = str(error).splitlines()[0]
        raise FootpathError(f"device '{device}' cannot be used here: {fault}") from None
    torch.use_deterministic_algorithms(chosen.type == "cpu")
    return chosen
