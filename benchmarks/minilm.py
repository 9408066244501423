"""What the benchmarks run: a BERT of MiniLM's size with random weights, its quantised form, and random texts."""

from __future__ import annotations

import torch
import yaml
from alternate import ROOT
from torch import Tensor, nn

import snn

VOCABULARY = 30522


def float_bert(quick: bool = False) -> nn.Module:
    """6 layers of width 384 with random weights, in evaluation mode; ``quick``: 1 layer of width 48."""
    torch.manual_seed(0)
    small = {"hidden_size": 48, "num_hidden_layers": 1, "intermediate_size": 192}
    return snn.create_model("bert", **(small if quick else {})).eval()


def quantized_bert(model: nn.Module, coverage: str, levels: int) -> nn.Module:
    """``model`` with QCFS per channel at the places of ``coverage`` (``full`` or ``ffn``), thresholds from
    data."""
    places = yaml.safe_load((ROOT / "conf/model/bert.yaml").read_text("utf-8"))["places"][coverage]
    qann = snn.quantize(model, places, name="qcfs", levels=levels)
    # How good the thresholds are changes no timing, so little data will do.
    return snn.calibrate(qann, [random_texts(8, 32), random_texts(8, 32)], rows=512)


def random_texts(batch: int, length: int) -> dict[str, Tensor]:
    """A batch whose texts are half as long as ``length`` to as long, padded, with labels of two classes."""
    lengths = torch.randint(length // 2, length + 1, (batch, 1))
    lengths[0] = length
    mask = (torch.arange(length) < lengths).long()
    ids = torch.randint(1000, VOCABULARY, (batch, length)) * mask
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.randint(0, 2, (batch,))}
