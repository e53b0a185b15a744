"""The neuron's equations on cases worked out by hand, and the quirks of the published search."""

import pytest
import torch

from respike.errors import InputError
from respike.neurons.ttfs import closed_form, efficacies, first_crossing, published_crossing, surplus, thresholds


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def test_a_neuron_of_the_paper_worked_out_by_hand():
    """W = (0.5, -1), b = 0.2, t_min_prev = 0, t_min = 1, B = 3: J = W / 1.5, theta = 4 + 3 sum J - (1 + sum J) 0.2."""
    weight, bias = torch.tensor([[0.5, -1.0]]).double(), torch.tensor([0.2]).double()
    J = efficacies(weight)
    torch.testing.assert_close(J, torch.tensor([[1 / 3, -2 / 3]]).double())
    total = J.sum(1)
    theta = thresholds(total, bias, 1.0, 0.0, 1.0, 4.0)
    torch.testing.assert_close(theta, torch.tensor([4 - 1 - 2 / 3 * 0.2]).double())
    extra = surplus(theta, total, 1.0, 1.0, 3.0)
    leads = closed_form(row(0.8, 0.1) @ J.T, 1 + total, extra)
    assert float(leads) == pytest.approx(0.5 * 0.8 - 0.1 + 0.2)


def test_weights_that_sum_to_one_have_no_efficacies():
    with pytest.raises(InputError, match="below 1 is needed"):
        efficacies(torch.tensor([[0.5, 0.5]]))


def crossing(arrivals, jumps, theta):
    rows, times = first_crossing(row(*arrivals), row(*jumps), torch.tensor([theta]).double())
    return float(times) if len(rows) else None


def test_the_first_crossing_is_found_on_its_segment():
    """Slopes 1, 3, -1, 2 from 0, 1, 2, 4: V is 1 at 1, 4 at 2 and 2 at 4."""
    arrivals, jumps = (0, 1, 2, 4), (1, 2, -4, 3)
    assert crossing(arrivals, jumps, 0.5) == pytest.approx(0.5)  # before the first input behind the onset
    assert crossing(arrivals, jumps, 2.5) == pytest.approx(1.5)  # V sinks below it again later
    assert crossing(arrivals, jumps, 4.0) == pytest.approx(2.0)  # touched by the peak
    assert crossing(arrivals, jumps, 4.5) is None  # only after the last
    assert crossing(arrivals, jumps, 0.0) == 0.0
    assert crossing(arrivals, jumps, -1.0) == 0.0
    assert crossing((1, 2, 3), (-1, 0, 0), 0.0) == crossing((1, 2, 3), (-1, 0, 0), -0.5) == 1.0  # where V only falls


def test_the_published_search_returns_its_first_candidate_where_none_crosses():
    """Slopes 1 - 3 and then -1 never reach 5; candidate 0 is (w t + theta) / (alpha + w) = (-3 + 5) / -2."""
    found = published_crossing(row(1, 2), row(-3, 1), torch.tensor([5.0]).double(), torch.ones(1).double(), 0.0)
    assert float(found) == pytest.approx((-3 * 1 + 5) / (1 - 3))


def test_the_published_search_has_no_segment_before_the_first_input():
    """V = t reaches 0.5 at 0.5, before the input at 1; the published candidate runs the later slope of 3 back to before it."""
    arguments = row(1, 2), row(2, 1), torch.tensor([0.5]).double(), torch.ones(1).double()
    assert float(published_crossing(*arguments, 0.0)) == pytest.approx((2 * 1 + 0.5) / 3)
    assert crossing((0, 1, 2), (1, 2, 1), 0.5) == pytest.approx(0.5)


def test_elsewhere_the_published_search_agrees_with_the_true_one():
    torch.manual_seed(0)
    arrivals = torch.rand(500, 8).double().sort(1).values + 0.1
    weights, alpha = torch.randn(500, 8).double(), torch.ones(500).double()
    theta = torch.rand(500).double() * 2 + 1.2  # above what V can be at the first input
    onset = torch.zeros(500, 1).double()
    rows, times = first_crossing(torch.cat([onset, arrivals], 1), torch.cat([alpha[:, None], weights], 1), theta)
    assert 50 < len(rows) < 450
    torch.testing.assert_close(published_crossing(arrivals, weights, theta, alpha, 0.0)[rows], times)
