"""Every spike before t_max is a dot at its time, none at t_max is; shares add up; potentials meet what the record holds."""

import dataclasses
from itertools import pairwise

import pytest
import torch

from respike.convert.exact.mapping import exact_map
from respike.figures.spike_times import (
    chosen_neurons,
    hidden_potentials,
    layer_windows,
    output_potentials,
    raster,
    spike_time_distributions,
)
from respike.figures.style import PALETTE
from respike.simulate.ttfs import simulate_ttfs
from respike.simulate.ttfs.potentials import potentials

WINDOWS = {"input": (0.0, 1.0), "fc": (1.0, 4.0)}
TIMES = {"input": torch.tensor([[0.0, 1.0], [0.25, 1.0]]), "fc": torch.tensor([0.5, 2.0, 3.0, 3.5, 4.0])}


def dots(axes):
    return [collection.get_offsets() for collection in axes.collections if len(collection.get_offsets()) > 1]


def test_a_raster_has_a_dot_for_each_spike_before_t_max_in_its_layers_band():
    (axes,) = raster(TIMES, WINDOWS, 4.0, "image 3").axes
    first, second = dots(axes)
    assert first[:, 0].tolist() == [0.0, 0.25] and second[:, 0].tolist() == [0.5, 2.0, 3.0, 3.5]
    assert (first[:, 1] < 1).all() and (second[:, 1] >= 1).all()
    assert [text.get_text() for text in axes.texts][:2] == ["50.0 % spike", "80.0 % spike"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["input\n4 neurons", "fc\n5 neurons"]
    (reading,) = axes.get_lines()
    assert set(reading.get_xdata()) == {4.0}


def test_of_a_large_layer_a_sample_is_drawn_and_the_share_is_of_all():
    times = {"big": torch.linspace(0, 1, 20001)[:-1].repeat(2)[:30000]}
    (axes,) = raster(times, {"big": (0.0, 0.5)}, 1.0, "x").axes
    assert "66.7 % spike\n4,000 drawn" in [text.get_text() for text in axes.texts]
    assert len(dots(axes)[0]) == pytest.approx(4000 * 2 / 3, rel=0.05)


def test_where_an_interval_is_too_short_to_see_all_become_equally_wide():
    windows = {"input": (0.0, 1.0), "a": (1.0, 99.0), "b": (99.0, 99.5)}
    (axes,) = raster({name: torch.tensor(window) for name, window in windows.items()}, windows, 99.5, "x").axes
    places = [axes.transData.transform((time, 0))[0] for time in (0, 1, 99, 99.5)]
    widths = [b - a for a, b in pairwise(places)]
    assert widths == pytest.approx([widths[0]] * 3)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "1", "99", "99.5"]


def test_a_distributions_bars_and_its_silent_share_are_all_neurons():
    figure = spike_time_distributions(TIMES, WINDOWS, 1)
    for axes, silent in zip(figure.axes, (50, 20), strict=False):
        (stairs,) = [patch for patch in axes.patches if hasattr(patch, "get_data")]
        assert sum(stairs.get_data().values) == pytest.approx(100 - silent)
        assert axes.texts[0].get_text() == f"{silent:.1f} % silent"
    assert figure.axes[1].get_xlim() == (0.5, 4.0)  # one fires before its interval


def test_neurons_are_chosen_from_early_to_late_and_a_silent_one():
    times = torch.tensor([[4.0, 3.0, 1.5], [2.0, 2.5, 4.0]])
    assert chosen_neurons(times, 4.0, 4) == [2, 4, 1, 5]
    assert chosen_neurons(times, 4.0, 20) == [2, 3, 4, 1, 5]
    assert chosen_neurons(times, 4.0, 1) == [2]
    assert chosen_neurons(torch.full((3,), 4.0), 4.0, 2) == [1]
    assert chosen_neurons(torch.tensor([1.0, 2.0]), 4.0, 2) == [0, 1]


@pytest.fixture(scope="module")
def traced():
    """A small net, its record of one image, and that image's spike times."""
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3))
    images = torch.rand(20, 1, 4, 4)
    snn = exact_map(net.double(), images)
    record = simulate_ttfs(snn, images[:1], trace=[0])
    return snn, record, record.spike_times[0]


def test_a_potential_is_drawn_to_its_spike_with_its_threshold_and_its_inputs_below(traced):
    snn, _, spikes = traced
    windows, name = layer_windows(snn), next(iter(snn.layers))
    neurons = potentials(snn, name, spikes, chosen_neurons(spikes[name], windows[name][1], 3))
    figure = hidden_potentials({name: neurons}, windows, "image 0")
    above, below = figure.subfigs[0].axes[:3], figure.subfigs[0].axes[3:]
    for top, bottom, neuron in zip(above, below, neurons, strict=True):
        lines = {line.get_label(): line for line in top.get_lines()}
        assert lines["potential V"].get_xdata()[-1] == neuron.spike
        assert set(lines["threshold"].get_ydata()) == {neuron.theta}
        if neuron.spike < windows[name][1]:
            assert lines["potential V"].get_ydata()[-1] == pytest.approx(neuron.theta)
        strokes = sum(len(collection.get_segments()) for collection in bottom.collections)
        assert strokes == int((spikes["input"] < 1).sum())


def test_a_neuron_without_inputs_is_drawn_too(traced):
    snn, _, spikes = traced
    windows, name = layer_windows(snn), next(iter(snn.layers))
    (neuron,) = potentials(snn, name, spikes, [0])
    alone = dataclasses.replace(neuron, arrivals=neuron.arrivals[:0], weights=neuron.weights[:0])
    bottom = hidden_potentials({name: [alone]}, windows, "image 0").subfigs[0].axes[1]
    assert [text.get_text() for text in bottom.texts] == ["0 input spikes"]


def test_output_bars_are_what_the_record_reads_and_the_largest_is_named(traced):
    snn, record, spikes = traced
    outputs = potentials(snn, list(snn.layers)[-1], spikes, range(3))
    named = int(record.predicted[0])
    wrong = (named + 1) % 3
    left, right = output_potentials(outputs, record.logits[0], wrong, ["a", "b", "c"], "x").axes
    assert [bar.get_width() for bar in right.patches] == pytest.approx(record.logits[0].tolist())
    assert right.get_title(loc="left") == f"predicted: {'abc'[named]} (true class: {'abc'[wrong]})"
    lines = {line.get_label(): line for line in left.get_lines()}
    true, other = lines[f"{'abc'[wrong]}, true class"], lines[f"{'abc'[named]}, predicted class"]
    assert (true.get_color(), other.get_color()) == PALETTE[:2]
    assert other.get_ydata()[-1] == pytest.approx(float(record.logits[0].max()))
    assert true.get_xdata()[-1] == snn.latency
