"""Max-pools of spikes against their definition in plain Python, and carried and summed currents."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from respike.convert.graph.nodes import SignedMaxPool2d
from respike.simulate.rate.units import Carry, MaxPool, SummedCurrent


@st.composite
def pooled(draw):
    """A max-pool and the spikes (T, B, C, H, W) that it reads; ties are common."""
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = draw(pair), draw(pair), draw(st.sampled_from([(1, 1), (2, 1), (2, 2)]))
    padding = tuple(draw(st.integers(0, size // 2)) for size in kernel)
    sides = [draw(st.integers(3, 6)) for _ in range(2)]
    assume(all(n + 2 * p >= d * (k - 1) + 1 for n, p, d, k in zip(sides, padding, dilation, kernel, strict=True)))
    pool = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=draw(st.booleans()))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    spikes = (
        torch.rand(draw(st.integers(1, 8)), 2, 2, *sides, generator=random) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    ).double()
    return pool, spikes


def windows(pool, sides):
    """For each window, row by row, the places inside the map that it covers, in the order of the map."""
    axes = []
    for n, k, s, p, d in zip(sides, pool.kernel_size, pool.stride, pool.padding, pool.dilation, strict=True):
        steps = (n + 2 * p - d * (k - 1) - 1) / s
        count = (math.ceil(steps) if pool.ceil_mode else math.floor(steps)) + 1
        if pool.ceil_mode and (count - 1) * s >= n + p:  # the last window must start inside the map or its left padding
            count -= 1
        axes.append([[i * s - p + j * d for j in range(k) if 0 <= i * s - p + j * d < n] for i in range(count)])
    return [[[(y, x) for y in rows for x in columns] for columns in axes[1]] for rows in axes[0]]


def oracle(pool, spikes, rule):
    """The output spikes, one window after the other: what the definition says."""
    steps, batch, channels, *sides = spikes.shape
    grid = windows(pool, sides)
    found = torch.zeros(steps, batch, channels, len(grid), len(grid[0]), dtype=spikes.dtype)
    for b in range(batch):
        for c in range(channels):
            for i, row in enumerate(grid):
                for j, places in enumerate(row):
                    counts, before = [0.0] * len(places), 0.0
                    for t in range(steps):
                        now = [float(spikes[t, b, c, y, x]) for y, x in places]
                        counts = [n + new for n, new in zip(counts, now, strict=True)]
                        first = counts.index(max(counts))
                        found[t, b, c, i, j] = max(counts) - before if rule == "count" else now[first]
                        before = max(counts)
    return found


def stepped(unit, drive):
    state, spikes = unit.initial(drive[0]), []
    for now in drive:
        state = unit.step(now, state)
        spikes.append(state.spikes)
    return torch.stack(spikes)


@pytest.mark.parametrize("rule", ["count", "gate"])
@given(pooled())
def test_a_max_pool_of_spikes_is_its_definition(rule, case):
    """With overlaps, padding, dilation, ceil mode and ties, of which the gate passes the first; at most one spike a step."""
    pool, spikes = case
    unit = MaxPool(pool, rule)
    found = stepped(unit, spikes)
    assert torch.equal(found, oracle(pool, spikes, rule))
    assert bool(((found == 0) | (found == 1)).all())
    assert torch.equal(unit.scan(spikes)[0], found)


@pytest.mark.parametrize("rule", ["count", "gate"])
@given(pooled(), st.integers(1, 7))
def test_steps_in_two_parts_are_the_steps_in_one(rule, case, cut):
    pool, spikes = case
    assume(cut < len(spikes))
    unit = MaxPool(pool, rule)
    first, state = unit.scan(spikes[:cut])
    second, _ = unit.scan(spikes[cut:], state=state)
    assert torch.equal(torch.cat([first, second]), unit.scan(spikes)[0])


@given(pooled())
def test_the_count_of_a_window_is_at_every_step_that_of_its_most_active_input(case):
    pool, spikes = case
    assert torch.equal(MaxPool(pool).scan(spikes)[0].cumsum(0), torch.stack([pool(n) for n in spikes.cumsum(0)]))


@given(pooled())
def test_with_negative_signs_the_least_count_and_the_least_active_input_win(case):
    pool, spikes = case
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64)
    for rule in ("count", "gate"):
        found = stepped(MaxPool(SignedMaxPool2d(pool, sign), rule), spikes)
        assert torch.equal(found[:, :, 0], stepped(MaxPool(pool, rule), spikes)[:, :, 0])
        assert bool(((found == 0) | (found == 1)).all())
    counts = spikes.cumsum(0)
    least = -torch.stack([pool(-n) for n in counts])
    found = MaxPool(SignedMaxPool2d(pool, sign)).scan(spikes)[0].cumsum(0)
    assert torch.equal(found[:, :, 1], least[:, :, 1])


@pytest.mark.parametrize("rule", ["count", "gate"])
def test_of_a_constant_current_of_any_sign_it_is_the_maximum(rule):
    torch.manual_seed(0)
    pool, current = nn.MaxPool2d(3, 2, 1), torch.randn(1, 2, 3, 7, 6).double()
    found, _ = MaxPool(pool, rule).scan(current, steps=9)
    torch.testing.assert_close(found, pool(current[0]).expand(9, *[-1] * 4))


def test_two_equal_rates_in_antiphase_are_counted_once():
    """The gate, which passes the first of equal counts, counts both if the second in the window spikes first."""
    spikes = torch.tensor([[1.0, 0.0], [0.0, 1.0]] * 8).view(16, 1, 1, 1, 2)
    pool = nn.MaxPool2d((1, 2))
    assert MaxPool(pool).scan(spikes)[0].flatten().tolist() == [1.0, 0.0] * 8
    assert MaxPool(pool, "gate").scan(spikes)[0].flatten().tolist() == [1.0, 0.0] * 8
    assert MaxPool(pool).scan(spikes.flip(0))[0].flatten().tolist() == [1.0, 0.0] * 8
    assert MaxPool(pool, "gate").scan(spikes.flip(0))[0].flatten().tolist() == [1.0, 1.0] * 8


def test_a_carried_current_is_rounded_to_its_grid_and_a_summed_one_is_the_sum():
    current = torch.tensor([[0.4, -3.0, 5.2], [1.0, 7.0, -0.6]], dtype=torch.float64)
    assert torch.equal(Carry().scan(current)[0], current)
    assert Carry(2.0).scan(current)[0].tolist() == [[0, -2, 3], [0, 4, 0]]
    unit = SummedCurrent()
    passed, state = unit.scan(current)
    assert torch.equal(passed, current) and torch.equal(state.potential, current.sum(0))
    _, state = unit.scan(current[1:], steps=3, state=state)
    assert torch.equal(state.potential, current.sum(0) + 3 * current[1])
