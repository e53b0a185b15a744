"""The model in closed form on layers small enough to compute by hand, and its laws."""

import math
from dataclasses import replace

import pytest
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from respike.errors import InputError
from respike.metrics.energy import (
    CAUSES,
    ENDS,
    Baseline,
    EnergyModel,
    activity,
    baselines,
    break_even,
    model_metrics,
    one_layer,
    relu_energy,
    spiking_energy,
)
from respike.metrics.operations import LayerOperations, Operations
from respike.runs.conf import CONF

# Round numbers: 1 and 2 pJ for additions of 8 and 16 bits, 3 pJ for a product of bytes, memories of 1 KB and more.
MODEL = EnergyModel(
    weight_bits=8, potential_bits=8, accumulator_bits=16, time_levels=16, add=[[8, 1], [16, 2], [32, 4]], multiply=3,
    fp32_mac=50, fp32_add=10, memory=[[1, 64, 64], [8, 640, 640], [None, 6400, 12800]],
)  # fmt: skip
INPUT = LayerOperations("input", 16, spikes=20.0, fires=True)
HIDDEN = LayerOperations(
    "hidden", 8, weights=128, macs=128, effective_macs=40.0, accumulates=160.0, spikes=6.0, fires=True
)
NET = Operations((INPUT, HIDDEN), steps=10)
CMOS = instantiate(OmegaConf.load(CONF / "energy" / "cmos_45nm.yaml"))


def test_a_layer_of_spikes_by_hand():
    low, high = (MODEL.spiking(NET, HIDDEN, end) for end in ENDS)
    # 160 accumulates; 8 neurons compare at 10 steps, and 6 spikes reset; potentials: 16 pJ per read and write of 8 bits
    shared = {"products": 0, "accumulates": 160, "membrane": 80 + 6, "potentials": 80 * 16, "signals": 6 * 3}
    assert low == shared | {"weights": 128 * 8} and high == shared | {"weights": 160 * 8}
    assert MODEL.updates(NET, HIDDEN, "low") == "clock-driven"  # 80 updates, against 160 at spikes
    assert MODEL.updates(NET, HIDDEN.scaled(0.4), "low") == "event-driven"  # 64
    assert MODEL.spiking(NET, INPUT, "low") == dict.fromkeys(CAUSES, 0) | {"signals": 20 * 4}


def test_constant_currents_and_leaks_update_silent_neurons_at_every_step():
    driven = replace(HIDDEN, drives=2).scaled(0.1)
    cost = MODEL.spiking(NET, driven, "low")
    assert MODEL.updates(NET, driven, "low") == "clock-driven"
    assert cost["membrane"] == pytest.approx(8 * 10 * 3 + 0.6) and cost["potentials"] == 80 * 16


def test_an_analog_image_is_multiplied_once():
    image = replace(INPUT, spikes=0.0, fires=False)
    operations = Operations((image, replace(HIDDEN, input_macs=128, accumulates=0.0, drives=1)), 10)
    for end in ENDS:
        cost = spiking_energy(MODEL, operations, end)
        # pixels are written and read once; spikes of the layer: 3 bits
        assert (cost["products"], cost["weights"], cost["signals"]) == (128 * 5, 128 * 8, 2 * 16 * 8 + 18)
    assert operations.spikes_per_synapse == 0  # spikes reach none


def test_carried_currents_are_multiplied_at_every_step():
    assert MODEL.spiking(NET, replace(HIDDEN, current_macs=7), "low")["products"] == 7 * 10 * 5


def test_synapses_without_weights_read_none():
    layer = replace(HIDDEN, accumulates=160.0, unweighted=60.0)
    assert MODEL.spiking(NET, layer, "high")["weights"] == 100 * 8
    assert MODEL.spiking(NET, replace(layer, weights=0), "high")["weights"] == 0


