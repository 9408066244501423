"""Augmentation: what each change does, and that it depends on seed, epoch and row alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn.data.augment import Augmentation
from snn.data.image import ImageSplit
from snn.data.policies import OPERATIONS, POLICIES, AutoAugment, RandAugment, make_policy
from snn.data.schema import AUGMENT_POLICIES, DatasetConfig, check
from snn.errors import DataError

ROWS, SIZE = 40, 16
EVERYTHING = {
    "augment_crop": 2,
    "augment_flip": True,
    "augment_resized_crop": [0.3, 1.0],
    "augment_policy": "autoaugment_cifar10",
    "augment_cutout": 4,
    "augment_erasing": 0.5,
    "image_size": SIZE,
}


def config(**more) -> DatasetConfig:
    return DatasetConfig(name="mine", kind="image", **more)


def augmentation(seed: int = 0, epoch: int = 0, **more) -> Augmentation:
    return Augmentation(config(**more), seed, epoch, ROWS)


@pytest.fixture(scope="module")
def split() -> ImageSplit:
    images = np.random.default_rng(0).integers(0, 256, (ROWS, SIZE, SIZE, 3), dtype=np.uint8)
    return ImageSplit(images, np.arange(ROWS), np.zeros(3, np.float32), np.ones(3, np.float32))


def test_names_are_those_of_the_schema() -> None:
    assert POLICIES == AUGMENT_POLICIES


@pytest.mark.parametrize("name", [key for key in EVERYTHING if key != "image_size"])
def test_a_picture_is_the_same_in_any_batch(name: str, split: ImageSplit) -> None:
    chosen = augmentation(image_size=SIZE, **{name: EVERYTHING[name]})
    together = split.batch(np.arange(ROWS), chosen)["pixel_values"]
    order = np.random.default_rng(1).permutation(ROWS)
    pieces = [split.batch(order[i : i + 7], chosen)["pixel_values"] for i in range(0, ROWS, 7)]
    assert torch.equal(torch.cat(pieces), together[order])
    plain = split.batch(np.arange(ROWS))["pixel_values"]
    changed = (together != plain).flatten(1).any(1).float().mean()
    assert changed > 0.2


def test_seed_and_epoch_decide(split: ImageSplit) -> None:
    rows = np.arange(ROWS)
    found = [
        split.batch(rows, augmentation(s, e, **EVERYTHING))["pixel_values"]
        for s, e in [(0, 0), (0, 1), (1, 0)]
    ]
    again = split.batch(rows, augmentation(0, 0, **EVERYTHING))["pixel_values"]
    assert torch.equal(found[0], again)
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_one_change_does_not_move_the_draws_of_another(split: ImageSplit) -> None:
    rows = np.arange(ROWS)
    flips = [augmentation(augment_flip=True, augment_crop=c).draws("flip", rows) for c in (0, 3)]
    assert np.array_equal(*flips)


def test_half_is_mirrored(split: ImageSplit) -> None:
    out = split.batch(np.arange(ROWS), augmentation(augment_flip=True))["pixel_values"]
    plain = split.batch(np.arange(ROWS))["pixel_values"]
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(out, plain)]
    assert all(torch.equal(a, b.flip(2) if m else b) for a, b, m in zip(out, plain, mirrored))
    assert 8 <= sum(mirrored) <= 32


def test_cutout_erases_one_square_clipped_at_the_border(split: ImageSplit) -> None:
    out = split.batch(np.arange(ROWS), augmentation(augment_cutout=6))["pixel_values"]
    plain = split.batch(np.arange(ROWS))["pixel_values"]
    for after, before in zip(out, plain):
        gone = ((after == 0) & (before != 0)).any(0)
        rows, columns = gone.any(1).nonzero()[:, 0], gone.any(0).nonzero()[:, 0]
        assert 3 <= len(rows) <= 6
        assert 3 <= len(columns) <= 6
        assert (after[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 0).all()
        outside = ~gone
        assert torch.equal(after[:, outside], before[:, outside])


def test_erasing_has_its_probability_and_area() -> None:
    rows = 2000
    chosen = Augmentation(config(augment_erasing=0.25), 0, 0, rows)
    erased = (chosen.normalised(torch.ones(rows, 1, 32, 32), np.arange(rows)) == 0).flatten(1).float().mean(1)
    assert (erased > 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    shares = erased[erased > 0]
    assert shares.min() > 0.005
    assert shares.max() < 0.38


def test_random_parts_have_their_area_and_shape_and_lie_inside() -> None:
    chosen = Augmentation(config(augment_resized_crop=[0.2, 0.5], image_size=8), 0, 0, 500)
    for row in range(500):
        left, top, right, bottom = chosen.box(row, 60, 40)
        assert 0 <= left < right <= 60 + 1e-4
        assert 0 <= top < bottom <= 40 + 1e-4
        ratio = (right - left) / (bottom - top)
        assert 0.74 <= ratio <= 1.34
        assert 0.15 * 2400 <= (right - left) * (bottom - top) <= 0.5001 * 2400


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_keeps_shape_type_and_range(name: str, dtype: type, channels: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, channels, 8, 8)).astype(np.uint8)
    pixels = torch.from_numpy(images if dtype == np.uint8 else images.astype(np.float32) / 255)
    strengths = (-1.0, 0.5, 1.0) if OPERATIONS[name].signed else (0.0, 0.5, 1.0)
    for strength in strengths:
        out = OPERATIONS[name].apply(pixels.clone(), strength)
        assert (out.shape, out.dtype) == (pixels.shape, pixels.dtype)
        assert out.min() >= 0
        assert out.max() <= (255 if dtype == np.uint8 else 1)


def test_operations_are_those_of_torchvision() -> None:
    """Against the pictures that torchvision's own transform makes of the same operation."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.autoaugment import _apply_op

    pixels = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    magnitudes = {
        "ShearX": 0.3 * 4 / 9,
        "TranslateY": float(int(150 / 331 * 32 * 4 / 9)),
        "Rotate": 30 * 4 / 9,
        "Brightness": 0.9 * 4 / 9,
        "Color": 0.9 * 4 / 9,
        "Contrast": 0.9 * 4 / 9,
        "Sharpness": 0.9 * 4 / 9,
        "Posterize": 6,
        "Solarize": 255 * 5 / 9,
        "AutoContrast": 0.0,
        "Equalize": 0.0,
        "Invert": 0.0,
    }
    for name, magnitude in magnitudes.items():
        ours = OPERATIONS[name].apply(pixels[None], 4 / 9)[0]
        theirs = _apply_op(pixels, name, magnitude, InterpolationMode.NEAREST, [128.0] * 3)
        same = (ours.int() - theirs.int()).abs() <= 1
        assert same.float().mean() > 0.97, name


