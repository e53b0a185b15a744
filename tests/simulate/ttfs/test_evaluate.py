"""The evaluators of a TTFSNet give the spikes of its equations, and without noise the ReLU network's function."""

from dataclasses import replace

import pytest
import torch
import yaml
from chains import chains
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from respike.callbacks.simulate_ttfs import SimulateTTFS
from respike.convert.exact.mapping import b1_map, exact_map
from respike.convert.exact.ttfs_net import TTFSLayer, unit_leads
from respike.errors import InputError, SilentLayer
from respike.runs.compose import compose_run
from respike.simulate.ttfs import TTFSRecord, search, simulate_ttfs
from respike.simulate.ttfs import program as layer_program
from respike.simulate.ttfs.program import compile_layer
from respike.simulate.ttfs.settings import TTFSSettings

NOISES = [
    {},
    {"time_noise": 0.05},
    {"alpha_noise": 0.2},
    {"weight_noise": 0.3},
    {"weight_noise": 4.0},  # some slopes are negative at the end: such neurons wait for t_max
    {"levels": 9},
    {"time_noise": 0.2, "alpha_noise": 0.05, "weight_noise": 0.05, "levels": 64},
]


def mapped(case, zeta):
    """The spiking network of a chain, or None where a layer of it is silent."""
    net, images, input_range = case
    try:
        return exact_map(net, images, zeta=zeta, input_range=input_range)
    except SilentLayer:
        return None


def times(snn, images, **chosen):
    """Spike times of every image: {layer: (B, ...N)}."""
    record = simulate_ttfs(snn, images, trace=range(len(images)), **chosen)
    layers = record.spike_times[0]
    return record, {name: torch.stack([record.spike_times[b][name] for b in range(len(images))]) for name in layers}


def assert_same(a, b, atol):
    for name in a[1]:
        torch.testing.assert_close(a[1][name], b[1][name], rtol=0, atol=atol)
    scale = float(a[0].logits.abs().max().clamp(min=1))
    torch.testing.assert_close(a[0].logits, b[0].logits, rtol=0, atol=atol * scale)


@given(chains(), st.sampled_from([0.0, 0.5, 3.0]))
def test_where_no_neuron_is_early_the_relu_networks_outputs_are_recovered(case, zeta):
    net, images, _ = case
    snn = mapped(case, zeta)
    if snn is None:
        return
    expected = (net[:-1] if isinstance(net[-1], nn.Softmax) else net)(images).detach()
    scale = float(expected.abs().max().clamp(min=1))
    closed = simulate_ttfs(snn, images, evaluator="closed")
    torch.testing.assert_close(closed.logits, expected, rtol=0, atol=1e-9 * scale)
    record = simulate_ttfs(snn, images)
    if not any(counts.early for counts in record.counts.values()):
        torch.testing.assert_close(record.logits, expected, rtol=0, atol=1e-9 * scale)


@given(chains(), st.floats(-0.9, 0.5), st.sampled_from(NOISES), st.integers(0, 3))
def test_all_evaluators_give_the_spike_times_of_the_event_driven_one(case, zeta, noise, trial):
    """Also where spikes come early or never, and under every noise; leads reach hundreds of units where zeta is low."""
    snn = mapped(case, zeta)
    if snn is None:
        return
    images = case[1][:4]
    events = times(snn, images, evaluator="events", trial=trial, **noise)
    for evaluator in ("certified", "sorted"):
        ours = times(snn, images, evaluator=evaluator, trial=trial, **noise)
        assert_same(ours, events, 1e-9)
        early = {name: counts.early for name, counts in ours[0].counts.items()}
        assert early == {name: counts.early for name, counts in events[0].counts.items()}


@given(chains(), st.floats(-0.9, 0.5), st.sampled_from(NOISES))
def test_no_certified_pair_is_early(case, zeta, noise):
    """Wherever the bound speaks, the closed form's spike is the true one: the certified and the early pairs never meet."""
    snn = mapped(case, zeta)
    if snn is None:
        return
    for counts in simulate_ttfs(snn, case[1], **noise).counts.values():
        assert 0 <= counts.certified + counts.early <= counts.pairs
    for first_crossing in ("exact", "authors"):
        ours, sorted_ = (
            times(snn, case[1], evaluator=evaluator, first_crossing=first_crossing, **noise)
            for evaluator in ("certified", "sorted")
        )
        assert_same(ours, sorted_, 1e-9)


