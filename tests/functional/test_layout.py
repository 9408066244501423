"""Time axis and padding."""

from __future__ import annotations

import pytest
import torch

from snn.functional.padding import current_mask, valid_positions
from snn.functional.time_axis import align, fold, repeat_over_time, unfold


def test_time_is_outermost() -> None:
    x = torch.arange(24).reshape(4, 2, 3)
    assert torch.equal(unfold(fold(x), 4), x)
    assert torch.equal(fold(x)[2:4], x[1])
    assert torch.equal(unfold(repeat_over_time(x[0], 3), 3), x[0].expand(3, 2, 3))


def test_rows_must_divide_into_steps() -> None:
    with pytest.raises(ValueError, match="7 rows cannot be split into 2 time steps"):
        unfold(torch.zeros(7, 2), 2)


@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 3, 5, 6), 1), ((2, 5, 3), -1), ((2, 3), 1), ((2, 3, 5), -2)]
)
def test_a_parameter_lies_along_its_axis(shape: tuple[int, ...], axis: int) -> None:
    aligned = align(torch.tensor([1.0, 2.0, 3.0]), torch.zeros(shape), axis)
    assert torch.equal(
        (torch.zeros(shape) + aligned).movedim(axis, -1).reshape(-1, 3)[-1], torch.tensor([1.0, 2.0, 3.0])
    )
    assert align(torch.ones(1), torch.zeros(shape), axis).shape == ()


def test_the_mask_finds_the_token_axis() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    with valid_positions(mask):
        assert torch.equal(current_mask(torch.zeros(2, 3, 7))[..., 0], mask.bool())
        assert torch.equal(current_mask(torch.zeros(2, 4, 3, 5))[:, 0, :, 0], mask.bool())
        assert current_mask(torch.zeros(2, 7)) is None
        assert current_mask(torch.zeros(6, 3, 7)) is None
        with valid_positions(None):
            assert current_mask(torch.zeros(2, 3, 7)) is None
    assert current_mask(torch.zeros(2, 3, 7)) is None
