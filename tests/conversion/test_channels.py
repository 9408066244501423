"""The axis of the channels, found from the layer that feeds an activation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import snn
from snn.conversion.quantize import quantizers
from snn.errors import ConversionError

RULES = [{"type": "GELU", "do": "append", "signed": True}]


class Permuted(nn.Module):
    """Goes on with the channels in front."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act = nn.Linear(6, 6), nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.layer(x).permute(0, 3, 1, 2))


class Heads(nn.Module):
    """Splits channels into heads, whose axis is the second."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act = nn.Linear(6, 6), nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.layer(x).unflatten(-1, (2, 3)).transpose(1, 2))


NETWORKS = {
    "linear": (nn.Sequential(nn.Linear(3, 7), nn.GELU()), (2, 4, 5, 3), 7),
    "norm": (nn.Sequential(nn.LayerNorm(7), nn.Dropout(), nn.GELU()), (2, 4, 5, 7), 7),
    "convolution": (nn.Sequential(nn.Conv2d(3, 7, 1), nn.GELU()), (2, 3, 4, 5), 7),
    "square convolution": (nn.Sequential(nn.Conv2d(3, 4, 1), nn.GELU()), (2, 3, 4, 4), 4),
    "permuted": (Permuted(), (2, 4, 5, 6), 6),
    "heads": (Heads(), (2, 5, 6), 2),
    "nothing before it": (nn.Sequential(nn.GELU(), nn.Conv2d(3, 7, 1)), (2, 3, 4, 5), 3),
    "tokens": (nn.Sequential(nn.Linear(3, 7), nn.GELU()), (2, 4, 3), 7),
}


def calibrated(model: nn.Module, shape: tuple[int, ...], **rule: int) -> nn.Module:
    network = snn.quantize(model.eval(), [{**RULES[0], **rule}], name="lsq")
    return snn.calibrate(network, [{"x": torch.randn(shape)}])


@pytest.mark.parametrize("name", NETWORKS)
def test_as_many_thresholds_as_channels(name: str) -> None:
    model, shape, channels = NETWORKS[name]
    network = calibrated(model, shape)
    (quantizer,) = quantizers(network).values()
    assert quantizer.threshold.numel() == channels
    # It is what any other batch size and picture size is read with.
    network(torch.randn(3, *shape[1:]))


def test_a_picture_of_another_size() -> None:
    network = calibrated(*NETWORKS["linear"][:2])
    network(torch.randn(2, 9, 8, 3))


def test_the_axis_is_part_of_the_arguments() -> None:
    (quantizer,) = quantizers(calibrated(*NETWORKS["linear"][:2])).values()
    assert quantizer.arguments()["axis"] == -1


def test_what_a_rule_says_is_kept() -> None:
    model, shape, _ = NETWORKS["linear"]
    (quantizer,) = quantizers(calibrated(model, shape, axis=1)).values()
    assert quantizer.threshold.numel() == shape[1]


def test_where_a_transposition_would_not_show_the_rule_has_to_say_it() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.GELU())
    with pytest.raises(
        ConversionError,
        match=r"1.*cannot tell where the channels of \(2, 4, 4, 4\) are; say it in the rule: axis",
    ):
        calibrated(model, (2, 4, 4, 3))
    assert calibrated(model, (2, 4, 4, 3), axis=-1)[1].quantizer_out.threshold.numel() == 4


def test_after_an_error_every_axis_is_what_it_was() -> None:
    model, shape, _ = NETWORKS["linear"]
    network = snn.quantize(model.eval(), RULES)
    with pytest.raises(RuntimeError):
        snn.calibrate(network, [{"x": torch.randn(shape)}, {"x": torch.randn(2, 2)}])
    (quantizer,) = quantizers(network).values()
    assert quantizer.axis is None
    assert not quantizer.observing


def test_swin_keeps_its_pictures_channels_last() -> None:
    import timm

    torch.manual_seed(0)
    model = timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=32,
        window_size=4,
        embed_dim=8,
        depths=(1, 1),
        num_heads=(2, 2),
    ).eval()
    network = snn.quantize(model, RULES, name="lsq")
    inputs = {"x": torch.randn(2, 3, 32, 32)}
    snn.calibrate(network, [inputs])
    assert [q.threshold.numel() for q in quantizers(network).values()] == [32, 64]
    assert snn.verify(network, snn.convert(network, "st_bif", 40), [inputs]).passed
