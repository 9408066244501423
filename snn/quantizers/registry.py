"""Names of the quantisers, and of the ways to set their thresholds."""

from __future__ import annotations

from snn.registry import Registry

QUANTIZERS = Registry(
    "quantization",
    {
        "qcfs": "snn.quantizers.qcfs:QCFS",
        "da_qcfs": "snn.quantizers.da_qcfs:DAQCFS",
        "lsq": "snn.quantizers.lsq:LSQ",
    },
)

#: From samples of the activations (:mod:`snn.quantizers.thresholds`).
ESTIMATES = ("mse", "max", "percentile")
#: All of them; the others are :mod:`snn.quantizers.start`.
INITS = (*ESTIMATES, "first_batch", "ema20", "one_over_qp")
