import pytest
import torch

from respike.lit.schedules import cosine, one_cycle


def rates(make, steps, lr):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = make(optimizer, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_one_cycle_peaks_at_max_lr_at_thirty_percent_and_ends_near_nothing():
    found = rates(lambda optimizer, steps: one_cycle(optimizer, steps, max_lr=0.1), 101, 0.1)
    assert max(found) == pytest.approx(0.1, rel=1e-3)
    assert found.index(max(found)) in (29, 30)
    assert found[-1] < 1e-4


def test_cosine_falls_from_the_rate_to_nothing_through_its_half():
    found = rates(cosine, 100, 0.2)
    assert found[0] == 0.2
    assert found[50] == pytest.approx(0.1)
    assert found == sorted(found, reverse=True)
    assert found[-1] < 1e-3
