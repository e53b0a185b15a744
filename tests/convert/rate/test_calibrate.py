"""Calibration by its definition: a layer's error on the calibration images, measured by the plain simulation, never grows."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from respike.convert import (
    calibrate_bias,
    calibrate_potential,
    calibrate_weights,
    load_snn,
    local_threshold_norm,
    mmse_norm,
    percentile_norm,
)
from respike.convert.rate import calibrate
from respike.errors import InputError
from respike.neurons.encode import Current, Rate
from respike.neurons.integrate_fire import SOFT
from respike.simulate import simulate, simulate_stepwise

T = 6
SIMULATE = partial(simulate, encode=Current(), neuron=SOFT, duration=T / 1000)
CALIBRATIONS = {
    "bias": calibrate_bias,
    "potential": calibrate_potential,
    "weights": partial(calibrate_weights, iterations=15, lr=0.01),
}


class Residual(nn.Module):
    """Two residual blocks, the second behind a pool, and an input whose standardization makes a bias of places."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(2, 6, 3, padding=1), nn.Linear(6, 5)
        self.first, self.second = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.third = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x):
        x = self.stem((x - 0.4) / 0.3).relu()
        x = (self.second(self.first(x).relu()) + x).relu()
        x = nn.functional.avg_pool2d(x, 2)
        x = (self.third(x) + x).relu()
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(3)
    return Residual().eval().requires_grad_(False), torch.rand(24, 2, 8, 8)


def norms(spiking_pools=True):
    chosen = {"scale": "channel", "readout": "current", "spiking_pools": spiking_pools}
    return {
        "percentile": partial(percentile_norm, q=0.9, **chosen),
        "mmse": partial(mmse_norm, steps=T, **chosen),
        "local threshold": partial(local_threshold_norm, batches=20, batch_size=4, **chosen),
    }


def mean_outputs(snn, images, settings=SIMULATE.keywords):
    """Spikes per step, or currents, of every neuron on the grid, step by step: (B, ...N) by layer."""
    traces = simulate_stepwise(snn, images, keep=True, **settings).traces
    return {
        name: torch.stack([traces[b].spikes[name].double().mean(0) for b in range(len(images))]) for name in snn.layers
    }


def activations(snn, images):
    """The ReLU network's activations in units of each layer's scale: a RateSNN with ReLUs in place of neurons."""
    values = {"input": images}
    for name, layer in snn.layers.items():
        drive = layer.drive(values)
        values[name] = drive.relu() if layer.kind == "relu" else drive
    return values


def errors(kind, target, output):
    """What a calibration reduces, by channel, by neuron or in all."""
    error = target.double() - output.double()
    if kind == "weights":
        return error.square().mean().view(1)
    mean = error.mean(0)
    return (mean.flatten(1).mean(1) if kind == "bias" else mean).abs()


@pytest.mark.parametrize("kind", CALIBRATIONS)
@pytest.mark.parametrize(("norm", "spiking_pools"), [("percentile", True), ("mmse", False)])
def test_a_layers_error_never_grows_while_the_layers_before_it_are_calibrated(case, kind, spiking_pools, norm):
    """Each layer is put back to its old values in turn, behind calibrated ones, and simulated by the plain reference."""
    net, images = case
    convert = norms(spiking_pools)[norm]
    before = convert(net, images)
    after = CALIBRATIONS[kind](net, images, norm=convert, simulate=SIMULATE)
    target, reached = activations(before, images), mean_outputs(after, images)
    shrunk = 0
    for name in after.layers:
        if name == after.output:
            continue
        hybrid = copy.deepcopy(after)
        hybrid.layers[name] = copy.deepcopy(before.layer(name))
        old = errors(kind, target[name], mean_outputs(hybrid, images)[name])
        new = errors(kind, target[name], reached[name])
        assert bool((new <= old + 1e-6).all()), name
        shrunk += bool((new < old - 1e-6).any())
    assert shrunk >= 1


@pytest.mark.parametrize("kind", CALIBRATIONS)
def test_the_source_network_stays_and_the_result_is_saved_with_its_corrections(case, tmp_path, kind):
    net, images = case
    state = copy.deepcopy(net.state_dict())
    with torch.inference_mode():  # as Lightning's test
        snn = CALIBRATIONS[kind](net, images, norm=norms()["mmse"], simulate=SIMULATE)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not any(parameter.requires_grad for parameter in snn.parameters())
    snn.save(tmp_path / "snn.pt")
    loaded = load_snn(tmp_path / "snn.pt")
    ours, theirs = (simulate(one, images, **SIMULATE.keywords) for one in (snn, loaded))
    assert torch.equal(ours.counts, theirs.counts)


@pytest.mark.parametrize("kind", CALIBRATIONS)
@pytest.mark.parametrize("encode", [Current(), Rate(800.0)])
def test_the_result_depends_neither_on_the_backend_nor_on_how_images_are_split(case, monkeypatch, encode, kind):
    net, images = case
    settings = SIMULATE.keywords | {"encode": encode}
    whole = CALIBRATIONS[kind](net, images, norm=norms()["mmse"], simulate=partial(simulate, **settings))
    monkeypatch.setattr(calibrate, "BUDGET", 1)
    monkeypatch.setattr(calibrate, "EXACT", 1)  # all sums in float64
    plain = partial(simulate, **settings, backend="torch")
    parts = CALIBRATIONS[kind](net, iter(images.split(7)), norm=norms()["mmse"], simulate=plain).state_dict()
    assert all(torch.equal(parts[name], value) for name, value in whole.state_dict().items())


