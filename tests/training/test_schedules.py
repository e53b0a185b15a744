import functools

import pytest
import torch

from respike.training.schedules import cosine, exponential, one_cycle, staircase


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


def test_the_published_decay_is_a_tenth_in_five_thousand_steps_and_smooth():
    found = rates(functools.partial(exponential, factor=0.9, every=5000), 5001, 5e-4)
    assert found[-1] == pytest.approx(4.5e-4) and found[2500] == pytest.approx(5e-4 * 0.9**0.5)


def test_the_published_staircase_halves_every_twenty_epochs():
    found = rates(functools.partial(staircase, factor=0.5, every=20, epochs=250), 7 * 250, 0.1)
    assert [found[7 * epoch] for epoch in (19, 20, 39, 40, 60)] == [0.1, 0.05, 0.05, 0.025, 0.0125]
