"""uint8 / 255 in float32, the same for every layout and device; floats pass through."""

import pytest
import torch

from respike.data.pixels import to_unit

LEVELS = torch.arange(256, dtype=torch.uint8)
EXPECTED = (torch.arange(256, dtype=torch.float64) / 255).float()  # correctly rounded quotients


def test_every_level_is_the_correctly_rounded_quotient():
    assert torch.equal(to_unit(LEVELS), EXPECTED)
    assert torch.equal(to_unit(LEVELS.view(2, 2, 8, 8).transpose(1, 3)), EXPECTED.view(2, 2, 8, 8).transpose(1, 3))
    assert to_unit(LEVELS[255]) == 1 and to_unit(LEVELS[:0]).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floats_are_returned_unchanged(dtype):
    images = torch.rand(2, 1, 3, 3, dtype=dtype)
    assert to_unit(images) is images


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_numbers():
    assert torch.equal(to_unit(LEVELS.cuda()).cpu(), EXPECTED)
