"""Verification within a run: which batches, what is allowed, and the files that it leaves."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

from snn.conversion.attribution import attribute
from snn.conversion.network import SpikingNetwork
from snn.conversion.verify import verify
from snn.evaluation.session import Session
from snn.tracking.files import write_text

log = logging.getLogger(__name__)


def verify_network(
    session: Session, model: nn.Module, network: SpikingNetwork, record: dict[str, Any]
) -> str:
    """Compare the two networks on validation batches, and say where an inexact conversion loses.

    Args:
        session: Its config says what is compared and allowed; ``conversion.csv`` goes into its folder.
        model: The quantised network.
        network: Its spiking network.
        record: Gets ``verification`` and, if it was measured, ``attribution``.

    Returns:
        Both as Markdown. Whether the conversion passed is in ``record``.
    """
    asked = session.config.conversion
    dtype = None if asked.verify_dtype is None else getattr(torch, asked.verify_dtype)
    loader = session.batches("validation", asked.verify_batch_size, limit=asked.verify_batches)
    batches = [{k: v.to(session.device) for k, v in batch.items()} for batch in loader]
    report = verify(
        model,
        network,
        batches,
        dtype=dtype,
        tolerance=asked.tolerance,
        max_error=asked.max_error,
        min_agreement=asked.min_agreement,
        require_settled=asked.require_settled,
    )
    log.log(logging.WARNING if report.unsettled else logging.INFO, "verification: %s", report.verdict)
    record["verification"] = report.to_dict()
    write_text(session.folder / "conversion.csv", report.to_csv())
    text = "\n## Verification\n\n" + report.to_markdown()
    if asked.attribute or (asked.attribute is None and not report.exact):
        found = attribute(model, network, batches)
        log.info("attribution: %s", found.verdict)
        record["attribution"] = found.to_dict()
        text += "\n## Where accuracy is lost\n\n" + found.to_markdown()
    return text
