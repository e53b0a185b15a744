"""A directly trained network counted: every spike, every synapse it reaches, every potential."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from respike.errors import InputError
from respike.layers.recording import spike_hooks
from respike.metrics.activity import activities, activities_over_steps, activity_metrics
from respike.metrics.energy import energy_metrics
from respike.networks.resnet19 import SpikingResNet19
from respike.simulate.connections import network_connections
from respike.simulate.direct.evaluate import potential_histograms, simulate_direct


@pytest.fixture(scope="module")
def net():
    """A trained-looking narrow network all of whose layers fire, folded."""
    torch.manual_seed(0)
    net = SpikingResNet19(mean=[0.3], std=[0.2], width_mult=1 / 16, blocks=[1, 2], hidden=12, input_shape=(1, 9, 9))
    for name, parameter in net.named_parameters():
        if name.startswith("fc"):
            parameter.data *= 8
    for _ in range(20):
        net(images())
    return net.eval().folded()


def images(count=6):
    return torch.rand(count, 1, 9, 9, generator=torch.Generator().manual_seed(1))


def all_spikes(net, x, steps):
    found = {}
    with torch.inference_mode(), spike_hooks(net, found.__setitem__):
        output = net.spikes(x, steps)
    return found, output


def reached(spikes, net):
    """Synaptic operations by counting: unit weights on the spikes, summed over all that they arrive at."""
    counts = {}
    for name, drives in net.synapses().items():
        total = 0
        for source, path in drives:
            if source == "input":
                continue
            y = spikes[source].flatten(0, 1).double()
            for module in path:
                if isinstance(module, nn.Conv2d):
                    y = F.conv2d(y, torch.ones_like(module.weight).double(), None, module.stride, module.padding)
                elif isinstance(module, nn.Linear):
                    y = y @ torch.ones_like(module.weight).double().T
                elif isinstance(module, nn.AdaptiveAvgPool2d):
                    y = y.sum((2, 3), keepdim=True)
                else:
                    y = module(y)
            total += int(y.sum())
        counts[name] = total
    return counts


def test_spikes_and_synaptic_operations_are_counted_one_by_one(net):
    spikes, _ = all_spikes(net, images(), 3)
    record = simulate_direct(net, images(), steps=3, chunk=4)  # the cut changes nothing
    assert set(record.spikes) == set(net.spiking_layers()) and all(int(v.sum()) for v in spikes.values())
    for name, values in spikes.items():
        assert record.spikes[name].tolist() == values.flatten(1).sum(1).long().tolist()
        assert record.neurons[name] == values[0, 0].numel()
    assert {name: int(values.sum()) for name, values in record.synops.items()} == reached(spikes, net)


def test_the_synapses_drive_the_network_as_it_runs(net):
    """Each layer's currents, rebuilt from the spikes of the sources that it names, make its spikes."""
    spikes, _ = all_spikes(net, images(), 1)
    with torch.inference_mode():
        pixels = net.standardize(images())
        for name, drives in net.synapses().items():
            sources = [pixels if source == "input" else spikes[source][0] for source, _ in drives]
            current = sum(nn.Sequential(*path)(y) for (_, path), y in zip(drives, sources, strict=True))
            assert torch.equal((current > 0.4).float(), spikes[name][0]), name


def test_predictions_per_step_are_those_of_the_mean_spikes_up_to_it(net):
    _, output = all_spikes(net, images(), 4)
    record = simulate_direct(net, images(), steps=4)
    for step in range(1, 5):
        assert record.predicted[step - 1].tolist() == output[:step].mean(0).argmax(1).tolist()
    assert simulate_direct(net, images()).steps == net.steps == 2


def test_pixels_of_a_byte_are_those_of_255ths(net):
    whole = (images() * 255).round()
    record, other = (simulate_direct(net, x) for x in (whole.byte(), whole / 255))
    assert all(torch.equal(record.spikes[name], other.spikes[name]) for name in record.spikes)


def test_rates_are_per_step_and_the_first_layer_pays_for_products(net):
    record = simulate_direct(net, images(), steps=3)
    metrics, over = activity_metrics(record), activities_over_steps(record)
    for name, rate in activities(record).items():
        assert metrics[f"snn/activity/{name}"] == rate == pytest.approx(sum(over[name]) / 3)
    assert record.dt is None and record.times_ms is None and not any(name.startswith("snn/rate") for name in metrics)
    stem = 4 * (9 * 81 - 4 * 27 + 4)  # 3x3 kernels of one channel on 9x9 pixels, without what lies outside
    assert record.analog_macs == stem
    energy = energy_metrics(record)["energy/snn_nj"]
    assert energy == pytest.approx((0.9 * metrics["snn/synops_per_image"] + 4.6 * 3 * stem) / 1000)


def test_products_of_a_pass_leave_shortcuts_without_weights_out(net):
    layers = {layer.name: layer.macs for layer in network_connections(net.synapses(), (1, 9, 9)).layers}
    assert layers["block3.2"][1] == 0 and layers["block2.2"][1] == 16 * 8 * 25 and layers["fc1"] == (16 * 12,)


def test_potentials_above_the_threshold_are_the_spikes(net):
    counts = potential_histograms(net, images(), -0.4, 1.2, bins=40, steps=3)  # 0.4 is the edge of two bins
    record = simulate_direct(net, images(), steps=3)
    for name, found in counts.items():
        assert int(found.sum()) == 6 * 3 * record.neurons[name]
        assert int(found[20:].sum()) == pytest.approx(int(record.spikes[name].sum()), abs=2)  # rounding at the edge


def test_every_image_has_a_number(net):
    with pytest.raises(InputError, match="6 images but 5 image numbers"):
        simulate_direct(net, images(), index=torch.arange(5))


@pytest.mark.parametrize("steps", [0, -1, 1.5])
def test_steps_that_cannot_be_are_refused(net, steps):
    with pytest.raises(InputError, match=f"simulate.steps={steps}: "):
        simulate_direct(net, images(), steps=steps)
