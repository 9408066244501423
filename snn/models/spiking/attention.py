"""Attention among spikes: no softmax, since products of spikes are counts and never negative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from snn.functional.time_axis import fold, unfold
from snn.models.spiking.layers import conv_norm, spiking_conv
from snn.neurons.native import NativeNeuron, NeuronFactory

#: Max-pooling inside of spike-driven attention: none, over space, or as in the released networks.
MaskPool = Literal["none", "space", "released"]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Contiguous groups of channels: ``[T, B, C, H, W]`` to ``[T, B, heads, C/heads, H*W]``."""
    return x.unflatten(2, (heads, -1)).flatten(-2)


def spiking_product(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``(Q K^T) V`` of every head, in the order that costs less.

    Counts of spikes are whole numbers, so that ``(Q K^T) V``, N x N in between, and ``Q (K^T V)``, d x d,
    are equal to the last bit as long as the counts are exact in the dtype.

    Shape:
        Three times ``[..., d, N]`` to ``[..., d, N]``, tokens last.
    """
    d, N = query.shape[-2:]
    if d >= N:
        return value @ (key.mT @ query)
    return (value @ key.mT) @ query


class SpikingSelfAttention(nn.Module):
    """``LIF(BN(W_o LIF(scale * Q K^T V)))`` with ``Q, K, V = LIF(BN(W x))``.

    Args:
        width: Channels.
        heads: Number of heads; divides ``width``.
        spiking: Makes the neurons.
        threshold: Of the neuron after the product.
        scale: Factor of the product; a power of two keeps it exact.
        qkv_bias: Whether the projections to query, key and value have a bias.
        out_bias: Whether the output projection has one.
        on_query: Applied to the query's spikes, ``[T, B, heads, d, N]``.
        last_neuron: Wraps the neuron of the output projection.

    Shape:
        ``[T, B, width, H, W]`` to the same; spikes.

    Reference:
        Zhou et al., Spikformer, ICLR 2023.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        spiking: NeuronFactory,
        threshold: float = 0.5,
        scale: float = 0.125,
        qkv_bias: bool = False,
        out_bias: bool = True,
        on_query: nn.Module | None = None,
        last_neuron: Callable[[NativeNeuron], nn.Module] | None = None,
    ):
        super().__init__()
        self.heads, self.scale = heads, scale
        self.query = spiking_conv(width, width, spiking, bias=qkv_bias)
        self.key = spiking_conv(width, width, spiking, bias=qkv_bias)
        self.value = spiking_conv(width, width, spiking, bias=qkv_bias)
        self.on_query = on_query if on_query is not None else nn.Identity()
        self.neuron = spiking(threshold)
        self.out = spiking_conv(width, width, spiking, bias=out_bias)
        if last_neuron is not None:
            self.out.neuron = last_neuron(self.out.neuron)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(part(x), self.heads) for part in (self.query, self.key, self.value))
        product = spiking_product(self.on_query(query), key, value) * self.scale
        return self.out(self.neuron(product.reshape(x.shape)))


class TokenAttention(nn.Module):
    """Each head's query decides by its number of spikes which tokens of the key pass: linear in N and in d.

    ``a = LIF(sum of Q over the head's channels)``, output ``LIF(BN(W_o (a * K)))``.

    Args:
        width: Channels.
        heads: Number of heads; divides ``width``.
        spiking: Makes the neurons.
        threshold: Of the neuron that makes the gate.

    Shape:
        ``[T, B, width, H, W]`` to the same; spikes.

    Reference:
        Zhou et al., QKFormer, NeurIPS 2024.
    """

    def __init__(self, width: int, heads: int, spiking: NeuronFactory, threshold: float = 0.5):
        super().__init__()
        self.heads = heads
        self.query = spiking_conv(width, width, spiking)
        self.key = spiking_conv(width, width, spiking)
        self.neuron = spiking(threshold)
        self.out = spiking_conv(width, width, spiking, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        query, key = (split_heads(part(x), self.heads) for part in (self.query, self.key))
        gate = self.neuron(query.sum(-2, keepdim=True))
        return self.out((gate * key).reshape(x.shape))


class SpikeDrivenAttention(nn.Module):
    """Query, masked by the channels in which keys and values fire together: masks and additions alone.

    With ``S = LIF(x)`` and ``Q, K, V = LIF(BN(W S))``: ``m = LIF(sum of K * V over tokens)``, output
    ``BN(W_o (Q * m))``. Input and output are currents, not spikes. Heads play no role but for ``pool:
    released``.

    Args:
        width: Channels.
        heads: Number of heads; divides ``width``.
        spiking: Makes the neurons.
        threshold: Of the neuron that makes the mask.
        pool: A 3x3 max-pooling of stride 1 of K, V, ``K * V`` and ``Q * m``, as in the released network for
            CIFAR10-DVS: ``space``: all four over height and width; ``released``: the last two over the plane
            of tokens and channels of a head, as published weights need it.

    Shape:
        ``[T, B, width, H, W]`` to the same.

    Reference:
        Yao et al., Spike-driven Transformer, NeurIPS 2023.
    """

    def __init__(
        self, width: int, heads: int, spiking: NeuronFactory, threshold: float = 0.5, pool: MaskPool = "none"
    ):
        super().__init__()
        self.heads, self.pool = heads, pool
        self.shortcut = spiking()
        self.query = spiking_conv(width, width, spiking)
        self.key = spiking_conv(width, width, spiking)
        self.value = spiking_conv(width, width, spiking)
        self.neuron = spiking(threshold)
        self.out = conv_norm(width, width, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.shortcut(x)
        query = self.query(spikes)
        key, value = self._over_space(self.key(spikes)), self._over_space(self.value(spikes))
        mask = self.neuron(self._product(key * value).sum((-2, -1), keepdim=True))
        return self.out(self._product(query * mask))

    def _over_space(self, spikes: Tensor) -> Tensor:
        return spikes if self.pool == "none" else _max_3x3(spikes)

    def _product(self, spikes: Tensor) -> Tensor:
        if self.pool != "released":
            return self._over_space(spikes)
        return _max_3x3(split_heads(spikes, self.heads)).reshape(spikes.shape)


def _max_3x3(x: Tensor) -> Tensor:
    """Over the last two axes of ``[T, B, groups, ...]``."""
    return unfold(functional.max_pool2d(fold(x), 3, stride=1, padding=1), x.shape[0])


class AlongBatch(nn.Module):
    """A neuron whose time runs through all samples of a step before the next step.

    This is the defect of QKFormer's released code: the neuron takes the folded ``[T*B, ...]`` for time, so
    that a sample inherits the membrane of the sample before it and outputs depend on the batch. Only weights
    that were trained with it need it.

    Shape:
        ``[T, B, ...]`` to the same.
    """

    def __init__(self, neuron: NativeNeuron):
        super().__init__()
        self.neuron = neuron

    def forward(self, current: Tensor) -> Tensor:
        return unfold(self.neuron(fold(current)), current.shape[0])
