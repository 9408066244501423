"""Training step of SpikingBERT: its analog network computed once, against once per output, and memory over time."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial

import torch
from alternate import compare, parser, print_timings
from memory import compare_peaks, peak_growth
from minilm import random_texts
from torch import Tensor

import snn
from snn.functional.integer_products import has_integer_units
from snn.functional.rates import replace_value
from snn.models.spikingbert.gradients import RULES
from snn.models.spikingbert.layers import Noise
from snn.models.spikingbert.model import SpikingBert
from snn.models.spikingbert.simulation import Simulation

SPEED, MEMORY = 0.5, 1.1
FEW, MANY = 8, 125  # time steps whose memory is compared


def main() -> int:
    options = parser(__doc__, rounds=4)
    options.add_argument("--T", type=int, default=100, help="time steps (default: %(default)s)")
    options.add_argument("--batch", type=int, default=8, help="texts per step (default: %(default)s)")
    options.add_argument("--length", type=int, default=64, help="tokens per text (default: %(default)s)")
    options.add_argument("--layers", type=int, default=4, help="encoder layers (default: %(default)s)")
    options.add_argument("--only", choices=["speed", "memory"], help="one of the two (default: both)")
    options.add_argument("--peak", type=int, metavar="T", help="print one step's peak memory and stop")
    args = options.parse_args()
    if args.quick:
        args.rounds, args.batch, args.length, args.T = 2, 2, 8, 4
    if args.peak:
        print(step_peak(args, args.peak))
        return 0
    met = True
    if args.only != "memory":
        met &= compare_speed(args)
    if args.only != "speed":
        met &= compare_memory(args)
    return 0 if met else 1


def build(args: argparse.Namespace, T: int) -> SpikingBert:
    """4-768, or a tiny one; no dropout, so that all ways compute the same."""
    torch.manual_seed(0)
    small = {"hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 96}
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    sizes = {"num_hidden_layers": args.layers, **(small if args.quick else {})}
    model = snn.create_model("spikingbert", T=T, **sizes, **none)
    assert isinstance(model, SpikingBert)
    return model.train()


def loss(taps: list[Tensor], scores: list[Tensor]) -> Tensor:
    """Of a distillation: on every tap and on all scores."""
    states = torch.stack([tap.square().mean() for tap in taps]).sum()
    return states + torch.stack([score.clamp_min(-100).square().mean() for score in scores]).sum()


def per_output(
    network: SpikingBert, simulation: Simulation, drive: Tensor, mask: Tensor, noise: Noise
) -> tuple[list[Tensor], list[Tensor]]:
    """The straightforward gradient: for each output the analog network is computed from its beginning.

    With 4 layers these are 0 + 6 + 12 + 18 + 24 layers of neurons for the taps and 3 + 9 + 15 + 21 for the scores.
    """

    def emitted(depth: int) -> Tensor:
        x = network.analog("embedding", drive)
        for layer in network.layers[:depth]:
            x, _ = layer(x, mask, network.analog, noise)
        return x

    def scores(depth: int) -> Tensor:
        x, layer = emitted(depth), network.layers[depth]
        key, value = (network.analog("", linear(x)) for linear in (layer.key, layer.value))
        query, key = layer.split(layer.query(x)), layer.split(key)
        products = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + mask
        network.analog("", products.softmax(-1) @ layer.split(value))
        return products

    taps = [replace_value(simulation.rates[name], emitted(k)) for k, name in enumerate(network.taps)]
    return taps, [scores(depth) for depth in range(len(network.layers))]


Rule = Callable[[SpikingBert, Simulation, Tensor, Tensor, Noise], tuple[list[Tensor], list[Tensor]]]


def step(
    model: SpikingBert,
    rule: Rule,
    batch: dict[str, Tensor],
    simulation: Simulation | None,
    integer: bool = True,
) -> Simulation:
    """Forward and backward of one training step, with a simulation that is there already or a new one."""
    model.integer = integer
    ids, real = batch["input_ids"], batch["attention_mask"].float()
    noise = Noise(model.training, shared=False)
    drive = model.embeddings(ids, torch.zeros_like(ids))
    mask = (1 - real)[:, None, None, :] * -10000.0
    if simulation is None:
        with torch.no_grad():
            simulation = model.simulate(drive, mask, real, noise)
    loss(*rule(model, simulation, drive, mask, noise)).backward()
    model.zero_grad()
    return simulation


def compare_speed(args: argparse.Namespace) -> bool:
    """The part of a step that has a gradient, and the whole of it."""
    met = True
    model, batch = build(args, args.T), random_texts(args.batch, args.length)
    once, anew = "analog network once", "once per output"
    measured = step(model, RULES["replace"], batch, None)
    case = f"{args.layers} layers, batch {args.batch} × {args.length} tokens"
    for title, simulation in ((f"Gradient alone, {case}", measured), (f"Step, T = {args.T}, {case}", None)):
        things = {
            anew: partial(step, model, per_output, batch, simulation, integer=False),
            once: partial(step, model, RULES["replace"], batch, simulation),
        }
        if simulation is None and has_integer_units():
            things[f"{once}, float products"] = partial(
                step, model, RULES["replace"], batch, None, integer=False
            )
        targets = {} if args.quick else {once: SPEED}
        met &= print_timings(title, compare(things, anew, args.rounds), targets)
    return met


def compare_memory(args: argparse.Namespace) -> bool:
    """Peak of a training step at many time steps against few, each in a process of its own."""
    sizes = ["--layers", str(args.layers), "--batch", str(args.batch), "--length", str(args.length)]
    forwarded = [*sizes, *(["--quick"] if args.quick else [])]
    title = f"Training step, batch {args.batch} × {args.length} tokens"
    return compare_peaks(title, __file__, forwarded, FEW, MANY, None if args.quick else MEMORY)


def step_peak(args: argparse.Namespace, T: int) -> int:
    """Bytes that one training step takes beyond what is there before it."""
    model, batch = build(args, T), random_texts(args.batch, args.length)
    # Libraries load what they need on first use, whatever the number of steps.
    step(build(args, 1), RULES["replace"], random_texts(1, 4), None)
    return peak_growth(lambda: step(model, RULES["replace"], batch, None))


if __name__ == "__main__":
    sys.exit(main())
