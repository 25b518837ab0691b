import pytest
import torch

from models.data.buckets import lengths_of
from models.data.packed import Events, pack, ragged_arange
from models.nn.encoders.attention import MAX_PADDING, attend
from models.nn.kernels import bounds_of, packed_attention, runs_packed

LENGTHS = torch.tensor([7, 3, 20, 1, 19, 18])


@pytest.fixture
def packed():
    zeros = torch.zeros(int(LENGTHS.sum()), dtype=torch.int64)
    fields = {f"{name}_T": zeros for name in ("item", "action", "category", "document", "gap")}
    return pack(
        Events(
            **fields,
            value_T=zeros.float(),
            time_T=zeros,
            session_T=zeros,
            position_T=ragged_arange(LENGTHS),
            lengths_B=LENGTHS,
        )
    )


def test_the_kernel_is_told_where_each_sequence_begins_and_ends(packed):
    lengths = lengths_of(packed.buckets(MAX_PADDING))
    assert lengths.tolist() == [20, 19, 18, 7, 3, 1] == list(packed.sorted_lengths)
    bounds = bounds_of(lengths)
    assert bounds.dtype == torch.int32
    assert bounds.tolist() == [0, 20, 39, 57, 64, 67, 68]


def test_without_a_gpu_attention_runs_on_buckets():
    qkv = torch.zeros(4, 3 * 16, dtype=torch.bfloat16)
    assert not runs_packed(qkv, heads=2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernel is a GPU's")
@pytest.mark.parametrize("causal", [False, True])
def test_on_a_gpu_the_kernel_gives_what_the_buckets_give(packed, causal):
    torch.manual_seed(0)
    qkv = torch.randn(int(LENGTHS.sum()), 3 * 32)
    expected = attend(qkv, packed.buckets(MAX_PADDING), 2, causal)
    on_gpu = qkv.to("cuda", torch.bfloat16)
    assert runs_packed(on_gpu, heads=2)
    q, k, v = (part.unflatten(-1, (2, -1)).contiguous() for part in on_gpu.chunk(3, dim=-1))
    lengths = torch.tensor(packed.sorted_lengths, device="cuda")
    found = packed_attention(q, k, v, lengths, int(lengths.max()), causal).flatten(1)
    torch.testing.assert_close(found.float().cpu(), expected, atol=0.02, rtol=0.02)
