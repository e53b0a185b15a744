"""The compiled simulation gives the spikes of the plain one, bit for bit, or steps aside."""

import weakref
from collections import Counter

import numpy as np
import pytest
import torch
from cnns import Dense, norm
from hypothesis import assume, given, reject
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from respike.convert import data_norm, no_norm, percentile_norm
from respike.errors import SilentLayer
from respike.networks.diehl_cnn import DiehlCNN
from respike.networks.mlp import MLP
from respike.neurons.encode import Current, Encoder, Rate, Threshold, normal
from respike.neurons.integrate_fire import SOFT, IntegrateFire
from respike.simulate import simulate
from respike.simulate.rate.kernels import events
from respike.simulate.rate.kernels.event_worker import Plan, Worker
from respike.simulate.rate.program import compile_program
from respike.simulate.rate.settings import Settings
from respike.simulate.rate.stepwise import simulate_stepwise
from respike.system import compiler

needs_compiler = pytest.mark.skipif(compiler.library(events.SOURCE) is None, reason="no C compiler on this machine")


def settings_of(**chosen):
    return Settings(**({"weight_bits": 16, "duration": 0.012} | chosen))


def runs(snn, shape, **chosen):
    settings = settings_of(**chosen)
    return events.is_selected(compile_program(snn, torch.Size(shape), settings), settings)


@needs_compiler
def test_it_runs_the_published_networks_and_leaves_the_rest_to_plain_torch():
    for settings in ({}, {"weight_bits": 24}, {"encode": Current()}, {"neuron": IntegrateFire(t_ref=0.002)}):
        assert runs(no_norm(MLP([784, 1200, 1200, 10])), (1, 28, 28), **settings)
    assert runs(no_norm(DiehlCNN()), (1, 28, 28), start_at_zero=True, drop_first_output=True)
    for settings in ({"weight_bits": None}, {"backend": "torch"}):
        assert not runs(no_norm(MLP([784, 20, 10])), (1, 28, 28), **settings)


def ends():
    return nn.Flatten(), nn.LazyLinear(3)


SMALL_CONVOLUTIONS = {  # network, shape of its images, settings
    "behind a pool of the input": (lambda: [nn.AvgPool2d(2), nn.Conv2d(1, 16, 3), nn.ReLU(), *ends()], (1, 12, 12), {}),
    "behind a pool, 20 bits": (
        lambda: [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 8, 3), nn.ReLU(), *ends()],
        (1, 12, 12), {"weight_bits": 20},
    ),
    "of one place, read by its current": (lambda: [nn.Conv2d(3, 10, 1), nn.Flatten()], (3, 1, 1), {}),
    "of the whole image, read by its current": (lambda: [nn.Conv2d(1, 10, 5), nn.Flatten()], (1, 5, 5), {}),
    "behind a global pool, read by its current": (
        lambda: [nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 5, 1), nn.Flatten()],
        (1, 8, 8), {"weight_bits": 20},
    ),
    "padded by a word": (
        lambda: [nn.Conv2d(1, 4, 3, padding="same"), nn.ReLU(), nn.Conv2d(4, 4, 2, padding="valid"), nn.ReLU(), *ends()],
        (1, 6, 6), {},
    ),
}  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("readout", ["counts", "current"])
@pytest.mark.parametrize("what", SMALL_CONVOLUTIONS)
def test_small_convolutions_add_every_spike(assert_same_record, what, readout):
    make, shape, chosen = SMALL_CONVOLUTIONS[what]
    torch.manual_seed(0)
    net, images = nn.Sequential(*make()), torch.rand(6, *shape)
    net(images)
    snn = no_norm(net, spiking_pools=False, readout=readout)
    chosen = {"encode": Rate(900.0), "neuron": SOFT, "weight_bits": 16, "duration": 0.02} | chosen
    program = events.EventProgram(compile_program(snn, images.shape[1:], Settings(**chosen)), Settings(**chosen))
    assert not program.plain
    record = simulate(snn, images, backend="events", **chosen)
    assert_same_record(record, simulate_stepwise(snn, images, **chosen))
    assert record.counts.abs().sum() > 0


