"""A spiking BERT of ST-BIF neurons, all steps in one call, against the classical loop: spike by spike, step by step.

The loop is what published simulations do, as lean as it can be written: in every step every module is called once,
on what is new in that step. Linear layers give their bias at the first step; norms, softmax, GELU and tanh are
differences of the function on running sums; attention products are spikes times running sums.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import yaml
from alternate import ROOT, compare, parser, print_timings
from minilm import float_bert, random_texts
from torch import Tensor, nn

import snn
from snn.conversion.call import labels_removed
from snn.functional.integer_products import has_integer_units
from snn.quantizers.base import Quantizer

LEVELS = 16
TARGET = 1 / 5  # of the loop's time


class Stateful(nn.Module):
    """A module that remembers what it has seen since the last :meth:`reset`."""

    def reset(self) -> None:
        self.seen: dict[str, Any] = {}


class Dense(Stateful):
    """``W x``, and the bias at the first step."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        first, self.seen["started"] = "started" not in self.seen, True
        return nn.functional.linear(x, self.weight, self.bias if first else None)


class Fire(Stateful):
    """ST-BIF: a membrane, and a tracer of the spikes that it has emitted."""

    def __init__(self, quantizer: Quantizer):
        super().__init__()
        self.axis, (self.qmin, self.qmax) = quantizer.axis, quantizer.bounds
        self.register_buffer("threshold", quantizer.positive_threshold().detach())

    def forward(self, x: Tensor) -> Tensor:
        threshold = self.threshold
        if threshold.numel() > 1 and x.dim() == 4:  # attention probabilities: channels are heads
            threshold = threshold[:, None, None]
        membrane = self.seen.get("membrane", 0.5) + x / threshold
        tracer = self.seen.get("tracer", torch.zeros_like(x))
        spike = ((membrane >= 1) & (tracer < self.qmax)).to(x.dtype)
        spike -= ((membrane < 0) & (tracer > self.qmin)).to(x.dtype)
        self.seen.update(membrane=membrane - spike, tracer=tracer + spike)
        return spike * threshold


class Difference(Stateful):
    """``f(X_t) - f(X_{t-1})`` on running sums; the first output is ``f(X_1)``."""

    def __init__(self, function: Callable[..., Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, *constants: Tensor) -> Tensor:
        total = self.seen["total"] = self.seen.get("total", 0) + x
        value = self.function(total, *constants)
        before, self.seen["value"] = self.seen.get("value", 0), value
        return value - before


class Product(Stateful):
    """``A_t B_t - A_{t-1} B_{t-1}``: spikes times running sums, twice."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        right = self.seen["right"] = self.seen.get("right", 0) + b
        left = self.seen.get("left")
        self.seen["left"] = a if left is None else left + a
        return a @ right if left is None else a @ right + left @ b


class Layer(nn.Module):
    """One layer of BERT, one step at a time."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        attention, output = layer.attention.self, layer.attention.output
        self.heads, self.width = attention.num_attention_heads, attention.attention_head_size
        self.project = nn.ModuleList(
            nn.Sequential(Dense(linear), Fire(linear.quantizer_out))
            for linear in (attention.query, attention.key, attention.value)
        )
        self.scores, self.context = Product(), Product()
        self.softmax = Difference(lambda x, hidden: x.masked_fill(hidden, -torch.inf).softmax(-1))
        self.weights = Fire(attention.quantizer_calls.softmax)
        self.attended = nn.Sequential(Fire(output.dense.quantizer_in), Dense(output.dense))
        self.norm = _normed(output.LayerNorm)
        self.inner = nn.Sequential(
            Dense(layer.intermediate.dense),
            Difference(nn.functional.gelu),
            Fire(layer.intermediate.intermediate_act_fn.quantizer_out),
            Dense(layer.output.dense),
        )
        self.final_norm = _normed(layer.output.LayerNorm)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(-1, (self.heads, self.width)).transpose(1, 2) for project in self.project
        )
        scores = self.scores(q * self.width**-0.5, k.mT)
        context = self.context(self.weights(self.softmax(scores, hidden)), v).transpose(1, 2).flatten(2)
        x = self.norm(self.attended(context) + x)
        return self.final_norm(self.inner(x) + x)


