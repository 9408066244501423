"""Energy of a spiking network, beside that of the float network and of one with as many levels as spikes can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from snn.evaluation.energy_profile import EnergyProfile
from snn.evaluation.operations import OperationCounts, ProductCount

#: Width of weights and of the float network's activations.
FULL_BITS = 32
#: What an operator is, in the order of tables.
PARTS = (
    "layers on spikes",
    "attention on spikes",
    "layers on the input",
    "layers on analog values",
    "norms and activations",
    "membranes",
)


@dataclass(frozen=True)
class OperatorEnergy:
    """One operator, per sample.

    Args:
        module: Dotted name of the module, or of the layer whose membranes these are.
        part: Which of :data:`PARTS`.
        op: What is computed.
        factors: What it works on.
        dense: Multiply-accumulates of the network without time.
        macs: Multiply-accumulates of each step.
        acs: Accumulates of each step.
        updates: Membrane updates of each step.
        float_pj: Energy in the float network, in picojoules.
        quantized_pj: Energy in the quantised network.
        spiking_pj: Energy of each step.
    """

    module: str
    part: str
    op: str
    factors: str
    dense: float
    macs: list[float]
    acs: list[float]
    updates: list[float]
    float_pj: float
    quantized_pj: float
    spiking_pj: list[float]

    def row(self) -> dict[str, Any]:
        """Plain types; energies in microjoules, sums over steps."""
        return {
            "module": self.module,
            "part": self.part,
            "op": self.op,
            "factors": self.factors,
            "dense_macs": self.dense,
            "macs": sum(self.macs),
            "acs": sum(self.acs),
            "membrane_updates": sum(self.updates),
            "float_uj": self.float_pj / 1e6,
            "quantized_uj": self.quantized_pj / 1e6,
            "spiking_uj": sum(self.spiking_pj) / 1e6,
        }


@dataclass(frozen=True)
class Energy:
    """What :func:`energy` found, per sample.

    Args:
        profile: Constants and conventions.
        T: Number of time steps.
        bits: Width of the quantised network's activations.
        samples: Of how many samples this is the mean.
        operators: In order of execution.
        approximate: Modules whose accumulates are known on average alone.
        instantaneous: Whether signals are the spikes of each step, so that products need no running sums.
    """

    profile: EnergyProfile
    T: int
    bits: int
    samples: int
    operators: list[OperatorEnergy]
    approximate: list[str] = field(default_factory=list)
    instantaneous: bool = False

    @property
    def networks(self) -> list[dict[str, Any]]:
        """The three networks: operations, and energy in microjoules."""
        dense = sum(o.dense for o in self.operators if o.part != "membranes")
        rows: list[dict[str, Any]] = [
            {"network": "float ANN", "macs": dense, "acs": 0.0, "membrane_updates": 0.0}
            | {"energy_uj": sum(o.float_pj for o in self.operators) / 1e6},
            {"network": f"quantised ANN, {_bits(self.bits)}", "macs": dense, "acs": 0.0}
            | {"membrane_updates": 0.0, "energy_uj": sum(o.quantized_pj for o in self.operators) / 1e6},
            {
                "network": f"spiking network, T = {self.T}",
                **{
                    key: sum(sum(getattr(o, name)) for o in self.operators)
                    for key, name in (("macs", "macs"), ("acs", "acs"), ("membrane_updates", "updates"))
                },
                "energy_uj": sum(self.per_timestep),
            },
        ]
        return [{**row, "of_float": row["energy_uj"] / rows[0]["energy_uj"]} for row in rows]

    @property
    def per_timestep(self) -> list[float]:
        """Energy of each step, in microjoules."""
        return [sum(at) / 1e6 for at in zip(*(o.spiking_pj for o in self.operators))]

    def parts(self) -> list[dict[str, Any]]:
        """Energy by what is computed, in microjoules."""
        rows = []
        for part in PARTS:
            own = [o.row() for o in self.operators if o.part == part]
            if own:
                keys = ("macs", "acs", "membrane_updates", "float_uj", "quantized_uj", "spiking_uj")
                rows.append({"part": part, **{key: sum(row[key] for row in own) for key in keys}})
        return rows

    @property
    def verdict(self) -> str:
        """One sentence."""
        whole, quantised, spiking = (row["energy_uj"] for row in self.networks)
        text = (
            f"under {self.profile.name or 'this profile'} a sample takes {spiking:.4g} µJ at T = {self.T}: "
            f"{spiking / whole:.3g} times the float ANN's energy, and {spiking / quantised:.3g} times that of a "
            f"quantised ANN of {_bits(self.bits)}"
        )
        saves = "both" if spiking < min(whole, quantised) else "the float ANN only"
        return f"{text}; spiking saves energy against {saves if spiking < whole else 'neither'}"

    def assumptions(self) -> list[str]:
        """What the figures rest on, line by line."""
        p = self.profile
        memory = p.number("mac_memory") + p.number("ac_memory") + p.number("membrane_memory")
        lines = [
            f"Constants ({p.source or 'no source given'}): {p.mac} pJ per MAC, {p.ac} pJ per AC, {p.membrane} pJ "
            "per membrane update"
            + (
                f"; memory {p.mac_memory} pJ per MAC, {p.ac_memory} pJ per AC, {p.membrane_memory} pJ per update."
                if memory
                else "; memory traffic is left out."
            ),
            "Figures are per sample; padding counts nowhere. A step after which nothing of a sample changes any more "
            "is not computed.",
            "Operators on spikes: an AC for each spike and each place that it goes to, borders and strides of "
            "convolutions included"
            + (
                "."
                if p.zero_skipping
                else "; without zero-skipping, for each value of each step, spike or not."
            ),
            "Negative spikes are subtracted, at the same cost. Weights that are zero are not skipped.",
            {
                "events": "Sums of several neurons' spikes (residual sums, averages): each spike is accumulated by "
                "itself.",
                "macs": "Sums of several neurons' spikes (residual sums, averages) are no spikes: a dense product at "
                "each step.",
            }[p.non_binary],
            "Attention: the present spikes of two signals, at the cost of the sparser; a product of spikes and other "
            "values (counts of spikes, an analog query) takes an AC for each spike and value that it meets. The "
            "network spikes by itself, so there are no running sums."
            if self.instantaneous
            else {
                "running_sums": "Attention: Q_t k_t + q_t K_(t-1), so a spike is added for each value of the other "
                "signal's running sum that it meets; these are whole numbers of several bits, counted as ACs.",
                "running_sums_overlap": "Attention: Q_t k_t + q_t K_t − q_t k_t, the overlap at the cost "
                "of the sparser.",
                "one_factor": "Attention: present spikes alone, at the cost of the sparser signal. A converted network "
                "needs running sums; the profile leaves those out.",
            }[p.attention],
            "The network's input is multiplied "
            + ("at every step at which it is given." if p.first_layer == "every_step" else "once."),
            (
                "Products of analog values with each other or with weights are dense MACs."
                if self.instantaneous
                else "Products with an analog factor, embeddings included, are dense MACs of every step."
            )
            + (
                f" So are norms, softmax and activation functions: {p.analog:g} MACs per value."
                if p.analog
                else " Norms, softmax and activation functions are left out."
            ),
            f"Quantised ANN: ⌈log2(T+1)⌉ = {self.bits} bits per activation, {FULL_BITS} per weight, no "
            "zero-skipping, no sign bit. A multiplier shrinks in proportion to the width of each factor (as Horowitz' "
            "integer multipliers, 0.2 pJ at 8 bits and 3.1 pJ at 32), an adder stays whole, and so do operators that "
            "spikes do not feed.",
        ]
        once = [
            o.module for o in self.operators if o.part in PARTS[3:5] and o.macs[0] and not any(o.macs[1:])
        ]
        if once and self.T > 1:
            lines.append(f"Computed once, and counted at the first step: {', '.join(once)}.")
        if self.approximate:
            lines.append(
                f"Known on average alone, as if all neurons of a layer fired alike: {', '.join(self.approximate)}."
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "profile": asdict(self.profile),
            "assumptions": self.assumptions(),
            "T": self.T,
            "bits": self.bits,
            "samples": self.samples,
            "networks": self.networks,
            "parts": self.parts(),
            "energy_uj_per_timestep": self.per_timestep,
            "verdict": self.verdict,
            "operators": [
                o.row()
                | {
                    f"{name}_per_timestep": getattr(o, name)
                    for name in ("macs", "acs")
                    if any(getattr(o, name))
                }
                for o in self.operators
            ],
        }


def energy(counts: OperationCounts, profile: EnergyProfile) -> Energy:
    """Weigh operations.

    Args:
        counts: Of a measured network (``snn.evaluate(...).operations``).
        profile: Constants and conventions.

    Raises:
        ConfigError: The profile lacks a constant.
    """
    profile.check()
    bits = min(FULL_BITS, math.ceil(math.log2(counts.T + 1)))
    operators = [_product(one, counts, profile, bits) for one in counts.products]
    mac, zeros = profile.number("mac") + profile.number("mac_memory"), [0.0] * counts.T
    for module, op, values, at in counts.analog:
        per_value = profile.number("analog")
        macs, dense = [per_value * x for x in at], per_value * values
        what = (module, "norms and activations", op, "analog")
        spiking = [mac * x for x in macs]
        operators.append(OperatorEnergy(*what, dense, macs, zeros, zeros, mac * dense, mac * dense, spiking))
    update = profile.number("membrane") + profile.number("membrane_memory")
    for layer, updates in counts.membranes.items():
        pj = [update * x for x in updates]
        operators.append(
            OperatorEnergy(
                layer, "membranes", "membrane update", "", 0.0, zeros, zeros, updates, 0.0, 0.0, pj
            )
        )
    return Energy(
        profile, counts.T, bits, counts.samples, operators, counts.approximate, counts.instantaneous
    )


def _product(
    count: ProductCount, counts: OperationCounts, profile: EnergyProfile, bits: int
) -> OperatorEnergy:
    product, zeros = count.product, [0.0] * counts.T
    macs, acs = count.macs, zeros
    factors = [product.left, product.right].count("spikes")
    accumulated = counts.accumulated(product)
    if accumulated:
        two = bool(product.activations - {"spikes"}) or factors == 2
        part = "attention on spikes" if two else "layers on spikes"
        if count.alone or profile.non_binary == "events":
            macs, acs = zeros, _accumulates(count, factors, profile, counts.instantaneous)
    elif product.activations <= {"input", "spikes"}:
        part = "layers on the input"
        once = profile.first_layer == "once" and not counts.input_changes
        given = 1 if once else counts.input_steps
        macs = [x if t < given else 0.0 for t, x in enumerate(macs)]
    else:
        part = "layers on analog values"
    mac, mac_memory = profile.number("mac"), profile.number("mac_memory")
    ac = profile.number("ac") + profile.number("ac_memory")
    narrow = factors if accumulated else 0
    return OperatorEnergy(
        product.module,
        part,
        product.op,
        product.factors,
        count.dense,
        macs,
        acs,
        zeros,
        count.dense * (mac + mac_memory),
        count.dense * _quantized(profile, bits, narrow),
        [a * ac + m * (mac + mac_memory) for a, m in zip(acs, macs)],
    )


def _accumulates(
    count: ProductCount, factors: int, profile: EnergyProfile, instantaneous: bool
) -> list[float]:
    """Accumulates of each step of a product of spikes."""
    if factors < 2:
        return count.macs if not profile.zero_skipping else _added(*count.accumulates)
    left, right = count.accumulates if profile.zero_skipping else (count.macs, count.macs)
    sparser = [min(a, b) for a, b in zip(left, right)]
    if instantaneous or profile.attention == "one_factor":
        return sparser
    both = _added(left, right)
    return _added(both, sparser) if profile.attention == "running_sums_overlap" else both


def _quantized(profile: EnergyProfile, bits: int, factors: int) -> float:
    """Energy of a multiply-accumulate of which some factors have ``bits`` bits, in picojoules.

    The multiplier is an array of one cell per pair of bits; words are read at their width.
    """
    mac, ac, memory = (profile.number(key) for key in ("mac", "ac", "mac_memory"))
    share = bits / FULL_BITS
    return ac + (mac - ac) * share**factors + memory * (1 - factors / 2 + factors / 2 * share)


def _added(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [x + y for x, y in zip(a, b)]


def _bits(number: int) -> str:
    return f"{number} bit{'' if number == 1 else 's'}"
