"""Channel-wise ParaInf: a firing threshold, a spike height and an input shift of its own for each channel."""

from __future__ import annotations

from typing import ClassVar

from snn.neurons.para_inf import ParaInf


class ParaInfChannelwise(ParaInf):
    """``k = clip(floor((C_T + T*shift)/threshold + 1/2), 0 or -T, T)`` spikes of the height ``gain*threshold``.

    Two thresholds: one decides how many spikes there are, the other what each is worth. The mean output
    equals DA-QCFS with T levels of the mean current exactly, at t = T. Not causal, and otherwise as
    :class:`~snn.neurons.para_inf.ParaInf`.

    Reference:
        Hao et al., ICML 2025, the training-free conversion.
    """

    name: ClassVar[str] = "para_inf_channelwise"
    twins: ClassVar[tuple[str, ...]] = ("da_qcfs",)
