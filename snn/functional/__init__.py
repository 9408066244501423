"""Pure tensor functions: no state, no modules."""

from snn.functional.fire import integrate_fire, parallel_fire, place_spikes, st_bif
from snn.functional.lif import lif, lif_step
from snn.functional.quantize import codes, lsq, qcfs, uniform_quantize

__all__ = [
    "codes",
    "integrate_fire",
    "lif",
    "lif_step",
    "lsq",
    "parallel_fire",
    "place_spikes",
    "qcfs",
    "st_bif",
    "uniform_quantize",
]
