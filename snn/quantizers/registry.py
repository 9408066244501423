"""Names of the quantisers."""

from __future__ import annotations

from snn.registry import Registry

QUANTIZERS = Registry("quantization", {"qcfs": "snn.quantizers.qcfs:QCFS", "lsq": "snn.quantizers.lsq:LSQ"})
