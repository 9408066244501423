"""Names of the neurons."""

from __future__ import annotations

from snn.registry import Registry

NEURONS = Registry(
    "neuron",
    {
        "para_inf": "snn.neurons.para_inf:ParaInf",
        "integrate_fire": "snn.neurons.integrate_fire:IntegrateFire",
        "st_bif": "snn.neurons.st_bif:STBIF",
    },
)