def test_spike_times_are_multiplied_or_integrated_step_by_step():
    """16 levels: 4 bits. By events: a product of 8 x 4 bits per synapse and one update at it. By the clock 16
    steps in the interval of the sources and 16 in its own, in which the slope is read too."""
    operations = Operations((INPUT, replace(HIDDEN, drives=1, accumulates=20.0)), None)
    layer = operations.layers[1]
    by_event = {"accumulates": 20 * (1.5 + 2), "membrane": 8 * 2 + 6, "potentials": 20 * 16}
    assert MODEL.spiking(operations, layer, "low") == by_event | {"products": 0, "weights": 20 * 8, "signals": 6 * 7}
    busy = replace(layer, accumulates=1000.0)
    assert MODEL.updates(operations, busy, "low") == "clock-driven"
    cost = MODEL.spiking(operations, busy, "low")
    assert (cost["accumulates"], cost["membrane"], cost["potentials"]) == (1000, 8 * 32 * 2 + 6, 8 * 32 * (16 + 8))


def test_the_relu_network_by_hand():
    low, high = (MODEL.relu(HIDDEN, 8, end) for end in ENDS)
    shared = dict.fromkeys(CAUSES, 0) | {"products": 128 * 5, "signals": 2 * 8 * 8}
    assert low == high == shared | {"weights": 128 * 8}
    skipped = MODEL.relu(HIDDEN, 8, "low", skip=True)
    assert (skipped["products"], skipped["weights"]) == (40 * 5, 40 * 8)
    assert MODEL.relu(HIDDEN, 4, "low")["products"] == 128 * (3 / 4 + 2)
    assert MODEL.relu(HIDDEN, 32, "low")["products"] == 128 * 50
    conv = replace(HIDDEN, weights=10)
    assert [MODEL.relu(conv, 8, end)["weights"] for end in ENDS] == [10 * 8, 128 * 8]


@pytest.mark.parametrize(("bits", "low", "high"), [(8192, 1, 1), (8193, 10, 10), (65536, 10, 10), (65537, 100, 200)])
def test_memory_is_the_smallest_that_holds_the_layer(bits, low, high):
    assert (MODEL.access(bits, "low"), MODEL.access(bits, "high")) == (low, high)


def test_the_constants_are_those_of_the_tables():
    """Horowitz 2014: an int8 product of .2 pJ and an addition of .1; 64 bits of 8, 32, 1024 KB and DRAM."""
    assert CMOS.mac(8) == pytest.approx(0.3) and CMOS.mac(32) == 4.6 and CMOS.fp32_add == 0.9
    assert CMOS.mac(4) == pytest.approx(0.05 + 0.1) and CMOS.addition(CMOS.potential_bits) == 0.05
    per_byte = [8 * CMOS.access(kb * 8192, "low") for kb in (8, 32, 1024, 1025)]
    assert per_byte == [1.25, 2.5, 12.5, 162.5] and 8 * CMOS.access(1e9, "high") == 325