@given(chains())
def test_the_automatic_zeta_certifies_every_training_image(case):
    snn = mapped(case, "auto")
    if snn is None:
        return
    record = simulate_ttfs(snn, case[1])
    assert all(counts.certified == counts.pairs for counts in record.counts.values())


@given(chains(), st.sampled_from(NOISES), st.data())
@settings(max_examples=15)
def test_results_do_not_depend_on_how_the_work_is_cut(case, noise, data):
    snn = mapped(case, -0.3)
    if snn is None:
        return
    images, index = case[1], torch.tensor(data.draw(st.permutations(range(12)))) * 1000
    whole = simulate_ttfs(snn, images, index=index, **noise)
    cut = data.draw(st.integers(1, 11))
    chunked = simulate_ttfs(snn, images, index=index, chunk=cut, **noise)
    parts = [simulate_ttfs(snn, images[p], index=index[p], **noise) for p in (slice(0, cut), slice(cut, None))]
    for other in (chunked, TTFSRecord.merge(parts)):
        torch.testing.assert_close(other.logits, whole.logits, rtol=1e-12, atol=1e-12)
        assert torch.equal(other.index, whole.index)
        assert (other.inputs, other.counts, other.synops) == (whole.inputs, whole.counts, whole.synops)


def small(zeta=0.5):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 8), nn.ReLU()
    )
    net = net.append(nn.Linear(8, 5)).double().eval()
    images = torch.rand(30, 1, 6, 6, dtype=torch.float64)
    return net, images, exact_map(net, images, zeta=zeta)


@pytest.mark.parametrize("evaluator", ["certified", "closed", "sorted", "events"])
@pytest.mark.parametrize("laid", ["images", "network"])
def test_the_layout_in_memory_changes_nothing(evaluator, laid):
    net, images, snn = small(-0.3)
    expected = simulate_ttfs(snn, images, evaluator=evaluator)
    if laid == "network":
        snn = exact_map(net.to(memory_format=torch.channels_last), images, zeta=-0.3)
    else:
        images = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    found = simulate_ttfs(snn, images.to(memory_format=torch.channels_last), evaluator=evaluator)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-12, atol=1e-12)
    assert found.counts == expected.counts


def test_noise_has_its_deviation_and_other_trials_and_seeds_draw_other_noise():
    _, images, snn = small()
    clean = times(snn, images)[1]
    drawn = [times(snn, images, time_noise=0.01, **key)[1] for key in ({}, {"trial": 1}, {"seed": 1})]
    moved = [(noisy["input"] - clean["input"]).flatten() for noisy in drawn]
    for noise in moved:
        assert float(noise.std()) == pytest.approx(0.01, rel=0.1) and abs(float(noise.mean())) < 0.002
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(float(torch.corrcoef(torch.stack([moved[a], moved[b]]))[0, 1])) < 0.15
    assert float(drawn[0]["input"].min()) >= 0


def test_time_quantization_puts_every_spike_on_a_grid_of_its_interval():
    _, images, snn = small()
    layer = snn.layers["conv1"]
    spikes = times(snn, images, levels=5)[1]
    for name, start, end in (("input", 0.0, 1.0), ("conv1", float(layer.t_min), float(layer.t_max))):
        steps = (spikes[name] - start) / (end - start) * 4
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-9)
        assert len(steps.round().unique()) > 2


def test_float32_stays_near_float64_and_its_bound_is_a_bound():
    _, images, snn = small()
    double, single = simulate_ttfs(snn, images), simulate_ttfs(snn, images, precision="float32")
    torch.testing.assert_close(single.logits, double.logits, rtol=1e-4, atol=1e-4)
    assert not torch.equal(single.logits, double.logits)


@pytest.mark.parametrize("disturbed", [{"time_noise": 0.01}, {"levels": 4}, {"alpha_noise": 0.05}, {}])
def test_every_counted_spike_reaches_its_synapses(disturbed):
    """Also the late spikes of silent neurons whose times have noise, and not those that the grid puts at t_max."""
    _, images, snn = small()
    record = simulate_ttfs(snn, images, **disturbed)
    assert record.synops["linear2"] == 5 * record.counts["linear1"].active
    exact = simulate_ttfs(snn, images).counts["linear1"].active
    assert (record.counts["linear1"].active > exact) if "time_noise" in disturbed else True
    assert (record.counts["linear1"].active < exact) if "levels" in disturbed else True


