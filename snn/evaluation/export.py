"""Other formats that a run may leave its network in: ``python convert.py checkpoint=FOLDER export=nir``."""

from __future__ import annotations

import logging

from torch import nn

from snn.conversion.convert import convert
from snn.conversion.nir_export import export_nir
from snn.errors import ConfigError
from snn.evaluation.session import Session

log = logging.getLogger(__name__)


def check_neuron(neuron: str) -> None:
    """Refuse a neuron that cannot be written, before the conversion.

    Raises:
        ConfigError: Names the key and what would work.
    """
    if neuron != "integrate_fire":
        raise ConfigError(f"export=nir cannot express neuron={neuron}; neuron=integrate_fire works")


def check_network(session: Session, model: nn.Module) -> None:
    """Refuse a network that cannot be written, before it is verified, which takes a while.

    Args:
        session: With its data.
        model: Quantised and calibrated.

    Raises:
        ConversionError: Something in it cannot be expressed.
    """
    export_nir(convert(model.eval(), "integrate_fire", T=1), next(iter(session.batches("validation", 1))))


def export(session: Session, network: nn.Module) -> None:
    """Write ``network.nir`` into the run's folder.

    Raises:
        ConversionError: Something in the network cannot be expressed.
    """
    path = session.folder / "network.nir"
    graph = export_nir(network, next(iter(session.batches("validation", 1))), path)
    session.summary["export"] = {"nir": path.name, "nodes": len(graph.nodes), "edges": len(graph.edges)}
    log.info("NIR: %d nodes in %s", len(graph.nodes), path)
