"""Names of the neurons."""

from __future__ import annotations

from snn.registry import Registry

#: Neurons that a quantiser is converted to.
NEURONS = Registry(
    "neuron",
    {
        "para_inf": "snn.neurons.para_inf:ParaInf",
        "para_inf_channelwise": "snn.neurons.para_inf_channelwise:ParaInfChannelwise",
        "integrate_fire": "snn.neurons.integrate_fire:IntegrateFire",
        "st_bif": "snn.neurons.st_bif:STBIF",
    },
)

#: Neurons of networks that are trained as spiking ones, ``snn.neurons.native``.
NATIVE_NEURONS = Registry(
    "neuron",
    {
        "lif": "snn.neurons.lif:LIF",
        "plif": "snn.neurons.lif:PLIF",
        "integrate_fire": "snn.neurons.lif:NativeIntegrateFire",
        "para_inf": "snn.neurons.parallel_fire:ParallelFire",
    },
)