def test_autoaugment_draws_its_pairs_with_their_probabilities() -> None:
    policy = AutoAugment("cifar10")
    draws = np.random.default_rng(0).random((20_000, 16))
    first, second = policy.steps(draws)
    wanted = np.mean([pair[0][1] for pair in policy.pairs]), np.mean([pair[1][1] for pair in policy.pairs])
    for found, share in zip((first, second), wanted):
        assert np.mean([f is not None for f in found]) == pytest.approx(share, abs=0.01)
    rotated = [f[1] for f in first if f is not None and f[0] == "Rotate"]
    assert sorted(set(rotated)) == [-2 / 9, 2 / 9]


def test_randaugment_draws_every_operation_alike() -> None:
    steps = RandAugment(3, 0.9).steps(np.random.default_rng(0).random((14_000, 16)))
    assert len(steps) == 3
    names, counts = np.unique([found[0] for found in steps[2]], return_counts=True)
    assert len(names) == 14
    assert counts.min() > 850
    assert {abs(found[1]) for found in steps[0]} == {0.9}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"augment_policy": "autoaugment_cifar"}, "did you mean 'autoaugment_cifar10'"),
        ({"augment_cutout": -1}, "dataset.augment_cutout=-1"),
        ({"augment_erasing": 1.5}, "dataset.augment_erasing=1.5"),
        ({"augment_strength": 9}, "dataset.augment_strength=9"),
        ({"augment_operations": 0}, "dataset.augment_operations=0"),
        ({"augment_resized_crop": [1.0, 0.1], "image_size": 8}, r"dataset.augment_resized_crop=\[1.0, 0.1\]"),
        ({"augment_resized_crop": [0.1, 1.0]}, "needs dataset.image_size"),
        ({"resize": 8, "image_size": 16}, "dataset.resize=8"),
        ({"interpolation": "nearest"}, "dataset.interpolation"),
        ({"broken": "ignore"}, "dataset.broken"),
        ({"in_memory": False}, "dataset.in_memory=false needs dataset.image_size"),
    ],
)
def test_wrong_settings(settings: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        check(config(**settings))


def test_an_unknown_policy_is_refused_by_its_maker_too() -> None:
    with pytest.raises(DataError, match="unknown name 'auto'"):
        make_policy("auto", 2, 0.5)