def test_counts_are_those_of_the_relu_network():
    """Active neurons are positive activations, and synaptic operations their outgoing weights."""
    net, images, snn = small()
    record = simulate_ttfs(snn, images)
    conv, pooled = net[:2](images), net[:3](images)
    hidden = net[:6](images)
    assert record.counts["conv1"].active == int((conv > 0).sum()) and record.counts["conv1"].pairs == conv.numel()
    assert record.counts["linear1"].active == int((hidden > 0).sum())
    assert record.synops["linear1"] == 8 * int((pooled > 0).sum())
    assert record.synops["linear2"] == 5 * int((hidden > 0).sum())
    reached = nn.functional.conv2d((images > 0).double(), torch.ones(4, 1, 3, 3).double(), padding=1)
    assert record.synops["conv1"] == int(reached.sum())
    assert record.ann_macs == 4 * (3 * 6 - 2) ** 2 + 36 * 8 + 8 * 5
    assert record.latency == snn.latency


def test_an_input_that_comes_after_the_reading_has_not_counted_unless_the_authors_read():
    """The published code adds W (t_min - t_j) whatever its sign."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 4)).double()
    images = torch.rand(20, 1, 3, 3, dtype=torch.float64)
    snn = exact_map(net, images)
    for first_crossing, floor in (("exact", 0.0), ("authors", -torch.inf)):
        record, spikes = times(snn, images, time_noise=0.3, first_crossing=first_crossing)
        expected = net((1 - spikes["input"]).clamp(min=floor)).detach()
        assert float(spikes["input"].max()) > 1
        torch.testing.assert_close(record.logits, expected, rtol=1e-12, atol=1e-12)


REFUSED = {
    "outside": ({}, lambda x: x + 1, "leave the input range"),
    "shape": ({}, lambda x: x[..., :4], "do not fit the network at layer"),
    "none": ({}, lambda x: x[:0], "no image"),
    "evaluator": ({"evaluator": "best"}, lambda x: x, "simulate.evaluator=best"),
    "noise": ({"time_noise": -1}, lambda x: x, "simulate.time_noise=-1"),
    "wide noise": (
        {"time_noise": 1.0},
        lambda x: x,
        "simulate.time_noise=1.0: as wide as the interval of the input, 1",
    ),
    "levels": ({"levels": 1}, lambda x: x, "simulate.levels=1"),
    "index": ({"index": torch.arange(3)}, lambda x: x, "3 image numbers"),
    "trace": ({"trace": [99]}, lambda x: x, "trace"),
    "events": ({"evaluator": "events", "first_crossing": "authors"}, lambda x: x, "simulate.evaluator=sorted"),
}


def test_the_advised_range_is_accepted():
    _, images, snn = small()
    shifted = images * 3.1415926 - 2.1179039
    with pytest.raises(InputError, match="leave the input range") as caught:
        simulate_ttfs(snn, shifted)
    advised = yaml.safe_load(str(caught.value).partition("convert.input_range=")[2].partition("]")[0] + "]")
    unit_leads(shifted, advised, torch.float64)
    with pytest.raises(InputError, match="leave the input range"):
        unit_leads(shifted, (advised[0] + 2e-4, advised[1]), torch.float64)


@pytest.mark.parametrize("evaluator", ["certified", "closed", "sorted", "events"])
def test_a_drive_that_noise_turns_off_spikes_where_the_threshold_is_reached(evaluator):
    """The slope of B1 neurons is 1 plus noise, here often below 0."""
    net, images, _ = small()
    snn = b1_map(net, images)
    expected = simulate_ttfs(snn, images, alpha_noise=0.8, evaluator="events")
    found = simulate_ttfs(snn, images, alpha_noise=0.8, evaluator=evaluator)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-12, atol=1e-12)
    for name, counted in expected.counts.items():
        assert (found.counts[name].early, found.counts[name].active) == (counted.early, counted.active)


def test_a_capped_output_is_refused():
    net, images, _ = small()
    with pytest.raises(InputError, match="the output 'relu3' is capped"):
        b1_map(net.append(nn.ReLU6()), images)


@pytest.mark.parametrize("what", REFUSED)
def test_bad_settings_and_images_are_refused_in_one_line(what):
    chosen, change, words = REFUSED[what]
    _, images, snn = small()
    with pytest.raises(InputError, match=words) as error:
        simulate_ttfs(snn, change(images), **chosen)
    assert "\n" not in str(error.value)


MISSPELT = {  # what is typed -> the nearest name
    "first_crossing=true": "exact",
    "first_crossing=AUTHORS": "authors",
    "first_crossing=author": "authors",
    "first_crossing=null": "exact",
    "evaluator=Certified": "certified",
    "evaluator=close": "closed",
    "evaluator=1": "certified",
    "precision=float23": "float32",
}


@pytest.mark.parametrize("typed", MISSPELT)
def test_only_the_exact_names_are_accepted_in_python_and_on_the_command_line(typed):
    """YAML turns true, null and 1 into values that are no names."""
    name, _, value = typed.partition("=")
    near = f"simulate.{name}={MISSPELT[typed]}$"
    with pytest.raises(InputError, match=near) as error:
        cfg = compose_run(["paths.run=x", "experiment=exact_fc", f"simulate.{typed}"])
        SimulateTTFS(instantiate(cfg.simulate)).setup(None, None, "test")
    _, images, snn = small()
    with pytest.raises(InputError, match=near) as again:
        simulate_ttfs(snn, images, **{name: yaml.safe_load(value)})
    assert "\n" not in f"{error.value}{again.value}"


@pytest.mark.parametrize("name", ["exact", "authors"])
def test_the_names_of_the_command_line_are_those_of_the_settings(name):
    cfg = compose_run(["paths.run=x", "experiment=exact_fc", f"simulate.first_crossing={name}"])
    SimulateTTFS(instantiate(cfg.simulate)).setup(None, None, "test")
    assert TTFSSettings(first_crossing=cfg.simulate.first_crossing).authors == (name == "authors")


@given(chains(), st.floats(-0.9, 0.5), st.sampled_from(NOISES), st.sampled_from(["float64", "float32"]))
def test_without_a_compiler_the_spikes_are_the_same(case, zeta, noise, precision):
    snn = mapped(case, zeta)
    if snn is None:
        return
    compiled = times(snn, case[1], precision=precision, **noise)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(search, "compiled", lambda device: False)
        patched.setattr(layer_program, "fast", lambda synapses, leads: False)
        plain = times(snn, case[1], precision=precision, **noise)
    if precision == "float64":
        assert_same(plain, compiled, 1e-9)
        for name, counts in plain[0].counts.items():  # the bounds are others
            assert replace(counts, certified=0) == replace(compiled[0].counts[name], certified=0)
    elif "levels" not in noise:
        scale = max(float(value.abs().max()) for value in compiled[1].values())
        assert float((plain[0].logits - compiled[0].logits).abs().max()) < 1e-2 * max(scale, 1)


@pytest.mark.parametrize("compiled", [True, False])
def test_the_bound_between_marks_proves_what_is_so_and_nothing_else(monkeypatch, compiled):
    """Thresholds around the largest potential of the whole course, with inhibition that comes with the excitation."""
    generator = torch.Generator().manual_seed(1)
    leads = -torch.rand(1, 300, dtype=torch.float64, generator=generator).log() / 3  # most are far below the largest
    module = nn.Linear(300, 200).double()
    weight = torch.randn(200, 300, dtype=torch.float64, generator=generator)
    module.weight.data = weight - weight.mean(1, keepdim=True)  # sums of 0, so that J = W
    length = torch.tensor(6.0, dtype=torch.float64)
    program = compile_layer("layer", TTFSLayer.from_relu_layer([], module, 0 * length, length, 2.0), TTFSSettings())
    times = torch.cat([leads[0], torch.zeros(1, dtype=torch.float64)])  # V is a straight line between arrivals
    course = program.alpha * (6 - times[:, None]) + (leads[0] - times[:, None]).clamp(min=0) @ program.weight.T
    largest, every = course.amax(0), torch.ones(1, 200, dtype=torch.bool)
    if not compiled:
        monkeypatch.setattr(layer_program, "fast", lambda synapses, leads: False)

    def left(share):
        """How many pairs the bounds leave open."""
        at = replace(program, theta=share * largest)
        chosen = at.uncertain(leads)
        if not compiled:
            return int(chosen.sum())
        return 200 - search.search(at, leads, torch.zeros(1, 200, dtype=torch.float64), every, False, True)[0]

    first = program.alpha * 6 + program.excitation(leads)[0]
    assert bool((largest > 0).all()) and left(1 - 1e-9) == 200
    assert 2 * left(3) < int((first >= 3 * largest).sum())