def test_calibrations_follow_each_other(case):
    """A second calibration starts where the first one ended, and matches the same ReLU network."""
    net, images = case
    bias = partial(calibrate_bias, norm=norms()["percentile"], simulate=SIMULATE)
    both = calibrate_potential(net, images, norm=bias, simulate=SIMULATE)
    alone = bias(net, images)
    assert all(
        torch.equal(both.layer(name).bias, alone.layer(name).bias)
        for name in alone.layers
        if alone.layer(name).bias is not None
    )
    assert both.layer("stem").start is not None and alone.layer("stem").start is None


def test_weights_are_fitted_for_neurons_that_start_where_they_will(case, monkeypatch):
    """Half a threshold, and what the calibration of potentials added."""
    net, images = case
    potential = partial(calibrate_potential, norm=norms()["mmse"], simulate=SIMULATE)
    added = [layer.start for layer in potential(net, images).layers.values() if layer.start is not None]
    assert any(bool(start.any()) for start in added)
    used = []

    def recorded(z, start, steps, plain=calibrate.quantized_drive):
        used.append(start)
        return plain(z, start, steps)

    monkeypatch.setattr(calibrate, "quantized_drive", recorded)
    calibrate_weights(net, images, norm=potential, simulate=SIMULATE, iterations=1)
    assert used and all(any(torch.equal(start, SOFT.start + own) for own in added) for start in used)


class Bottleneck(nn.Module):
    """A sum without a ReLU behind it, which is carried as a current to the next layer."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(a, b, 1) for a, b in ((2, 8), (8, 2), (2, 6)))
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        carried = x + self.second(self.first(x).relu())
        return self.head(self.third(carried).relu().mean((2, 3)))


def upsampled():
    """A map of one place, enlarged by an adaptive pool in front of the classifier, as torchvision's VGG on small images."""
    layers = [nn.Conv2d(2, 4, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 8), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(8, 5))


@pytest.mark.parametrize("neuron", [SOFT, replace(SOFT, t_ref=0.002)])
@pytest.mark.parametrize(("make", "reader"), [(Bottleneck, "third"), (upsampled, "linear1")])
def test_readers_of_carried_currents_and_of_enlarged_maps_are_fitted(case, monkeypatch, make, reader, neuron):
    torch.manual_seed(1)
    net, images = make().eval().requires_grad_(False), case[1]
    reached = []

    def recorded(calibration, name, target, *rest, plain=calibrate._fit):
        def error():
            return float((target - calibration.run(name)).square().mean())

        if name == reader:
            calibration.snn.layer(name).synapses[0].weighted.weight *= 0.6  # something to mend
            reached.append(error())
        plain(calibration, name, target, *rest)
        reached.extend([error()] if name == reader else [])

    monkeypatch.setattr(calibrate, "_fit", recorded)
    norm = partial(norms(False)["percentile"], q=0.99, zeros=False)
    simulated = partial(simulate, **SIMULATE.keywords | {"neuron": neuron})
    calibrate_weights(net, images, norm=norm, simulate=simulated, iterations=150, lr=0.01)
    before, after = reached
    assert after < 0.8 * before


def test_t_is_that_of_the_simulation_unless_steps_are_given(case):
    net, images = case
    long = partial(simulate, **(SIMULATE.keywords | {"duration": 0.020}))
    given = calibrate_bias(net, images, norm=norms()["mmse"], simulate=long, steps=T)
    default = calibrate_bias(net, images, norm=norms()["mmse"], simulate=SIMULATE)
    assert all(torch.equal(given.state_dict()[name], value) for name, value in default.state_dict().items())


@pytest.mark.parametrize("readout", ["counts", "current"])
def test_random_input_spikes_and_counted_outputs_are_calibrated_too(case, readout):
    net, images = case
    convert = partial(percentile_norm, readout=readout)
    chosen = partial(simulate, encode=Rate(800.0), neuron=SOFT, duration=0.010)
    for one in CALIBRATIONS.values():
        snn = one(net, images, norm=convert, simulate=chosen)
        assert simulate(snn, images, **chosen.keywords).images == len(images)


@pytest.mark.parametrize("threshold", [1.0, 0.5, 2.0])
def test_the_output_current_has_the_mean_of_the_logits_after_bias_calibration(case, threshold):
    """Also where the neurons have another threshold: the output current has none."""
    net, images = case
    simulation = partial(simulate, **(SIMULATE.keywords | {"neuron": replace(SOFT, threshold=threshold)}))
    snn = calibrate_bias(net, images, norm=norms()["mmse"], simulate=simulation)
    record = simulation(snn, images)
    mean = record.counts.double().mean(0)
    logits = net(images).double().mean(0)
    torch.testing.assert_close(mean / mean.norm(), logits / logits.norm(), rtol=0, atol=0.01)


@pytest.mark.parametrize(("setting", "value"), [("iterations", 0), ("batch_size", 0), ("lr", 0.0)])
def test_wrong_settings_are_refused(case, setting, value):
    net, images = case
    with pytest.raises(InputError, match=rf"^convert\.{setting}={value}: .*as in convert\.{setting}="):
        calibrate_weights(net, images, norm=norms()["mmse"], simulate=SIMULATE, **{setting: value})


def test_more_than_the_memory_holds_is_refused_before_it_is_filled(case):
    net, images = case
    long = partial(simulate, encode=Current(), neuron=SOFT, duration=1e6)
    with pytest.raises(InputError, match=r"24 calibration images: .* T = 1000000000 steps .*calibration_size=1000"):
        calibrate_bias(net, images, norm=norms()["percentile"], simulate=long)


def test_an_empty_calibration_set_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(InputError, match="empty"):
        calibrate_bias(net, torch.empty(0, 1, 2, 2), norm=norms()["percentile"], simulate=SIMULATE)