@needs_compiler
@pytest.mark.parametrize("rule", ["count", "gate"])
def test_a_max_pool_at_the_output_drops_its_first_step(assert_same_record, rule):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    images = torch.rand(6, 1, 8, 8)
    snn = no_norm(net, images, max_pool=rule, readout="counts")
    chosen = {"encode": Current(), "neuron": IntegrateFire(0.05), "duration": 0.008, "weight_bits": 12}
    expected = simulate_stepwise(snn, images, drop_first_output=True, **chosen)
    assert_same_record(simulate(snn, images, drop_first_output=True, backend="events", **chosen), expected)
    assert bool((simulate_stepwise(snn, images, **chosen).counts != expected.counts).any())


class Noisy(Encoder):
    """A user's encoder whose currents differ from image to image by noise."""

    analog = True

    def __call__(self, images, index, steps, dt, seed):
        return (images + normal(index, images[0].numel(), seed).to(images).view_as(images))[None]


@needs_compiler
@pytest.mark.parametrize("backend", ["events", "torch"])
def test_a_noisy_current_depends_on_the_images_number_alone(assert_same_record, backend):
    torch.manual_seed(0)
    snn, images = no_norm(MLP([16, 12, 5])), torch.rand(70, 1, 4, 4)
    chosen, index = {"encode": Noisy(), "neuron": SOFT, "duration": 0.01}, torch.arange(70) * 3 + 5
    record = simulate(snn, images, index=index, backend=backend, **chosen)
    assert_same_record(record, simulate_stepwise(snn, images, index=index, **chosen))


def test_a_backend_that_is_asked_for_and_cannot_run_is_one_line_and_the_result_is_the_same(assert_same_record, caplog):
    snn = no_norm(nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)))
    images = torch.rand(4, 2, 5, 5)
    events._log_fallback.cache_clear()
    records = [simulate(snn, images, backend="events", weight_bits=None) for _ in range(2)]
    assert ["fixed point only" in line.message and "same result" in line.message for line in caplog.records] == [True]
    caplog.clear()
    assert_same_record(simulate(snn, images, weight_bits=None), records[0])
    assert not caplog.records


NEURONS = st.fixed_dictionaries(
    {
        "neuron": st.builds(
            IntegrateFire,
            threshold=st.sampled_from([0.3, 1.0, 1.7]),
            reset=st.sampled_from(["zero", "subtract"]),
            t_ref=st.sampled_from([0.0, 0.002, 0.005]),
            start=st.sampled_from([-0.5, 0.0, 0.5]),
            fire_above=st.booleans(),
        ),
        "drop_first_output": st.booleans(),
        "read_from": st.sampled_from([0, 0, 1, 4, 6]),
        "start_at_zero": st.booleans(),
        "weight_bits": st.sampled_from([2, 7, 16, 19, 24]),
        "encode": st.sampled_from([Rate(300.0), Rate(1000.0), Threshold(2.5), Current(0.8)]),
        "seed": st.sampled_from([0, 1, 2**40]),
    }
)


@needs_compiler
@hypothesis_settings(max_examples=15)
@given(st.integers(0, 9), st.booleans(), NEURONS, st.booleans())
def test_every_wiring_and_neuron_gives_the_spikes_of_the_reference(
    draw_snn, assert_same_record, is_accepted, wiring, seed, bias, chosen, spiking_pools
):
    snn, images = draw_snn(wiring, seed, bias, spiking_pools)
    chosen = chosen | {"duration": 0.009}
    assume(is_accepted(snn, images, chosen))
    index = torch.arange(len(images)) * 1009 + seed
    assert runs(snn, images.shape[1:], **chosen)
    assert_same_record(
        simulate(snn, images, index=index, **chosen), simulate_stepwise(snn, images, index=index, **chosen)
    )


@needs_compiler
def test_sums_that_could_leave_32_bits_are_guarded_and_held_in_64_where_they_do(assert_same_record, monkeypatch):
    """All inputs spike: after 28 steps the potentials of the last neurons are below -2^31 / 1.17; the guard is at half."""
    snn, images = no_norm(MLP([4000, 10])), torch.ones(3, 1, 40, 100)
    weights = snn.layers["linear1"].synapses[0].weighted.weight
    weights.data.fill_(1)
    weights.data[3:] = -1
    for duration, guarded, left in ((0.025, False, False), (0.026, True, True), (0.031, True, True)):
        settings = settings_of(duration=duration, neuron=IntegrateFire(3999.5, "subtract", -5.0))
        program = compile_program(snn, torch.Size((1, 40, 100)), settings)
        prepared = events.EventProgram(program, settings)
        layer = prepared.layers["linear1"]
        assert (layer.guarded, layer.wide) == (guarded, False)
        record = prepared.run(images, torch.arange(3))
        assert layer.wide == left
        chosen = {"duration": duration, "neuron": settings.neuron}
        plain = simulate(snn, images, backend="torch", **chosen)
        assert_same_record(record, plain)
        monkeypatch.setattr(events, "BUDGET", 1)  # chunks of 8 steps: the state behind the second goes on in 64 bits
        assert_same_record(simulate(snn, images, **chosen), plain)
        monkeypatch.undo()