def test_the_other_baseline_has_the_bits_that_the_steps_tell_apart():
    for steps, bits in {1: 1, 3: 2, 4: 3, 5: 3, 10: 4, 63: 6, 64: 7}.items():
        assert baselines(replace(NET, steps=steps), MODEL)[-1] == Baseline("bits_skip", bits, True)
    assert baselines(replace(NET, steps=None, levels=64), MODEL)[-1].bits == 6
    unknown = Operations((INPUT, replace(HIDDEN, effective_macs=None)), 10)
    assert [baseline.name for baseline in baselines(unknown, MODEL)] == ["fp32", "int8", "bits"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("model", [MODEL, CMOS], ids=["round", "cmos"])
def test_at_the_break_even_activity_both_networks_cost_the_same(model, end):
    operations = Operations((INPUT, replace(HIDDEN, neurons=100, weights=1600, macs=1600, accumulates=900.0)), 4)
    for baseline in baselines(operations, model):
        found = break_even(model, operations, baseline, end)
        factor = found / activity(operations)
        scaled = replace(operations, layers=tuple(layer.scaled(factor) for layer in operations.layers))
        spent, limit = (
            sum(c.values()) for c in (spiking_energy(model, scaled, end), relu_energy(model, operations, baseline, end))
        )
        assert spent == pytest.approx(limit, rel=1e-6) or (found == 0 and spent > limit)


def test_there_is_no_break_even_where_silence_costs_more_or_nothing_spikes():
    held = replace(HIDDEN, drives=1, neurons=1000)
    assert break_even(MODEL, Operations((INPUT, held), 100), Baseline("int8", 8), "low") == 0
    silent = Operations((INPUT, replace(HIDDEN, accumulates=0.0)), 10)
    assert math.isnan(break_even(MODEL, silent, Baseline("int8", 8), "low"))
    assert "energy/break_even_low" not in model_metrics(MODEL, silent)


def test_the_break_even_rate_of_yan_et_al():
    """Weights read at each use, and nothing else: with b-bit weights on both sides it is 1/T, with 8 bits b / (8 T)."""
    free = replace(MODEL, add=[[32, 0]], multiply=0, memory=[[None, 64, 64]], potential_bits=1)
    for steps in range(5, 11):
        layer = LayerOperations("layer", 1, weights=10**6, macs=10**8, accumulates=1e7)
        operations = Operations((layer,), steps)
        bits = math.ceil(math.log2(steps + 1))
        found = break_even(free, operations, Baseline("bits", bits), "high")
        assert found == pytest.approx(bits / (8 * steps), rel=1e-3)
        same = replace(free, weight_bits=bits)
        assert break_even(same, operations, Baseline("bits", bits), "high") == pytest.approx(1 / steps, rel=1e-3)


@given(st.floats(0, 3), st.floats(0, 3), st.booleans(), st.sampled_from([None, 5]))
def test_more_spikes_never_cost_less_and_the_ends_are_in_order(few, more, driven, steps):
    layers = (INPUT, replace(HIDDEN, drives=int(driven)))
    operations = Operations(layers, steps)
    few, more = sorted((few, more))
    for end in ENDS:
        costs = [
            sum(spiking_energy(CMOS, replace(operations, layers=tuple(la.scaled(f) for la in layers)), end).values())
            for f in (few, more)
        ]
        assert costs[0] <= costs[1] * (1 + 1e-12)
    low, high = (sum(spiking_energy(CMOS, operations, end).values()) for end in ENDS)
    assert low <= high


def test_all_metrics_are_ratios_and_sums_of_the_costs():
    found = model_metrics(MODEL, NET)
    spent = sum(spiking_energy(MODEL, NET, "high").values())
    dense = sum(relu_energy(MODEL, NET, Baseline("int8", 8), "high").values())
    assert found["energy/snn_high_nj"] == pytest.approx(spent / 1000)
    assert found["energy/ratio_high"] == pytest.approx(spent / dense)
    assert found["energy/spikes_per_synapse"] == 160 / 128 and found["energy/activity"] == 0.125
    assert found["energy/int8_skip_low_nj"] < found["energy/int8_low_nj"] < found["energy/fp32_low_nj"]
    assert activity(one_layer(NET, HIDDEN)) == 0.125


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"add": [[16, 1], [8, 2]]}, "energy.add="),
        ({"add": [[8, math.nan]]}, "energy.add=.*from 0 up"),
        ({"memory": [[8, 1]]}, "energy.memory="),
        ({"memory": [[8, 10, 10]]}, r"energy.memory=\[\[8,10,10\]\]: .*the last null"),
        ({"memory": [[None, 10, -1]]}, r"energy.memory=\[\[null,10,-1\]\]: .*not falling"),
        ({"weight_bits": 40}, "energy.weight_bits=40: 1 to 32 bits"),
        ({"time_levels": 0}, "energy.time_levels=0: 2 or more"),
        ({"fp32_mac": -1}, "energy.fp32_mac=-1: pJ from 0 up"),
    ],
)
def test_constants_that_are_none_are_refused_in_a_line(changes, line):
    with pytest.raises(InputError, match=line) as caught:
        replace(MODEL, **changes)
    assert "\n" not in str(caught.value)


def test_what_is_free_costs_nothing():
    free = replace(MODEL, add=[[32, 0]], multiply=0, memory=[[None, 0, 0]])
    metrics = model_metrics(free, NET)
    assert metrics["energy/snn_high_nj"] == metrics["energy/int8_high_nj"] == 0 and "energy/ratio_low" not in metrics
    no_memory = replace(MODEL, memory=[[None, 0, 0]])
    assert spiking_energy(no_memory, NET, "high") == spiking_energy(MODEL, NET, "high") | dict.fromkeys(
        ("weights", "potentials", "signals"), 0
    )
