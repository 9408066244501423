"""Gradients of QCFS beside those of ReLU, layer by layer, over one batch of training pictures.

python multirun/reference/resnet20_qcfs/gradients.py outputs/resnet20_qcfs/cifar10_jpeg/seed_0 DATA/cifar10

The networks are those of ``run.sh cifar10_jpeg bf16`` after five epochs from the trunk that they share.
"""

from __future__ import annotations

import sys

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

import snn
from snn.config import typed
from snn.data.load import load_dataset
from snn.launch import CONF, register
from snn.tracking.table import text_table
from snn.training.losses import classification_loss


def gradients(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, float]:
    """Norm of the gradient of each kernel, the first layer's first."""
    logits = model.train()(pixel_values=batch["pixel_values"])
    classification_loss(logits, batch["labels"]).backward()
    return {
        name: float(p.grad.norm())
        for name, p in model.named_parameters()
        if p.dim() > 1 and p.grad is not None
    }


def main(folder: str, data: str) -> None:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = typed(
            compose("train", ["model=resnet20", "dataset=cifar10_jpeg", f"dataset.data_dir={data}"])
        )
    torch.manual_seed(0)
    batch = next(iter(load_dataset(config.dataset, seed=0).loader("train", 128, shuffle=True, epoch=1)))
    relu, qcfs = (
        gradients(snn.load(f"{folder}/{name}"), batch)
        for name in ("bf16_relu/stages/float", "bf16_4/stages/quantized")
    )
    rows = [[name, relu[name], qcfs[name], qcfs[name] / relu[name]] for name in relu]
    sys.stdout.write(f"{text_table(['gradient of', 'ReLU', 'QCFS, L = 4', 'ratio'], rows)}\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(
            "python gradients.py FOLDER DATA, such as outputs/resnet20_qcfs/cifar10_jpeg/seed_0 DATA/cifar10"
        )
    main(*sys.argv[1:])
