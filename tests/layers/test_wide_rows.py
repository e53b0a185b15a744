"""Images side by side give the convolutions of the images alone, values and gradients; only where rows are slow."""

import pytest
import torch
from torch import nn

from respike.layers.wide_rows import convolve, in_wide_rows


@pytest.mark.parametrize(
    ("shape", "stride", "width"),
    [
        ((8, 7, 7), 1, 32),  # four images of 7 columns and a gap of one
        ((6, 7, 7), 1, 24),  # six images are two rows of three
        ((4, 8, 8), 1, 18),  # of three images that fit, only two divide four
        ((12, 14, 14), 2, 32),  # a gap of two keeps the stride
        ((6, 7, 13), 2, 28),
        ((7, 9, 9), 1, 9),  # nothing divides seven: each image alone
    ],
)
def test_values_and_gradients_are_those_of_each_image_alone(shape, stride, width):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3, stride, 1, bias=False).double()
    x = torch.randn(shape[0], 3, *shape[1:], dtype=torch.float64, requires_grad=True)
    expected, seen = conv(x), []
    conv.register_forward_hook(lambda _module, given, _output: seen.append(given[0].shape[-1]))
    found = in_wide_rows(conv, x)
    assert seen == [width]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    gradient = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, [x, conv.weight], gradient),
        torch.autograd.grad(expected, [x, conv.weight], gradient),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_images_lie_side_by_side_in_training_with_bfloat16_on_amx_alone(monkeypatch):
    conv, x, seen = nn.Conv2d(3, 5, 3, 1, 1, bias=False), torch.randn(8, 3, 7, 7), []
    conv.register_forward_hook(lambda _module, given, _output: seen.append(given[0].shape[-1]))
    for amx in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda amx=amx: {"amx_bf16": amx})
        with torch.autocast("cpu", torch.bfloat16):
            convolve(conv, x)
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            convolve(conv, x)
        convolve(conv, x)
    assert seen == [32, 7, 7, 7, 7, 7]