@needs_compiler
def test_only_the_layers_that_need_it_are_wide():
    """An analog input has products of 31 bits; spikes have the weights' own 16."""
    torch.manual_seed(0)
    convs = [nn.Conv2d(a, 8, 3, padding=1) for a in (3, 8, 8)]
    net = nn.Sequential(*(m for conv in convs for m in (conv, nn.ReLU())), nn.Flatten(), nn.Linear(8 * 36, 10))
    settings = settings_of(encode=Current(), neuron=IntegrateFire(1.0, "subtract", start=0.5), duration=0.032)
    for readout in ("counts", "current"):
        snn = percentile_norm(net, torch.rand(20, 3, 6, 6), readout=readout)
        layers = events.EventProgram(compile_program(snn, torch.Size((3, 6, 6)), settings), settings).layers
        assert [layer.wide for layer in layers.values()] == [True, False, False, False]


class EveryConnection(nn.Module):
    """Max-pools, groups, depthwise maps, concatenation, a slice-and-zero-pad shortcut, padded and unequal pools."""

    def __init__(self, pool, groups, maps):
        super().__init__()
        self.stem = nn.Conv2d(2, maps, 3, padding=1)
        self.pool = pool
        self.grouped = nn.Conv2d(maps, 2 * maps, 3, padding=1, groups=groups)
        self.depthwise = nn.Conv2d(2 * maps, 2 * maps, (2, 3), stride=2, padding=1, groups=2 * maps)
        self.beside = nn.Conv2d(2 * maps, 3, 1)
        self.average = nn.AvgPool2d(3, 2, 1, count_include_pad=groups > 1)
        self.head = nn.LazyLinear(5)

    def forward(self, x):
        x = self.pool(self.stem(x).relu())
        y = self.grouped(x).relu()
        shortcut = nn.functional.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 1, 2))
        z = torch.cat([self.average(y), self.beside(self.average(y))], 1)
        z = (z + shortcut).relu()
        d = self.depthwise(y).relu()
        return self.head(torch.cat([z.flatten(1), d.flatten(1)], 1))


POOLS = st.sampled_from(
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.MaxPool2d((1, 2), 1, dilation=(1, 2)),
    ]
)
CHUNKS = st.sampled_from([(1 << 25, 8), (1, 1), (1, 3), (1, 8)])  # the budget of lists, and the least steps of a chunk


@needs_compiler
@hypothesis_settings(max_examples=15)
@given(
    POOLS, st.sampled_from([(1, 3), (2, 4), (4, 8), (3, 18)]), st.sampled_from(["count", "gate", "before_neuron"]),
    st.sampled_from(["counts", "current"]), st.sampled_from(["layer", "channel"]), CHUNKS, NEURONS,
)  # fmt: skip
def test_every_connection_and_unit_in_any_chunks(
    assert_same_record, is_accepted, pool, groups, max_pool, readout, scale, chunks, chosen
):
    torch.manual_seed(chosen["seed"] % 7)
    net = EveryConnection(pool, *groups).eval()
    images = torch.rand(5, 2, 9, 8)
    net(images)
    try:
        snn = percentile_norm(net, images, scale=scale, max_pool=max_pool, readout=readout)
    except SilentLayer:  # of random weights
        reject()
    chosen = chosen | {"duration": 0.007}
    assume(is_accepted(snn, images, chosen))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "BUDGET", chunks[0])
        patch.setattr(events, "LEAST", chunks[1])
        assert runs(snn, images.shape[1:], **chosen)
        record = simulate(snn, images, **chosen)
    assert_same_record(record, simulate_stepwise(snn, images, **chosen))


