"""What a simulation must not depend on, what spike counts converge to, and what is counted."""

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from respike.convert import no_norm, percentile_norm
from respike.errors import InputError
from respike.networks.mlp import MLP
from respike.neurons.encode import Current, Rate
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import SpikeRecord, simulate, simulate_stepwise
from respike.simulate.rate import layerwise
from respike.simulate.record import predict

INDEX = torch.tensor([3, 0, 4096, 17, 59_999, 8])
SOFT = IntegrateFire(reset="subtract")
GRID = {"weight_bits": 8, "duration": 0.012}


@pytest.mark.parametrize("encode", [Rate(700.0), Current()])
def test_on_the_grid_no_cut_of_the_work_changes_a_spike(draw_snn, assert_same_record, wiring, encode):
    snn, images = draw_snn(wiring)
    settings = GRID | {"encode": encode}
    whole = simulate(snn, images, index=INDEX, **settings)
    halves = [simulate(snn, images[part], index=INDEX[part], **settings) for part in (slice(3), slice(3, 6))]
    assert_same_record(SpikeRecord.merge(halves), whole)
    for chunk in (1, 4):
        assert_same_record(simulate(snn, images, index=INDEX, chunk=chunk, **settings), whole)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert_same_record(simulate(snn, images, index=INDEX, **settings), whole)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("readout", ["counts", "current"])
@pytest.mark.parametrize("max_pool", ["count", "gate", "before_neuron"])
@pytest.mark.parametrize("bits", [8, 14])
def test_layers_without_neurons_are_those_of_the_reference(
    every_unit, assert_same_record, monkeypatch, bits, max_pool, readout
):
    """Also in blocks of few steps, between which counts and potentials are carried."""
    net, images = every_unit()
    snn = percentile_norm(net, images, scale="channel", max_pool=max_pool, readout=readout)
    settings = {"weight_bits": bits, "neuron": IntegrateFire(1.0, "subtract", 0.5), "duration": 0.017}
    for encode, drop_first in ((Current(), True), (Rate(800.0), False)):
        chosen = settings | {"encode": encode, "drop_first_output": drop_first}
        expected = simulate_stepwise(snn, images, **chosen)
        assert expected.counts.abs().sum() > 0
        assert_same_record(simulate(snn, images, **chosen), expected)
        for steps in (1, 5):
            monkeypatch.setattr(layerwise, "BLOCK", steps * len(images) * 4 * 7 * 8 * 8)
            assert_same_record(simulate(snn, images, **chosen), expected)


@hypothesis_settings(max_examples=10)
@given(st.permutations(range(6)), st.integers(0, 20))
def test_on_the_grid_moving_images_moves_their_results(draw_snn, order, seed):
    snn, images = draw_snn("cnn", seed)
    order = torch.tensor(order)
    here = simulate(snn, images, index=INDEX, **GRID)
    there = simulate(snn, images[order], index=INDEX[order], **GRID)
    assert torch.equal(there.predicted, here.predicted[:, order])
    assert torch.equal(there.counts, here.counts[order])
    assert all(torch.equal(there.spikes[name], here.spikes[name]) for name in here.spikes)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_the_grid_the_device_changes_no_spike(draw_snn, assert_same_record):
    for wiring, encode in (("cnn", Rate(700.0)), ("projection", Rate(700.0)), ("input skip", Current())):
        snn, images = draw_snn(wiring)
        settings = GRID | {"encode": encode}
        here = simulate(snn, images, index=INDEX, **settings)
        assert_same_record(simulate(snn.to("cuda"), images.to("cuda"), index=INDEX, **settings), here)


def test_spikes_follow_the_seed_and_the_image_numbers(draw_snn):
    snn, images = draw_snn("fc")
    counts = simulate(snn, images, index=INDEX).spikes["input"]
    assert torch.equal(simulate(snn, images, index=INDEX, seed=0).spikes["input"], counts)
    assert not torch.equal(simulate(snn, images, index=INDEX, seed=1).spikes["input"], counts)
    assert not torch.equal(simulate(snn, images, index=INDEX + 1).spikes["input"], counts)


