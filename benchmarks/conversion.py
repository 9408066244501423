"""How long it takes to make a quantised MiniLM spike, beside one forward of a batch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from alternate import compare, parser, print_timings
from minilm import float_bert, quantized_bert, random_texts

import snn
from snn.conversion.call import call_model, labels_removed

SECONDS = 5.0


def main() -> int:
    args = parser(__doc__).parse_args()
    if args.quick:
        args.rounds = 2
    model = float_bert(args.quick)
    with torch.no_grad():
        qann = quantized_bert(model, "full", 8)
        inputs = labels_removed(random_texts(32, 32))
        net = snn.convert(qann, neuron="para_inf", T=8)
        things: dict[str, Callable[[], Any]] = {
            "quantised ANN, batch 32 × 32 tokens": partial(call_model, qann, inputs),
            "quantise and set thresholds": partial(quantized_bert, model, "full", 8),
            "convert": partial(snn.convert, qann, neuron="para_inf", T=8),
            "verify": lambda: snn.verify(qann, net, [inputs]),
        }
        timings = compare(things, next(iter(things)), args.rounds)
    print_timings("From a float MiniLM to a spiking one", timings, {})
    taken = sum(timings[name].seconds for name in ("quantise and set thresholds", "convert"))
    met = taken <= SECONDS
    print(
        f"quantise, set thresholds and convert: {taken:.2f} s; target {SECONDS:g} s: {'pass' if met else 'FAIL'}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
