"""Forward of a fully quantised BERT against the spiking network made from it, and memory over time steps."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from alternate import compare, parser, print_timings
from memory import compare_peaks, peak_growth
from minilm import float_bert, quantized_bert, random_texts

import snn
from snn.conversion.call import call_model, labels_removed
from snn.functional.integer_products import has_integer_units

COLLAPSED, PARALLEL, MEMORY = 1.05, 0.8, 1.2  # parallel: times T
FEW, MANY = 4, 32  # time steps whose memory is compared


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--T", type=int, default=8, help="time steps (default: %(default)s)")
    options.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64], help="batch sizes")
    options.add_argument("--length", type=int, default=32, help="tokens per text (default: %(default)s)")
    options.add_argument("--peak", type=int, metavar="T", help="print one network's peak memory and stop")
    args = options.parse_args()
    if args.quick:
        args.rounds, args.batches = 2, [1, 2]
    with torch.no_grad():
        if args.peak:
            print(stepwise_peak(args, args.peak))
            return 0
        met = [compare_speed(args), compare_memory(args)]
    return 0 if all(met) else 1


def compare_speed(args: argparse.Namespace) -> bool:
    """QANN against ``collapsed`` and ``parallel``, with and without spikes counted."""
    qann = quantized_bert(float_bert(args.quick), "full", args.T)
    net = snn.convert(qann, neuron="para_inf", T=args.T)
    met = True
    for size in args.batches:
        inputs = labels_removed(random_texts(size, args.length))
        run = partial(net, **inputs)
        things: dict[str, Callable[[], Any]] = {
            "quantised ANN": partial(call_model, qann, inputs),
            "collapsed": partial(run, execution="collapsed", record=False),
            "parallel": partial(run, execution="parallel", record=False),
            "parallel, spikes counted": partial(run, execution="parallel", record=True),
        }
        best = "parallel"
        if has_integer_units():
            best = "parallel, integer products"
            things |= {
                "collapsed, integer products": partial(
                    run, execution="collapsed", record=False, integer=True
                ),
                best: partial(run, execution="parallel", record=False, integer=True),
            }
        targets = {"collapsed": COLLAPSED, best: PARALLEL * args.T}
        title = f"ParaInf, T = {args.T}, batch {size} × {args.length} tokens"
        timings = compare(things, "quantised ANN", args.rounds)
        met &= print_timings(title, timings, {} if args.quick else targets)
    return met


def compare_memory(args: argparse.Namespace) -> bool:
    """Peak of ``stepwise`` integrate-and-fire at many steps against few, each in a process of its own."""
    size = args.batches[-1]
    forwarded = ["--length", str(args.length), "--batches", str(size)]
    if args.quick:
        forwarded.append("--quick")
    title = f"Integrate-and-fire, stepwise, batch {size} × {args.length} tokens"
    return compare_peaks(title, __file__, forwarded, FEW, MANY, None if args.quick else MEMORY)


def stepwise_peak(args: argparse.Namespace, T: int) -> int:
    """Bytes that a stepwise run takes beyond what is there before it."""
    net = snn.convert(quantized_bert(float_bert(args.quick), "full", T), "integrate_fire", T)
    inputs = labels_removed(random_texts(args.batches[-1], args.length))
    # Libraries load what they need on first use, whatever the number of steps.
    net(execution="parallel", chunk=T, **labels_removed(random_texts(1, 4)))
    return peak_growth(lambda: net(execution="stepwise", record=False, **inputs))


if __name__ == "__main__":
    sys.exit(main())