class Bottleneck(nn.Module):
    """A carried current with two readers, and a max-pool of maps that a batch norm has turned round."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.pool = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.MaxPool2d(2)
        self.narrow, self.wide, self.head = (
            nn.Conv2d(6, 3, 1),
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Linear(3 * 12 + 8 * 12, 4),
        )

    def forward(self, x):
        carried = self.narrow(self.pool(self.norm(self.stem(x).relu())))
        return self.head(torch.cat([carried, self.wide(carried).relu()], 1).flatten(1))


@needs_compiler
@pytest.mark.parametrize("encode", [Rate(300.0), Current()])
@pytest.mark.parametrize("max_pool", ["count", "gate", "before_neuron"])
def test_currents_and_signs_are_left_to_plain_torch_layer_by_layer(
    assert_same_record, monkeypatch, every_unit, max_pool, encode
):
    torch.manual_seed(1)
    bottleneck = Bottleneck().double().eval()
    bottleneck.norm.weight.data.normal_()
    plain = {}
    for net, images in ((bottleneck, torch.rand(5, 2, 6, 8).double()), every_unit()):
        for readout in ("counts", "current"):
            snn = percentile_norm(net, images, scale="channel", max_pool=max_pool, readout=readout)
            chosen = {"encode": encode, "neuron": IntegrateFire(1.0, "subtract", start=0.5), "duration": 0.011}
            settings = settings_of(weight_bits=14, **chosen)
            expected = simulate_stepwise(snn, images, weight_bits=14, **chosen)
            for budget in (1 << 25, 1):
                monkeypatch.setattr(events, "BUDGET", budget)
                prepared = events.EventProgram(compile_program(snn, images.shape[1:], settings), settings)
                assert_same_record(prepared.run(images, torch.arange(len(images))), expected)
                plain |= prepared.plain
    assert "carried currents read" in plain.values()


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors made within that exist at once, and the most there have been."""

    def __init__(self):
        super().__init__()
        self.holders, self.now, self.most = Counter(), 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        tensors = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, torch.Tensor)]
        given = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                place, size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
                if place not in self.holders:
                    if place in given:  # a view of a weight
                        continue
                    self.now += size
                    self.most = max(self.most, self.now)
                self.holders[place] += 1
                weakref.finalize(tensor, self.drop, place, size)
        return made

    def drop(self, place, size):
        self.holders[place] -= 1
        if not self.holders[place]:
            del self.holders[place]
            self.now -= size


@needs_compiler
@pytest.mark.parametrize(("bits", "readout"), [(14, "current"), (20, "counts")])
def test_densely_connected_currents_need_no_more_memory_than_planned_in_any_number_of_steps(
    assert_same_record, monkeypatch, bits, readout
):
    """Every layer reads all carried currents before it, which live as long as one of their readers."""
    random = torch.Generator().manual_seed(0)
    layers = [
        nn.Sequential(
            norm(8 + 4 * i, random), nn.ReLU(), nn.Conv2d(8 + 4 * i, 12, 1), norm(12, random), nn.ReLU(),
            nn.Conv2d(12, 4, 3, padding=1),
        )
        for i in range(4)
    ]  # fmt: skip
    net = nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.ReLU(), nn.MaxPool2d(2), Dense(layers), norm(24, random), nn.ReLU(), nn.Flatten(),
        nn.Linear(24 * 30, 3),
    ).eval()  # fmt: skip
    images = torch.rand(3, 2, 12, 14, generator=random)
    snn = percentile_norm(net, images, scale="channel", readout=readout)
    monkeypatch.setattr(events, "BUDGET", 1)
    monkeypatch.setattr(events, "DENSE", 1 << 18)
    most = {}
    for steps in (7, 30):
        chosen = {"weight_bits": bits, "duration": steps / 1000, "encode": Current(), "neuron": SOFT}
        settings = Settings(**chosen)
        prepared = events.EventProgram(compile_program(snn, images.shape[1:], settings), settings)
        plan, longer = (Plan(prepared, 1, prepared.chunk + more) for more in (0, 1))
        assert 1 < prepared.chunk < 7 and plan.dense <= events.DENSE < longer.dense
        made = np.zeros((steps, 1), np.int16), np.zeros((1, 3), np.float64 if readout == "current" else np.int32)
        with torch.inference_mode(), LiveBytes() as live:
            Worker(prepared).run(images[:1], torch.arange(1), np.zeros((1, 2), np.uint32), *made)
        most[steps] = live.most
        assert plan.dense / 3 < live.most <= plan.dense
        if steps == 7:
            expected = simulate_stepwise(snn, images, **chosen)
            assert (made[0][:, 0] == expected.predicted[:, 0].numpy()).all()
            assert_same_record(prepared.run(images, torch.arange(3)), expected)
    assert most[7] == most[30]