def test_bytes_are_pixels_over_255(draw_snn, assert_same_record):
    snn, images = draw_snn("cnn")
    pixels = (images * 255).round().to(torch.uint8)
    assert_same_record(simulate(snn, pixels, **GRID), simulate(snn, pixels.float() / 255, **GRID))


@pytest.mark.parametrize("encode", [Rate(700.0), Current()])
@pytest.mark.parametrize("order", [(1, 2, 3, 0), (2, 3, 0, 1)])
def test_the_layout_of_images_in_memory_changes_nothing(draw_snn, assert_same_record, order, encode):
    snn, images = draw_snn("cnn")
    pixels, back = (images * 255).round().to(torch.uint8), tuple(order.index(axis) for axis in range(4))
    laid = pixels.permute(order).contiguous().permute(back)
    assert not laid.is_contiguous() and torch.equal(laid, pixels)
    for one, other in ((pixels, laid), (pixels / 255, laid / 255)):
        assert_same_record(simulate(snn, other, **GRID, encode=encode), simulate(snn, one, **GRID, encode=encode))


@pytest.mark.parametrize("steps", [1, 7, 40, 200])
@pytest.mark.parametrize(("start", "low", "high"), [(0.0, -1, 0), (0.5, -0.5, 0.5)])
def test_first_layer_counts_are_rounded_activations(steps, start, low, high):
    """Current input and soft reset: T clip(a, 0, 1) rounded down; to nearest with a start at half the threshold."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 30)).double()
    images = torch.rand(20, 1, 3, 4).double() * 3
    record = simulate(
        no_norm(net),
        images,
        encode=Current(),
        weight_bits=None,
        neuron=IntegrateFire(reset="subtract", start=start),
        duration=steps / 1000,
    )
    error = record.counts - steps * net(images).clamp(0, 1)
    assert low - 1e-9 <= error.min() and error.max() <= high + 1e-9
    assert (net(images) > 1).any() and (net(images) < 0).any()


@pytest.mark.parametrize("steps", [5, 50, 400])
def test_rates_converge_to_activations_layer_by_layer(draw_net, steps):
    """Weights >= 0 whose sums are at most 1 and soft reset keep potentials in [0, 1): layer l is off by less than l/T."""
    for wiring in ("fc", "cnn"):
        net, images = draw_net(wiring, bias=False)
        for weight in net.parameters():
            weight.data.abs_()
            weight.data /= weight.flatten(1).sum(1).view(-1, *[1] * (weight.ndim - 1))
        depth, settings = 0, {"encode": Current(), "neuron": SOFT, "duration": steps / 1000, "weight_bits": None}
        for stop, module in enumerate(net, start=1):
            depth += isinstance(module, nn.Linear | nn.Conv2d | nn.AvgPool2d)
            if isinstance(module, nn.ReLU | nn.AvgPool2d) or stop == len(net):
                part = nn.Sequential(*list(net)[:stop])
                rates = simulate(no_norm(part), images, **settings).counts / steps
                error = (rates - part(images).detach().flatten(1)).abs().max()
                assert error <= depth / steps + 1e-9
        assert depth >= 4


def brute_force_synops(spikes, conv):
    """Per step, edges that spikes (T, C, H, W) reach in a convolution, walked one by one."""
    (k, _), (stride, _), (pad, _) = conv.kernel_size, conv.stride, conv.padding
    rows, columns = ((size + 2 * pad - k) // stride + 1 for size in spikes.shape[2:])
    operations = [0] * len(spikes)
    for t, _, y, x in spikes.nonzero().tolist():
        for oy in range(rows):
            for ox in range(columns):
                inside = 0 <= y - (oy * stride - pad) < k and 0 <= x - (ox * stride - pad) < k
                operations[t] += conv.out_channels * inside
    return operations


def test_synaptic_operations_are_the_edges_that_spikes_reach():
    """Padding and stride give pixels at the border fewer edges; a pool leaves a column over; Linear has one per class."""
    torch.manual_seed(0)
    convs = nn.Conv2d(1, 2, 3, 1, 1), nn.Conv2d(2, 3, 3, 2, 1)
    net = nn.Sequential(
        convs[0], nn.ReLU(), nn.AvgPool2d(2), convs[1], nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)
    ).double()
    for conv in convs:
        conv.weight.data.abs_()
    images = torch.rand(3, 1, 6, 7)
    record = simulate(no_norm(net), images, neuron=IntegrateFire(0.5), duration=0.008, trace=[0, 1, 2])
    expected = {name: torch.zeros(8, dtype=torch.int64) for name in record.synops}
    for trace in record.traces.values():
        s = trace.spikes
        expected["conv1"] += torch.tensor(brute_force_synops(s["input"], convs[0]))
        expected["avgpool1"] += s["conv1"][..., :6].sum((1, 2, 3)).long()
        expected["conv2"] += torch.tensor(brute_force_synops(s["avgpool1"], convs[1]))
        expected["linear1"] += s["conv2"].sum((1, 2, 3)).long() * 4
    assert record.synops.keys() == expected.keys()
    for name, operations in expected.items():
        assert operations.sum() > 0 and torch.equal(record.synops[name], operations), name


def test_an_analog_input_causes_products_and_no_spikes():
    record = simulate(no_norm(MLP([12, 7, 3])), torch.rand(2, 1, 3, 4), encode=Current(), duration=0.005)
    assert "input" not in record.spikes and record.synops["linear1"].sum() == 0
    assert record.analog_macs == 12 * 7
    assert record.ann_macs == 12 * 7 + 7 * 3
    assert simulate(no_norm(MLP([12, 7, 3])), torch.rand(2, 1, 3, 4), encode=Rate(), duration=0.005).analog_macs == 0


@given(st.lists(st.lists(st.integers(0, 300_000), min_size=5, max_size=5), min_size=1, max_size=8))
def test_the_prediction_has_most_spikes_and_ties_go_to_the_lowest_class(counts):
    assert predict(torch.tensor(counts, dtype=torch.int32)).tolist() == [row.index(max(row)) for row in counts]


def test_without_any_output_spike_the_lowest_class_is_predicted():
    record = simulate(no_norm(MLP([4, 3])), torch.zeros(5, 1, 2, 2), duration=0.003)
    assert record.counts.sum() == 0 and (record.predicted == 0).all()


def test_the_output_layer_misses_its_first_input_and_nothing_else(draw_snn, wiring):
    snn, images = draw_snn(wiring)
    plain, dropped = (
        simulate(snn, images, drop_first_output=choice, neuron=IntegrateFire(0.25), **GRID) for choice in (False, True)
    )
    assert plain.spikes[snn.output][0] > 0 and dropped.spikes[snn.output][0] == 0
    for name in plain.spikes:
        if name != snn.output:
            assert torch.equal(plain.spikes[name], dropped.spikes[name])


@pytest.mark.parametrize("readout", ["counts", "current"])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_a_delayed_read_out_is_what_the_later_steps_add(every_unit, readout, backend):
    """The sums over steps t0 + 1 .. t are those up to t minus those up to t0; spikes, operations and times do not change."""
    net, images = every_unit()
    snn = percentile_norm(net, images, scale="channel", readout=readout)
    settings = {"neuron": IntegrateFire(1.0, "subtract", start=0.5), "encode": Current(), "backend": backend}
    whole, early = (simulate(snn, images, duration=steps / 1000, **settings) for steps in (9, 4))
    late = simulate(snn, images, duration=0.009, read_from=4, **settings)
    assert torch.equal(late.counts, whole.counts - early.counts) and (late.counts != whole.counts).any()
    assert (late.predicted[:4] == -1).all() and torch.equal(late.predicted[-1], predict(late.counts))
    for t in range(5, 9):
        read = simulate(snn, images, duration=t / 1000, **settings).counts - early.counts
        assert torch.equal(late.predicted[t - 1], predict(read))
    for name in ("spikes", "synops"):
        assert all(torch.equal(values, getattr(whole, name)[layer]) for layer, values in getattr(late, name).items())
    assert late.steps == 9 and torch.equal(late.times_ms, whole.times_ms)


def test_a_first_step_more_that_the_output_misses_only_shifts_time():
    """One layer under constant current: t = 0 .. 12 ms without input at t = 0 is dt .. 12 ms, a step later."""
    torch.manual_seed(0)
    snn, images = no_norm(MLP([12, 5], bias=True)), torch.rand(8, 1, 3, 4)
    settings = GRID | {"encode": Current(), "neuron": IntegrateFire(0.5)}
    plain, shifted = (
        simulate(snn, images, **settings),
        simulate(snn, images, start_at_zero=True, drop_first_output=True, **settings),
    )
    assert torch.equal(shifted.spikes["linear1"], torch.cat([torch.tensor([0]), plain.spikes["linear1"]]))
    assert torch.equal(shifted.counts, plain.counts) and plain.counts.sum() > 0
    assert shifted.times_ms[1:].tolist() == pytest.approx(plain.times_ms.tolist()) and shifted.times_ms[0] == 0


@pytest.mark.parametrize("threshold", [0.5, 2.0])
def test_a_higher_threshold_is_smaller_weights(threshold):
    """In a net of one layer; in float64 and by a power of two, so that every potential scales exactly."""
    torch.manual_seed(0)
    net, images = MLP([12, 6]).double(), torch.rand(9, 1, 3, 4)
    record = simulate(no_norm(net), images, neuron=IntegrateFire(threshold))
    net[1].weight.data /= threshold
    assert torch.equal(simulate(no_norm(net), images).counts, record.counts) and record.counts.sum() > 0


def test_the_record_does_not_grow_with_steps_times_classes_times_images():
    numbers = {}
    for steps in (10, 20):
        record = simulate(no_norm(MLP([4, 50])), torch.rand(8, 1, 2, 2), duration=steps / 1000)
        kept = [
            record.index,
            record.counts,
            record.predicted,
            record.times_ms,
            *record.spikes.values(),
            *record.synops.values(),
        ]
        numbers[steps] = sum(tensor.numel() for tensor in kept)
    per_step = 8 + 1 + 2 + 1  # a prediction per image, the time, spikes of input and output, operations
    assert numbers[20] - numbers[10] == 10 * per_step


def test_the_grid_comes_close_to_the_floats_as_bits_are_added(draw_snn):
    """Rounding to b bits moves a first-layer potential by at most T x pixels x half a unit."""
    snn, images = draw_snn("fc", bias=False)
    exact = simulate(snn, images, encode=Current(), neuron=SOFT, duration=0.1).counts
    errors = [
        (simulate(snn, images, encode=Current(), neuron=SOFT, duration=0.1, weight_bits=bits).counts - exact)
        .abs()
        .sum()
        for bits in (3, 6, 16)
    ]
    assert errors[0] > errors[1] >= errors[2] and errors[2] <= 2


def test_wrong_numbers_of_images_are_refused(draw_snn):
    snn, images = draw_snn("fc")
    with pytest.raises(InputError, match="6 images but 2 image numbers"):
        simulate(snn, images, index=torch.tensor([1, 2]))
    with pytest.raises(InputError, match="no image"):
        simulate(snn, images[:0])
    with pytest.raises(InputError, match="no image"):
        SpikeRecord.merge([])


def test_a_simulation_leaves_network_and_images_alone(draw_snn, wiring):
    snn, images = draw_snn(wiring)
    before, pixels = {name: value.clone() for name, value in snn.state_dict().items()}, images.clone()
    for bits in (None, 8):
        simulate(snn, images, weight_bits=bits, encode=Current(), duration=0.003)
    assert torch.equal(images, pixels)
    assert all(torch.equal(value, before[name]) for name, value in snn.state_dict().items())
