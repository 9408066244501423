"""Cost of counting spikes while a spiking BERT is evaluated."""

from __future__ import annotations

import sys
from functools import partial

from alternate import compare, parser, print_timings
from minilm import float_bert, quantized_bert, random_texts

import snn

# integrate_fire compares the counts of every two steps; para_inf reads all spikes off the final counts.
RUNS = [("para_inf", "parallel"), ("para_inf", "collapsed"), ("integrate_fire", "parallel")]


def main() -> int:
    options = parser(__doc__, rounds=12)
    options.add_argument("--T", type=int, default=8, help="time steps (default: %(default)s)")
    options.add_argument("--batch", type=int, default=64, help="texts per batch (default: %(default)s)")
    options.add_argument("--length", type=int, default=32, help="tokens per text (default: %(default)s)")
    args = options.parse_args()
    if args.quick:
        args.rounds, args.batch = 2, 2
    qann = quantized_bert(float_bert(args.quick), "full", args.T)
    batches = [random_texts(args.batch, args.length)]
    for neuron, execution in RUNS:
        net = snn.convert(qann, neuron, args.T)
        measure = partial(snn.evaluate, net, batches, execution=execution)
        things = {"not counted": partial(measure, record=False), "counted": partial(measure, record=True)}
        title = f"{neuron}, {execution}, T = {args.T}, batch {args.batch} × {args.length} tokens"
        print_timings(title, compare(things, "not counted", args.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
