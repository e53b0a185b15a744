"""A spiking network read from its file is the network that was saved; any other file is refused in one line."""

import json
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from chains import chains
from hypothesis import given
from torch import nn

from respike.convert import (
    RateSNN,
    TTFSNet,
    data_norm,
    exact_map,
    load_snn,
    model_norm,
    no_norm,
    percentile_norm,
)
from respike.convert.rate.rate_snn import SpikingLayer, Synapse
from respike.convert.saving import VERSION, network_content, network_from_content
from respike.errors import InputError, SilentLayer
from respike.simulate import simulate
from respike.simulate.ttfs import simulate_ttfs

CONVERSIONS = {"none": no_norm, "data": data_norm, "model": model_norm, "percentile": percentile_norm}


def assert_equal_state(loaded, saved):
    ours, expected = loaded.state_dict(), saved.state_dict()
    assert list(ours) == list(expected)
    for name, value in expected.items():
        assert ours[name].dtype == value.dtype and torch.equal(ours[name], value), name
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def assert_equal_spikes(loaded, saved, images):
    """Output spikes of every image, spikes of every layer, and all spikes and potentials of one image."""
    for bits in (None, 16):
        ours, expected = (
            simulate(snn.float(), images.float(), duration=0.02, weight_bits=bits, trace=[3]) for snn in (loaded, saved)
        )
        assert torch.equal(ours.counts, expected.counts) and torch.equal(ours.predicted, expected.predicted)
        for name in expected.spikes:
            assert torch.equal(ours.spikes[name], expected.spikes[name])
        for trace in ("spikes", "potentials"):
            one, other = getattr(ours.traces[3], trace), getattr(expected.traces[3], trace)
            assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize("spiking_pools", [True, False])
@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_a_loaded_rate_snn_has_the_same_state_and_spikes(tmp_path, draw_net, wiring, conversion, spiking_pools):
    for seed, bias in ((0, True), (1, False)):
        net, images = draw_net(wiring, seed, bias)
        snn = CONVERSIONS[conversion](net, images, spiking_pools=spiking_pools)
        snn.save(tmp_path / "snn.pt")
        loaded = RateSNN.load(tmp_path / "snn.pt")
        assert type(load_snn(tmp_path / "snn.pt")) is RateSNN
        assert_equal_state(loaded, snn)
        assert (loaded.scales, loaded.factors) == (snn.scales, snn.factors)
        assert repr(loaded) == repr(snn)
        assert [layer.sources for layer in loaded.layers.values()] == [layer.sources for layer in snn.layers.values()]
        assert_equal_spikes(loaded, snn, images)


@given(chains())
def test_a_loaded_ttfs_net_has_the_same_state_and_spike_times(tmp_path_factory, case):
    net, images, input_range = case
    try:
        snn = exact_map(net, images, zeta=0.2, input_range=input_range)
    except SilentLayer:
        return
    path = tmp_path_factory.getbasetemp() / "chain.pt"
    snn.save(path)
    loaded = TTFSNet.load(path)
    assert type(load_snn(path)) is TTFSNet
    assert_equal_state(loaded, snn)
    assert loaded.ranges == snn.ranges and repr(loaded) == repr(snn)
    records = [simulate_ttfs(network, images, trace=range(len(images))) for network in (loaded, snn)]
    assert torch.equal(records[0].logits, records[1].logits)
    assert records[0].counts == records[1].counts
    for ours, expected in zip(*(record.spike_times.values() for record in records), strict=True):
        assert all(torch.equal(ours[name], expected[name]) for name in expected)


def test_a_network_without_measured_ranges_is_loaded_without_them(tmp_path, tiny):
    tiny.ranges = None
    tiny.save(tmp_path / "snn.pt")
    assert TTFSNet.load(tmp_path / "snn.pt").ranges is None


