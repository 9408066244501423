"""Layers and attention that the spiking transformers share."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from snn.models.spiking.attention import (
    AlongBatch,
    SpikeDrivenAttention,
    SpikingSelfAttention,
    TokenAttention,
    spiking_product,
    split_heads,
)
from snn.models.spiking.block import Block, blocks, mlp
from snn.models.spiking.layers import DropPath, conv_norm
from snn.models.tim import TemporalInteraction
from snn.neurons.native import neuron_factory

LIF = neuron_factory("lif")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def spikes(*shape: int, rate: float = 0.3) -> torch.Tensor:
    return (torch.rand(*shape) < rate).double()


def test_layers_run_on_folded_time() -> None:
    layer = conv_norm(3, 5, kernel=3, pool=True).double().train()
    x = torch.randn(4, 2, 3, 8, 8, dtype=torch.float64)
    out = layer(x)
    twin = copy.deepcopy(layer)
    want = twin.pool(twin.norm(twin.conv(x.reshape(8, 3, 8, 8)))).reshape(4, 2, 5, 4, 4)
    torch.testing.assert_close(out, want, rtol=0, atol=1e-12)


def test_what_is_the_same_at_every_step_is_computed_once() -> None:
    layer = conv_norm(3, 5, kernel=3).double().train()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    rows: list[int] = []
    layer.conv.register_forward_hook(lambda _module, _inputs, out: rows.append(len(out)))
    weight = torch.randn(4, 2, 5, 8, 8, dtype=torch.float64)
    once = layer(x.expand(4, *x.shape))
    copied = layer(x.expand(4, *x.shape).contiguous())
    assert rows == [2, 8]
    torch.testing.assert_close(once, copied, rtol=0, atol=1e-12)
    got, want = (torch.autograd.grad((out * weight).sum(), x)[0] for out in (once, copied))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("d", "N"), [(4, 9), (9, 4), (6, 6)])
def test_both_orders_of_the_product_are_equal(d: int, N: int) -> None:
    query, key, value = (spikes(2, 3, 2, d, N) for _ in range(3))
    a = torch.einsum("tbhdi,tbhdj->tbhij", query, key)
    want = torch.einsum("tbhij,tbhdj->tbhdi", a, value)
    assert torch.equal(spiking_product(query, key, value), want)


@pytest.mark.parametrize(("d", "N", "largest"), [(4, 64, 16), (64, 4, 16)])
def test_the_cheaper_order_is_taken(d: int, N: int, largest: int) -> None:
    """The matrix in between is the smaller one."""
    saved: list[int] = []
    query, key, value = (spikes(1, 1, 1, d, N).requires_grad_() for _ in range(3))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        spiking_product(query, key, value)
    assert min(saved) == largest
    assert max(saved) == d * N


def test_heads_are_contiguous_groups_of_channels() -> None:
    x = torch.arange(2 * 8 * 2 * 2).reshape(1, 2, 8, 2, 2)
    heads = split_heads(x, 4)
    assert heads.shape == (1, 2, 4, 2, 4)
    assert torch.equal(heads[0, 1, 3], x[0, 1, 6:].flatten(1))
    assert torch.equal(heads.reshape(x.shape), x)


def test_drop_path() -> None:
    drop = DropPath(0.25)
    x = torch.ones(3, 4000, 2, 2)
    assert drop.eval()(x) is x
    out = drop.train()(x)
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.75])
    # A branch is left out for a sample, at all steps and everywhere.
    assert torch.equal(out, out[:1, :, :1, :1].expand_as(out))
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert DropPath(0.0).train()(x) is x


def test_a_block_whose_branches_are_dropped_is_the_identity() -> None:
    block = Block(nn.Conv3d(2, 2, 1), nn.Conv3d(2, 2, 1), drop_path=1 - 1e-9).train()
    x = torch.randn(2, 2, 3, 3, 3)
    assert torch.equal(block(x), x)
    assert not torch.equal(block.eval()(x), x)


def test_drop_path_grows_with_depth() -> None:
    made = blocks(4, lambda drop: Block(nn.Identity(), nn.Identity(), drop), 0.3)
    assert [round(b.drop_path.probability, 6) for b in made] == [0, 0.1, 0.2, 0.3]  # type: ignore[union-attr]
    assert (
        blocks(1, lambda drop: Block(nn.Identity(), nn.Identity(), drop), 0.3)[0].drop_path.probability == 0
    )  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "make",
    [
        lambda: SpikingSelfAttention(8, 2, LIF),
        lambda: TokenAttention(8, 2, LIF),
        lambda: mlp(8, 2, LIF),
    ],
)
def test_spikes_in_spikes_out(make) -> None:
    layer = make().double().train()
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 2)
            nn.init.uniform_(module.bias, 0, 2)
    out = layer(3 * spikes(4, 2, 8, 4, 4))
    assert set(out.unique().tolist()) == {0.0, 1.0}


def test_every_matrix_product_of_spike_driven_attention_sees_spikes() -> None:
    layer = SpikeDrivenAttention(8, 2, LIF, pool="space").double().train()
    seen = []
    for module in layer.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    layer(torch.randn(4, 2, 8, 4, 4, dtype=torch.float64))
    assert len(seen) == 4
    assert all(set(x.unique().tolist()) <= {0.0, 1.0} for x in seen)


def test_the_pools_of_spike_driven_attention_differ_and_heads_matter_only_as_released() -> None:
    x = 2 * torch.randn(4, 2, 8, 4, 4, dtype=torch.float64)
    plain = SpikeDrivenAttention(8, 2, LIF).double()

    def output(heads: int, pool) -> torch.Tensor:
        layer = SpikeDrivenAttention(8, heads, LIF, pool=pool).double()
        layer.load_state_dict(plain.state_dict())
        return layer(x)

    results = {pool: output(2, pool) for pool in ("none", "space", "released")}
    assert not torch.equal(results["none"], results["space"])
    assert not torch.equal(results["space"], results["released"])
    assert torch.equal(results["space"], output(4, "space"))
    assert not torch.equal(results["released"], output(4, "released"))


def test_a_neuron_along_the_batch_mixes_samples() -> None:
    x = 0.9 * torch.ones(2, 3, 4)
    neuron = LIF()
    assert neuron(x).sum() == 0
    assert torch.equal(
        AlongBatch(LIF(threshold=0.8))(x), LIF(threshold=0.8)(x.reshape(6, 4)).reshape(x.shape)
    )
    assert AlongBatch(LIF(threshold=0.8))(x).sum() > LIF(threshold=0.8)(x).sum()


def test_queries_after_the_first_step_need_thresholds_below_one() -> None:
    query = spikes(5, 2, 4, 8, 16)

    def mixed(in_threshold: float, out_threshold: float) -> torch.Tensor:
        module = TemporalInteraction(16, 0.5, LIF, in_threshold, out_threshold).double()
        nn.init.constant_(module.conv.bias, 1)
        return module(query)

    assert torch.equal(mixed(0.3, 0.5)[0], query[0])
    assert all(step.sum() > 0 for step in mixed(0.3, 0.5))
    # The mixture is at most 1, so that the membrane stays below 1: silence, as in the released code.
    assert torch.equal(mixed(1.0, 1.0)[0], query[0])
    assert mixed(1.0, 1.0)[1:].sum() == 0