@needs_compiler
def test_layers_of_more_neurons_than_16_bits_count(assert_same_record):
    """75,000 pixels, 131,072 neurons behind them: three blocks of a list, in front of a pool, a max-pool and a Linear."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(16, 20, 1), nn.ReLU(), nn.AvgPool2d(4, 5),
        nn.Flatten(), nn.Linear(20 * 16 * 10, 3),
    )  # fmt: skip
    images = torch.rand(2, 3, 160, 100).round(decimals=1)
    snn = data_norm(net, images)
    chosen = {"duration": 0.003, "encode": Rate(500.0)}
    assert_same_record(
        simulate(snn, images, backend="events", **chosen), simulate(snn, images, backend="torch", **chosen)
    )
    wide = data_norm(
        nn.Sequential(nn.Conv2d(6, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 98 * 118, 3)),
        torch.rand(2, 6, 100, 120),
    )
    images = torch.rand(2, 6, 100, 120)
    assert_same_record(
        simulate(wide, images, backend="events", **chosen), simulate(wide, images, backend="torch", **chosen)
    )


GEOMETRY = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2))


@needs_compiler
@hypothesis_settings(max_examples=20)
@given(st.integers(0, 99), GEOMETRY, st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 5, 16, 17, 40]))
def test_any_convolution_and_pool(assert_same_record, seed, geometry, pool, pool_stride, maps):
    kernel, stride, padding, dilation = geometry
    torch.manual_seed(seed)
    conv = nn.Conv2d(2, maps, kernel, stride, padding, dilation, bias=bool(seed % 2))
    net = nn.Sequential(
        conv, nn.ReLU(), nn.AvgPool2d(pool, pool_stride), nn.Conv2d(maps, 3, 1), nn.ReLU(), nn.Flatten()
    )
    net(torch.zeros(1, 2, 11, 13))
    net.append(nn.Linear(net(torch.zeros(1, 2, 11, 13)).shape[1], 4))
    snn, images = no_norm(net), torch.rand(11, 2, 11, 13)
    chosen = {"weight_bits": 12, "duration": 0.009, "neuron": IntegrateFire(0.3), "seed": seed}
    assert runs(snn, (2, 11, 13), **chosen)
    assert_same_record(simulate(snn, images, **chosen), simulate(snn, images, backend="torch", **chosen))


@needs_compiler
def test_no_cut_and_no_number_of_threads_changes_a_spike(assert_same_record):
    torch.manual_seed(0)
    snn, images = no_norm(MLP([784, 300, 130, 10])), torch.rand(61, 1, 28, 28)
    chosen = {"weight_bits": 16, "duration": 0.02, "neuron": IntegrateFire(0.05)}
    whole = simulate(snn, images, **chosen)
    assert int(whole.counts.sum()) > 0
    before = torch.get_num_threads()
    try:
        for threads, chunk in ((1, 61), (2, 7), (3, 1), (5, 60)):
            torch.set_num_threads(threads)
            assert_same_record(simulate(snn, images, chunk=chunk, **chosen), whole)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("broken", ["absent", "failing"])
def test_without_a_compiler_the_result_is_the_same_and_one_line_says_so(
    assert_same_record, monkeypatch, caplog, tmp_path, broken
):
    snn, images = no_norm(MLP([784, 20, 10])), torch.rand(5, 1, 28, 28)
    expected = simulate(snn, images, weight_bits=16, backend="torch")
    compiler.library.cache_clear()
    compiler._compiler.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if broken == "absent":
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setenv("CC", "false")
    try:
        assert_same_record(simulate(snn, images, weight_bits=16), expected)
        simulate(snn, images, weight_bits=16)
    finally:
        compiler.library.cache_clear()
        compiler._compiler.cache_clear()
    assert sum("same result" in record.message for record in caplog.records) == 1