@pytest.fixture
def tiny():
    """A TTFSNet of two layers."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    nn.init.uniform_(net[1].bias, 0.5, 1)
    return exact_map(net, torch.rand(5, 1, 2, 2))


class Touch:
    """Unpickling this object creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_loading_runs_no_code_of_the_file(tmp_path, tiny):
    path, marker = tmp_path / "snn.pt", tmp_path / "marker"
    torch.save(network_content(tiny) | {"extra": Touch(marker)}, path)
    with pytest.raises(InputError, match=r"snn\.pt: holds pickled Python objects.*snn\.save\(path\)"):
        load_snn(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the file must be one that runs code where that is allowed"


def test_an_old_pickled_network_is_refused_with_what_to_do(tmp_path, tiny):
    torch.save(tiny, tmp_path / "old.pt")
    for load in (load_snn, TTFSNet.load, RateSNN.load):
        with pytest.raises(
            InputError, match=r"old\.pt: holds pickled Python objects.*convert the network again"
        ) as error:
            load(tmp_path / "old.pt")
        assert "\n" not in str(error.value)


def test_a_file_with_biases_in_its_synapses_is_refused_with_what_to_do(tmp_path):
    """Simulations read the biases of layers: those of the older format would be left out."""
    content = network_content(no_norm(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(2, 1, 2, 2)))
    (layer,) = content["description"]["layers"]
    for key in ("bias", "pool", "rule"):
        del layer[key]
    layer["synapses"][0]["modules"][1]["arguments"]["bias"] = True
    content["weights"]["layers.linear1.synapses.0.1.bias"] = content["weights"].pop("layers.linear1.bias")
    torch.save(content, tmp_path / "old.pt")
    for load in (load_snn, RateSNN.load):
        with pytest.raises(InputError, match=r"old\.pt: a synapse holds a bias.*convert the network again") as error:
            load(tmp_path / "old.pt")
        assert "\n" not in str(error.value)


def test_a_missing_damaged_or_foreign_file_is_one_line(tmp_path, tiny):
    tiny.save(tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("no network")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"format": 1}, protocol=4))
    torch.save(tiny.state_dict(), tmp_path / "weights.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    torch.save(network_content(tiny) | {"version": VERSION + 1}, tmp_path / "newer.pt")
    cases = {
        "absent.pt": r"no such file",
        ".": r"no such file",
        "cut.pt": r"damaged",
        "empty.pt": r"damaged",
        "text.pt": r"damaged",
        "pickle.pt": r"damaged",
        "weights.pt": r"not a spiking network of respike",
        "tensor.pt": r"not a spiking network of respike",
        "newer.pt": rf"version {VERSION + 1} of the format.*reads version {VERSION}",
    }
    for name, words in cases.items():
        with pytest.raises(InputError, match=words) as error, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load_snn(tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(error.value)


def test_the_other_kind_of_network_is_refused_with_the_function_that_reads_both(tmp_path, tiny):
    tiny.save(tmp_path / "snn.pt")
    with pytest.raises(InputError, match=r"holds a TTFSNet, not a RateSNN; use load_snn\(path\)"):
        RateSNN.load(tmp_path / "snn.pt")


def changed(content, change):
    """The content with one thing changed in place."""
    change(content)
    return content


DAMAGES = {
    "a layer is lost": lambda content: content["description"]["layers"].pop(),
    "a type is unknown": lambda content: content["description"]["layers"][0]["synapses"].update(type="Exec"),
    "an argument is unknown": lambda content: content["description"]["layers"][0]["synapses"]["arguments"].update(x=1),
    "a key is lost": lambda content: content["description"].pop("zeta"),
    "no description": lambda content: content.pop("description"),
    "a weight is lost": lambda content: content["weights"].pop("layers.linear1.theta"),
    "a weight is added": lambda content: content["weights"].update(more=torch.zeros(1)),
    "a weight of another shape": lambda content: content["weights"].update({"layers.linear1.theta": torch.zeros(7)}),
    "weights are numbers": lambda content: content.update(weights=3),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_content_with_a_part_lost_or_changed_is_refused(tmp_path, tiny, damage):
    torch.save(changed(network_content(tiny), DAMAGES[damage]), tmp_path / "snn.pt")
    with pytest.raises(InputError, match=r"snn\.pt: the description or the weights are damaged.*snn\.save") as error:
        load_snn(tmp_path / "snn.pt")
    assert "\n" not in str(error.value)


def test_saving_replaces_the_file_at_once_or_not_at_all(tmp_path, tiny, monkeypatch):
    path = tmp_path / "folder" / "snn.pt"
    tiny.save(path)
    before = path.read_bytes()

    def failing(content, file):
        file.write_bytes(b"a part")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(OSError, match="no space"):
        tiny.save(path)
    assert path.read_bytes() == before and [file.name for file in path.parent.iterdir()] == ["snn.pt"]


def test_saving_again_what_was_loaded_keeps_it(tmp_path, tiny):
    first = network_content(tiny)
    again = network_content(network_from_content(first, [TTFSNet], "memory"))
    assert again["description"] == first["description"]
    assert all(torch.equal(again["weights"][name], value) for name, value in first["weights"].items())


class Initialized(nn.Linear):
    """A Linear that only starts with other weights."""

    def reset_parameters(self):
        nn.init.constant_(self.weight, 0.25)
        nn.init.zeros_(self.bias)


def test_a_subclass_is_saved_as_the_base_that_computes_the_same(tmp_path):
    images = torch.rand(6, 1, 2, 2)
    snn = data_norm(nn.Sequential(nn.Flatten(), Initialized(4, 3)), images)
    snn.save(tmp_path / "snn.pt")
    assert_equal_spikes(RateSNN.load(tmp_path / "snn.pt"), snn, images)


def test_a_module_that_is_no_plain_layer_is_refused_at_saving(tmp_path):
    """Conversions make only plain layers; a network built by hand may hold others."""

    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    parametrized = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3, bias=False))
    for module, words in (
        (Doubled(4, 3, bias=False), "holds a Doubled, which cannot be saved"),
        (parametrized, "parametrizations"),
    ):
        snn = RateSNN({"fc": SpikingLayer("output", [Synapse("input", module)])})
        with pytest.raises(InputError, match=words):
            snn.save(tmp_path / "snn.pt")


COMMITTED = sorted((Path(__file__).parents[2] / "outputs" / "reference" / "runs").glob("*/checkpoints/snn.pt"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parents[1].name)
def test_the_committed_networks_are_those_of_their_runs(path):
    """Their factors are the run's metrics, and their weights those of the run's ReLU network, rescaled."""
    snn, ann = load_snn(path), torch.load(path.with_name("ann.pt"), weights_only=True)
    metrics = json.loads((path.parents[1] / "metrics.json").read_text())
    assert {f"convert/factor/{name}": factor for name, factor in snn.factors.items()} == {
        name: value for name, value in metrics.items() if name.startswith("convert/factor/")
    }
    previous, weights = 1.0, list(ann.values())
    layers = {name: layer for name, layer in snn.layers.items() if layer.kind != "pool"}
    for (name, layer), weight in zip(layers.items(), weights, strict=True):
        scaled = weight * previous / snn.scales[name]
        torch.testing.assert_close(layer.synapses[0].weighted.weight, scaled, rtol=1e-6, atol=0, check_device=False)
        previous = snn.scales[name]


def test_there_are_committed_networks():
    assert len(COMMITTED) >= 6
