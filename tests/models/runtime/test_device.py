import pytest
import torch

from models.runtime.device import prepare


def test_auto_takes_the_gpu_and_says_which(monkeypatch):
    taken, empty = [], torch.empty

    class OnGpu:
        device = torch.device("cuda:0")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch, "empty", lambda *_, device: OnGpu() if "cuda" in device else empty(1)
    )
    monkeypatch.setattr(torch._C, "_cuda_setDevice", taken.append, raising=False)
    before = torch.are_deterministic_algorithms_enabled()
    try:
        assert prepare("auto", 0) == torch.device("cuda:0")
    finally:
        torch.use_deterministic_algorithms(before)
    assert taken == [0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="takes a GPU")
@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_a_gpu_can_be_named_with_and_without_a_number(name):
    assert prepare(name, 0) == torch.device("cuda:0")
