"""Cost of counting spikes and operations while a spiking BERT is evaluated."""

from __future__ import annotations

import sys
import time
from functools import partial

from alternate import compare, parser, print_timings
from minilm import float_bert, quantized_bert, random_texts

import snn
from snn.evaluation.wiring import wire

# integrate_fire compares the counts of every two steps; para_inf reads all spikes off the final counts. A collapsed
# run computes one step, so the same counting weighs T times as much: it has no target.
RUNS = [("para_inf", "parallel", 1.15), ("para_inf", "collapsed", None), ("integrate_fire", "parallel", 1.15)]


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
    met = True
    for neuron, execution, target in RUNS:
        net = snn.convert(qann, neuron, args.T)
        # What is connected to what is found once for each network, in the time of a few batches.
        start = time.perf_counter()
        wire(net, {k: v for k, v in batches[0].items() if k != "labels"})
        once = time.perf_counter() - start
        measure = partial(snn.evaluate, net, batches, execution=execution)
        things = {"not counted": partial(measure, record=False), "counted": partial(measure, record=True)}
        title = f"{neuron}, {execution}, T = {args.T}, batch {args.batch} × {args.length} tokens; wiring {once:.1f} s"
        targets = {} if args.quick or target is None else {"counted": target}
        met &= print_timings(title, compare(things, "not counted", args.rounds), targets)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
