"""Wall time of ``python train.py --help`` against that of an empty Python program."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from alternate import ROOT, compare, parser, print_timings, verdict

TARGET = 3.0  # seconds


def main() -> int:
    args = parser(__doc__, rounds=5).parse_args()
    call = partial(subprocess.run, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    help_ = "train.py --help"
    things = {
        "python -c pass": partial(call, [sys.executable, "-c", "pass"]),
        help_: partial(call, [sys.executable, "train.py", "--help"]),
    }
    timings = compare(things, "python -c pass", 2 if args.quick else args.rounds)
    print_timings("Start, in processes of their own", timings)
    seconds = timings[help_].seconds
    target, judged = verdict(seconds, TARGET)
    print(f"\n{help_}: {seconds:.2f} s, target {target} s: {judged}")
    return 0 if seconds <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
