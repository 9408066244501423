"""Spiking networks simulated in increments, with explicit difference operators: what hardware would see.

Slow, by hand for each architecture, and independent of the aggregate coordinates: no module of the networks is
called, their weights alone are read. A signal is ``[T, B, ...]``: what is added at each step. Its meaning
after step t is its running sum (coding ``sum``) or its running mean (coding ``mean``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from snn.functional import integrate_fire, parallel_fire, st_bif
from snn.functional.time_axis import align
from snn.quantizers.base import Quantizer


class Increments:
    """Operators on increments under one coding, and the spikes that its neurons emitted, by name.

    Inputs and biases come in ``spread`` equal parts, one in each of the first steps (coding ``sum``).
    """

    def __init__(self, model: nn.Module, T: int, coding: str, neuron: str, spread: int = 1, **options: Any):
        self.quantizers = {n: m for n, m in model.named_modules() if isinstance(m, Quantizer)}
        self.T, self.coding, self.kind, self.options = T, coding, neuron, options
        self.spread = spread
        self.spikes: dict[str, Tensor] = {}

    def _steps(self, x: Tensor) -> Tensor:
        return torch.arange(1, self.T + 1, dtype=x.dtype).reshape(-1, *[1] * (x.dim() - 1))

    def aggregate(self, x: Tensor) -> Tensor:
        """What ``x`` means after each step."""
        return x.cumsum(0) if self.coding == "sum" else x.cumsum(0) / self._steps(x)

    def constant(self, value: Tensor) -> Tensor:
        """A value that does not depend on time: given once under ``sum``, at every step under ``mean``."""
        given = torch.zeros(self.T, *value.shape, dtype=value.dtype)
        given[: 1 if self.coding == "sum" else self.T] = value
        return given

    def given(self, value: Tensor) -> Tensor:
        """A continuous input or a bias: like a constant, but in parts."""
        if self.spread == 1:
            return self.constant(value)
        parts = torch.zeros(self.T, *value.shape, dtype=value.dtype)
        parts[: self.spread] = value / self.spread
        return parts

    def linear(self, operator: Callable[[Tensor], Tensor], x: Tensor, bias: Tensor | None = None) -> Tensor:
        """A linear map of each step's increment, and its bias."""
        y = torch.stack([operator(now) for now in x])
        return y if bias is None else y + self.given(bias.expand_as(y[0]))

    def difference(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Any function that knows no time: ``f(X_t) - f(X_{t-1})``, or ``t f(A_t) - (t-1) f(A_{t-1})``."""
        values = torch.stack([function(now) for now in self.aggregate(x)])
        if self.coding == "mean":
            values = values * self._steps(values)
        return torch.cat([values[:1], values[1:] - values[:-1]])

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """Matrix product of two signals, in spikes times running sums."""
        left, right = torch.zeros_like(a[0]), torch.zeros_like(b[0])
        total, before, increments = torch.zeros_like(a[0] @ b[0]), torch.zeros_like(a[0] @ b[0]), []
        for t, (a_now, b_now) in enumerate(zip(a, b), start=1):
            right = right + b_now
            change = a_now @ right + left @ b_now
            left = left + a_now
            total = total + change
            if self.coding == "sum":
                increments.append(change)
            else:
                # The mean's product is total/t^2; as an increment of t times that.
                increments.append(total / t - before)
                before = total / t
        return torch.stack(increments)

    def neuron(self, name: str, x: Tensor) -> Tensor:
        """The neuron in the place of quantiser ``name``."""
        quantizer = self.quantizers[name]
        threshold = align(quantizer.positive_threshold(), x[0], quantizer.resolve_axis(x[0])).to(x.dtype)
        if self.kind == "para_inf":
            out = parallel_fire(x, threshold, signed=quantizer.signed, **self.options)
        elif self.kind == "integrate_fire":
            out, _ = integrate_fire(x, threshold, signed=quantizer.signed)
        else:
            out = st_bif(x, threshold, *quantizer.bounds)
        self.spikes[name] = (out / threshold).round()
        return out


def bert(run: Increments, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Logits of a quantised BERT with all operands in spikes, in increments ``[T, B, C]``."""

    def dense(module: nn.Linear, x: Tensor) -> Tensor:
        return run.linear(lambda now: now @ module.weight.T, x, module.bias)

    def normed(name: str, x: Tensor) -> Tensor:
        module = model.get_submodule(name)
        shape, affine = module.normalized_shape, (module.weight, module.bias, module.eps)
        return run.neuron(
            f"{name}.quantizer_out", run.difference(lambda now: functional.layer_norm(now, shape, *affine), x)
        )

    table = model.bert.embeddings
    positions = torch.arange(batch["input_ids"].shape[1])
    hidden = run.constant(
        table.word_embeddings.weight[batch["input_ids"]]
        + table.token_type_embeddings.weight[batch["token_type_ids"]]
        + table.position_embeddings.weight[positions]
    )
    hidden = normed("bert.embeddings.LayerNorm", hidden)
    padding = batch["attention_mask"][:, None, None, :] == 0
    for index, layer in enumerate(model.bert.encoder.layer):
        place = f"bert.encoder.layer.{index}"
        attention = layer.attention.self
        heads, width = attention.num_attention_heads, attention.attention_head_size

        def split(x: Tensor, heads: int = heads, width: int = width) -> Tensor:
            return x.unflatten(-1, (heads, width)).transpose(2, 3)

        q, k, v = (
            split(
                run.neuron(f"{place}.attention.self.{n}.quantizer_out", dense(getattr(attention, n), hidden))
            )
            for n in ("query", "key", "value")
        )
        scores = run.product(q, k.transpose(-1, -2)) * width**-0.5
        weights = run.difference(lambda now: now.masked_fill(padding, -torch.inf).softmax(-1), scores)
        weights = run.neuron(f"{place}.attention.self.quantizer_calls.softmax", weights)
        context = run.product(weights, v).transpose(2, 3).flatten(-2)
        context = run.neuron(f"{place}.attention.self.quantizer_out", context)
        hidden = normed(
            f"{place}.attention.output.LayerNorm", dense(layer.attention.output.dense, context) + hidden
        )
        inner = run.difference(functional.gelu, dense(layer.intermediate.dense, hidden))
        inner = run.neuron(f"{place}.intermediate.intermediate_act_fn.quantizer_out", inner)
        hidden = normed(f"{place}.output.LayerNorm", dense(layer.output.dense, inner) + hidden)
    pooled = run.difference(torch.tanh, dense(model.bert.pooler.dense, hidden[:, :, 0]))
    return dense(model.classifier, run.neuron("bert.pooler.activation.quantizer_out", pooled))


def resnet(run: Increments, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Logits of a quantised ResNet whose ReLUs are neurons, in increments ``[T, B, C]``."""

    def conv(module: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        shift = (norm.bias - norm.running_mean * scale)[:, None, None]
        scaled = module.weight * scale[:, None, None, None]
        return run.linear(
            lambda now: functional.conv2d(now, scaled, None, module.stride, module.padding), x, shift
        )

    x = run.given(batch["pixel_values"])
    x = run.neuron("stem.act", conv(model.stem.conv, model.stem.norm, x))
    for s, stage in enumerate(model.stages):
        for b, block in enumerate(stage):
            y = run.neuron(f"stages.{s}.{b}.act1", conv(block.conv1, block.norm1, x))
            y = conv(block.conv2, block.norm2, y)
            if isinstance(block.shortcut, nn.Sequential):
                x = conv(block.shortcut[0], block.shortcut[1], x)
            x = run.neuron(f"stages.{s}.{b}.act2", x + y)
    pooled = run.linear(lambda now: now.mean((-1, -2)), x)
    return run.linear(lambda now: now @ model.classifier.weight.T, pooled, model.classifier.bias)
