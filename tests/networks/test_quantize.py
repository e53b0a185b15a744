"""Numbers of a few bits: the grids of weights and activations."""

import pytest
import torch

from respike.networks.quantize import rounded_weights


@pytest.mark.parametrize("weight_range", [(-1.0, 1.0), None])
def test_rounded_weights_hold_an_exact_zero_and_pass_gradients(weight_range):
    weight = torch.linspace(-1.3, 1.4, 1000, dtype=torch.float64).requires_grad_()
    grid = rounded_weights(weight, 4, weight_range)
    values = grid.detach().unique()
    step = float(values.diff()[0])
    assert len(values) == 16 and 0.0 in values and torch.allclose(values.diff(), values.diff()[0])
    inside = (weight.detach() >= values[0]) & (weight.detach() <= values[-1])
    assert float((grid - weight).detach()[inside].abs().max()) <= step / 2 + 1e-12
    assert abs(float(values[0]) - (-1 if weight_range else -1.3)) <= step / 2 + 1e-12
    grid.sum().backward()
    assert torch.equal(weight.grad, inside.double())
    torch.testing.assert_close(rounded_weights(grid, 4, weight_range), grid)
