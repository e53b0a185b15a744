"""Surrogate derivatives: their area, their place, and other libraries' formulas."""

import math

import pytest
import torch

from respike.errors import InputError
from respike.neurons.surrogate import ATan, Rectangle, Sigmoid, Triangle

SHAPES = [Rectangle(), Rectangle(0.25), Triangle(), Triangle(0.3), Sigmoid(), Sigmoid(7.0), ATan(), ATan(0.5)]


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_is_even_and_has_the_area_of_a_spike(shape):
    x = torch.linspace(-400, 400, 4_000_001, dtype=torch.float64)
    h = shape.derivative(x)
    torch.testing.assert_close(h, h.flip(0))
    assert float(torch.trapezoid(h, x)) == pytest.approx(1, abs=3e-3)  # ATan has 4 / (pi^2 400 steepness) outside


def test_the_rectangle_is_the_repositorys_and_open():
    """aa = 0.5: abs(input) < aa, over 2 aa."""
    u = numbers(-0.5, -0.4999, 0, 0.4999, 0.5)
    assert Rectangle(0.5).derivative(u).tolist() == [0, 1, 1, 1, 0]
    assert Rectangle(0.25).derivative(u / 2).tolist() == [0, 2, 2, 2, 0]


@pytest.mark.parametrize("kind", [Rectangle, Triangle, Sigmoid, ATan])
def test_it_is_centred_on_the_threshold_or_on_zero_if_asked(kind):
    u = numbers(-0.3, 0, 0.1, 0.7)
    torch.testing.assert_close(kind()(u + 0.4, v_th=0.4), kind().derivative(u))
    torch.testing.assert_close(kind(centre="zero")(u, v_th=0.4), kind().derivative(u))


def test_the_smooth_ones_are_the_derivatives_of_their_primitives():
    """SpikingJelly 2.0: surrogate.Sigmoid(alpha=4), sigma(alpha x); surrogate.ATan(alpha=2), atan(pi/2 alpha x) / pi + 1/2."""
    x = torch.linspace(-3, 3, 101, dtype=torch.float64, requires_grad=True)
    (sigmoid,) = torch.autograd.grad((4 * x).sigmoid().sum(), x)
    (atan,) = torch.autograd.grad(((math.pi / 2 * 2 * x).atan() / math.pi).sum(), x)
    torch.testing.assert_close(Sigmoid().derivative(x), sigmoid)
    torch.testing.assert_close(ATan().derivative(x), atan)


def test_nonsense_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"surrogate\.a=0.*surrogate\.a=0\.5"):
        Rectangle(0)
    with pytest.raises(InputError, match=r"centre=middle.*threshold or zero"):
        Rectangle(centre="middle")