class Loop(nn.Module):
    """The whole network: T times every module, one after the other."""

    def __init__(self, model: nn.Module, T: int):
        super().__init__()
        bert = model.bert
        self.T, self.embeddings = T, bert.embeddings
        self.norm = _normed(bert.embeddings.LayerNorm)
        self.layers = nn.ModuleList(Layer(layer) for layer in bert.encoder.layer)
        self.pooled = nn.Sequential(
            Dense(bert.pooler.dense), Difference(torch.tanh), Fire(bert.pooler.activation.quantizer_out)
        )
        self.classifier = Dense(model.classifier)
        self.stateful = [module for module in self.modules() if isinstance(module, Stateful)]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        for module in self.stateful:
            module.reset()
        hidden = attention_mask[:, None, None, :] == 0
        table = self.embeddings
        given = (
            table.word_embeddings(input_ids)
            + table.token_type_embeddings.weight[0]
            + table.position_embeddings.weight[: input_ids.shape[1]]
        )
        logits: list[Tensor] = []
        for _ in range(self.T):
            x = self.norm(given)
            for layer in self.layers:
                x = layer(x, hidden)
            new = self.classifier(self.pooled(x[:, 0]))
            logits.append(logits[-1] + new if logits else new)
            given = torch.zeros_like(given)
        return torch.stack(logits)


def _normed(norm: nn.LayerNorm) -> nn.Sequential:
    shape, affine = norm.normalized_shape, (norm.weight, norm.bias, norm.eps)
    return nn.Sequential(
        Difference(lambda x: nn.functional.layer_norm(x, shape, *affine)), Fire(norm.quantizer_out)
    )


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--T", type=int, default=32, help="time steps (default: %(default)s)")
    options.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="batch sizes")
    options.add_argument("--length", type=int, default=32, help="tokens per text (default: %(default)s)")
    args = options.parse_args()
    if args.quick:
        args.rounds, args.batches, args.T = 2, [1, 2], 8
    with torch.no_grad():
        met = [compare_speed(args, size) for size in args.batches]
    return 0 if all(met) else 1


def compare_speed(args: argparse.Namespace, size: int) -> bool:
    places = yaml.safe_load((ROOT / "conf/model/bert.yaml").read_text("utf-8"))["places"]["full"]
    qann = snn.quantize(float_bert(args.quick), places, name="lsq", levels=LEVELS)
    snn.calibrate(qann, [random_texts(8, 32)], rows=512)
    net, loop = snn.convert(qann, neuron="st_bif", T=args.T), Loop(qann, args.T)
    inputs = labels_removed(random_texts(size, args.length))
    run = partial(net, record=False, **inputs)
    gap = (loop(**inputs)[-1] - run().logits[-1]).abs().max()
    things: dict[str, Callable[[], Any]] = {
        "loop of modules": partial(loop, **inputs),
        "parallel": partial(run, execution="parallel"),
        "chunks of 8": partial(run, chunk=8),
        "stepwise": partial(run, execution="stepwise"),
        "collapsed": partial(run, execution="collapsed"),
    }
    best = "parallel"
    if has_integer_units():
        best = "parallel, integer products"
        things[best] = partial(run, execution="parallel", integer=True)
    timings = compare(things, "loop of modules", args.rounds)
    title = (
        f"ST-BIF, T = {args.T}, batch {size} × {args.length} tokens; at T they differ by at most {gap:.1g}"
    )
    met = print_timings(title, timings, {} if args.quick else {best: TARGET})
    print(f"{best} is {1 / timings[best].ratio:.1f} times as fast as the loop")
    return met


if __name__ == "__main__":
    sys.exit(main())
