"""Energy per image: of the arithmetic alone, and by a model with the traffic of weights, potentials and spikes.

The constants of the model are in conf/energy. It is arithmetic on counts, no measurement: no leakage, clock, control, routing,
transfer of the image, and no price of latency.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from respike.errors import InputError
from respike.metrics.operations import INPUT, LayerOperations, Operations
from respike.simulate.record import SpikeRecord
from respike.simulate.ttfs.record import TTFSRecord

MAC_PJ = 4.6  # multiply-accumulate
AC_PJ = 0.9  # accumulate
IMAGE_BITS = 8  # of a pixel
FLOAT = 32  # bits of a float
SILENT = 1e-12  # times the spikes: none
CAUSES = ("products", "accumulates", "membrane", "weights", "potentials", "signals")
ENDS = ("low", "high")
Cost = dict[str, float]  # cause -> pJ


def energy_metrics(record: SpikeRecord) -> dict[str, float]:
    """Arithmetic only, 32-bit floats at 45 nm (Horowitz 2014): energy/ann_nj, energy/snn_nj per image, and their constants.

    The ReLU network needs one multiply-accumulate per use of a weight. A spike needs one accumulate per synapse that it
    reaches; values that are no spikes, an analog input and carried currents, need the multiply-accumulates of the layer that
    reads them at every step.
    """
    synops = sum(int(values.sum()) for values in record.synops.values()) / record.images
    return _energy(record.ann_macs, synops, record.analog_macs * record.steps)


def ttfs_energy(record: TTFSRecord) -> dict[str, float]:
    """`energy_metrics` of a time-to-first-spike network: one accumulate per synapse that a spike before t_max reaches."""
    return _energy(record.ann_macs, sum(record.synops.values()) / record.images, 0)


def _energy(ann_macs: float, synops: float, analog_macs: float) -> dict[str, float]:
    return {
        "energy/ann_nj": ann_macs * MAC_PJ / 1000,
        "energy/snn_nj": (synops * AC_PJ + analog_macs * MAC_PJ) / 1000,
        "energy/mac_pj": MAC_PJ,
        "energy/ac_pj": AC_PJ,
    }


@dataclass(frozen=True)
class EnergyModel:
    """Energy of one image through a spiking network, and through the ReLU network of the same connections, in pJ by cause.

    products: multiply-accumulates; accumulates; membrane: additions of constant currents and leaks, comparisons with the
    threshold and resets, of silent neurons too; weights, potentials: their reads and writes; signals: those of spikes (an
    address, and the time of a network of spike times), activations and the image. Memory is that of the smallest level which
    holds the layer's weights, potentials or signals.

    Two ends, both for either network. Low: each weight is read once per image, and DRAM is at its cheapest. High: a weight is
    read at each use. The current of an analog image is computed once and added at every step.
    weight_bits: of spiking networks; potential_bits: of their potentials and additions; accumulator_bits: of sums in a ReLU
    network; time_levels: of spike times without a grid. add: (bits, pJ) of additions; multiply: pJ of 8 x 8 bits;
    fp32_mac, fp32_add: pJ; memory: (KB or None, pJ of 64 bits at the low and the high end). Raises InputError for numbers that
    are no constants.
    """

    weight_bits: int
    potential_bits: int
    accumulator_bits: int
    time_levels: int
    add: Sequence[Sequence[float]]
    multiply: float
    fp32_mac: float
    fp32_add: float
    memory: Sequence[Sequence[float | None]]

    def __post_init__(self) -> None:
        bits = [pair[0] for pair in self.add if len(pair) == 2]
        if len(bits) != len(self.add) or not _ascend(bits) or not all(pair[1] >= 0 for pair in self.add):
            raise InputError(
                f"energy.add={_typed(self.add)}: pairs of bits, ascending, and a price in pJ from 0 up, as in "
                "energy.add=[[8,0.03],[32,0.1]]"
            )
        sizes = [math.inf if level[0] is None else level[0] for level in self.memory if len(level) == 3]
        if len(sizes) != len(self.memory) or not _ascend(sizes) or sizes[-1] != math.inf:
            raise InputError(
                f"energy.memory={_typed(self.memory)}: levels of KB, ascending, the last null, which holds anything, with two "
                "prices each, as in energy.memory=[[8,10,10],[null,1300,2600]]"
            )
        prices = [[-1 if price is None else price for price in level[1:]] for level in self.memory]
        if not all(0 <= low <= high < math.inf for low, high in prices):
            raise InputError(
                f"energy.memory={_typed(self.memory)}: a level is KB, then pJ of 64 bits at the low and the high end, from 0 "
                "up and not falling, as in energy.memory=[[8,10,10],[null,1300,2600]]"
            )
        for name in ("weight_bits", "potential_bits", "accumulator_bits"):
            if not 1 <= getattr(self, name) <= bits[-1]:
                raise InputError(
                    f"energy.{name}={getattr(self, name)}: 1 to {bits[-1]:g} bits, the widest of energy.add"
                )
        if not self.time_levels >= 2:
            raise InputError(f"energy.time_levels={self.time_levels}: 2 or more, as in energy.time_levels=256")
        for name in ("multiply", "fp32_mac", "fp32_add"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"energy.{name}={getattr(self, name)}: pJ from 0 up, as in energy.{name}=1")

    def addition(self, bits: int) -> float:
        """pJ of an addition, a comparison or a reset."""
        return float(next(energy for width, energy in self.add if width >= bits))

    def mac(self, bits: int, others: int | None = None) -> float:
        """pJ of a product of two numbers of these bits, both of `bits` without `others`, added to a sum; 32 bits are floats."""
        if bits == FLOAT:
            return self.fp32_mac
        return self.multiply * bits * (bits if others is None else others) / 64 + self.addition(self.accumulator_bits)

    def access(self, capacity: float, end: str) -> float:
        """pJ of one bit in the smallest memory that holds so many bits."""
        for size, *prices in self.memory:
            if size is None or capacity <= size * 8192:
                return float(prices[ENDS.index(end)] or 0.0) / 64
        raise AssertionError("the last level holds anything")

    def spiking(self, operations: Operations, layer: LayerOperations, end: str) -> Cost:
        """pJ of a layer of the spiking network, its potentials updated in the cheaper of two ways."""
        steps, bits = operations.steps or 1, self.weight_bits
        if layer.name == INPUT:
            pixels = layer.neurons * IMAGE_BITS
            image = 0.0 if layer.fires else 2 * pixels * self.access(pixels, end)
            return dict.fromkeys(CAUSES, 0.0) | {"signals": image + self._spikes(operations, layer, end)}
        products = layer.input_macs + layer.current_macs * steps
        reads = self._weight_reads(layer, products + layer.accumulates - layer.unweighted, end)
        ways = self._ways(operations, layer, end)
        return {
            "products": products * self.mac(bits),
            "weights": bits * reads * self.access(layer.weights * bits, end),
            "signals": self._spikes(operations, layer, end),
        } | ways[_cheapest(ways)]

    def updates(self, operations: Operations, layer: LayerOperations, end: str) -> str:
        """When the layer's potentials are updated: "event-driven", at a spike, or "clock-driven", at every step."""
        return _cheapest(self._ways(operations, layer, end))

    def relu(self, layer: LayerOperations, bits: int, end: str, skip: bool = False) -> Cost:
        """pJ of the layer in the ReLU network with weights and activations of so many bits, 32 for floats.

        skip: only the multiply-accumulates on activations other than 0. Additions of branches and pools cost nothing.
        """
        cost = dict.fromkeys(CAUSES, 0.0)
        if layer.name == INPUT or layer.macs:
            width = min(bits, IMAGE_BITS) if layer.name == INPUT else bits
            cost["signals"] = 2 * layer.neurons * width * self.access(layer.neurons * width, end)
        macs = layer.effective_macs if skip and layer.effective_macs is not None else layer.macs
        cost["products"] = macs * self.mac(bits)
        cost["weights"] = bits * self._weight_reads(layer, macs, end) * self.access(layer.weights * bits, end)
        return cost

    def _ways(self, operations: Operations, layer: LayerOperations, end: str) -> dict[str, Cost]:
        """The costs of potentials by the way of their updates. Between spikes of other neurons only constant currents and
        leaks change a potential, so that where there is one, every step updates it."""
        add = self.addition(self.potential_bits)
        update = 2 * self.potential_bits * self.access(layer.neurons * self.potential_bits, end)  # a read and a write
        resets = layer.spikes * add if layer.fires else 0.0
        per_step = (layer.drives + layer.fires) * add
        by_event = {
            "accumulates": layer.accumulates * add,
            "membrane": layer.neurons * (operations.steps or 1) * per_step + resets,
            "potentials": layer.accumulates * update,
        }
        steps, stored = operations.steps or 1, 1.0
        if (
            operations.steps is None
        ):  # the interval of its sources and its own, and a slope that is read beside the potential
            steps, stored = 2 * (operations.levels or self.time_levels), 1.5
        by_clock = by_event | {
            "membrane": layer.neurons * steps * per_step + resets,
            "potentials": layer.neurons * steps * stored * update,
        }
        if operations.steps is None:  # a potential is the sum of weights times the time since their spikes
            by_event["accumulates"] = layer.accumulates * self.mac(self.weight_bits, self._time_bits(operations))
        elif layer.drives:
            return {"clock-driven": by_clock}
        return {"event-driven": by_event, "clock-driven": by_clock}

    def _time_bits(self, operations: Operations) -> int:
        return math.ceil(math.log2(operations.levels or self.time_levels))

    def _spikes(self, operations: Operations, layer: LayerOperations, end: str) -> float:
        """The addresses, and times, of a layer's spikes, in a memory that holds one of every neuron."""
        bits = math.ceil(math.log2(max(layer.neurons, 2)))
        bits += self._time_bits(operations) if operations.steps is None else 0
        return layer.spikes * bits * self.access(layer.neurons * bits, end)

    @staticmethod
    def _weight_reads(layer: LayerOperations, uses: float, end: str) -> float:
        return min(layer.weights, uses) if end == "low" else uses if layer.weights else 0.0


def _ascend(values: Sequence[float]) -> bool:
    """Whether there are numbers, above 0, and each above the one before."""
    return bool(values) and all(a < b for a, b in itertools.pairwise([0, *values]))


def _typed(table: Sequence[Sequence[float | None]]) -> str:
    """A table as it is typed: [[8,10,10],[null,1300,2600]]."""
    return json.dumps([list(row) for row in table], separators=(",", ":"))


def _cheapest(ways: dict[str, Cost]) -> str:
    return min(ways, key=lambda way: sum(ways[way].values()))


@dataclass(frozen=True)
class Baseline:
    """A ReLU network to compare with. bits: of weights and activations; skip: activations of 0 cost no multiply-accumulate."""

    name: str
    bits: int
    skip: bool = False


def baselines(operations: Operations, model: EnergyModel) -> list[Baseline]:
    """The ReLU network in fp32, int8 and as many bits as T steps can tell apart (Yan et al. 2024): ceil(log2(T + 1)).

    In int8 and in those bits also without the multiply-accumulates on activations of 0, where these are known.
    """
    levels = operations.levels or model.time_levels
    bits = math.ceil(math.log2(levels if operations.steps is None else operations.steps + 1))
    found = [Baseline("fp32", FLOAT), Baseline("int8", 8), Baseline("bits", bits)]
    if all(layer.effective_macs is not None for layer in operations.layers if layer.macs):
        found[2:2] = [Baseline("int8_skip", 8, True)]
        found.append(Baseline("bits_skip", bits, True))
    return found


def spiking_energy(model: EnergyModel, operations: Operations, end: str) -> Cost:
    """pJ per image of the spiking network by cause."""
    return _sum(model.spiking(operations, layer, end) for layer in operations.layers)


def relu_energy(model: EnergyModel, operations: Operations, baseline: Baseline, end: str) -> Cost:
    """pJ per image of the ReLU network by cause."""
    return _sum(model.relu(layer, baseline.bits, end, baseline.skip) for layer in operations.layers)


def _sum(costs: Iterable[Cost]) -> Cost:
    listed = list(costs)
    return {cause: math.fsum(cost[cause] for cost in listed) for cause in CAUSES}


def activity(operations: Operations) -> float:
    """Spikes per synapse and step: the mean activity of the neurons, weighted by their synapses.

    In a network of spike times: per synapse, the share of its sources that spike.
    """
    return operations.spikes_per_synapse / (operations.steps or 1)


def break_even(model: EnergyModel, operations: Operations, baseline: Baseline, end: str) -> float:
    """The activity, as `activity` gives it, at which the spiking network costs as much as the ReLU network.

    All layers, and the input, spike that many times more or less. 0 if it costs more without any spike; NaN if it has none.
    """
    limit = sum(relu_energy(model, operations, baseline, end).values())

    def excess(factor: float) -> float:
        scaled = replace(operations, layers=tuple(layer.scaled(factor) for layer in operations.layers))
        return sum(spiking_energy(model, scaled, end).values()) - limit

    return activity(operations) * _root(excess) if operations.accumulates else math.nan


def _root(excess: Callable[[float], float]) -> float:
    """Where a rising function crosses 0, to 1e-9 of its place; 0 if it is above 0 there."""
    low, high = 0.0, 1.0
    if excess(SILENT) > 0:
        return 0.0
    while excess(high) < 0 and high < 1e12:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return (low + high) / 2


def one_layer(operations: Operations, layer: LayerOperations) -> Operations:
    """The operations of a single layer, for its own `activity` and `break_even`."""
    return replace(operations, layers=(layer,))


def model_metrics(model: EnergyModel, operations: Operations) -> dict[str, float]:
    """The metrics energy/... of the model, per image.

    energy/snn_low_nj, energy/snn_high_nj, and so for the ReLU networks of `baselines` (int8, int8_skip, bits, bits_skip, fp32);
    energy/ratio_low and energy/ratio_high, over int8; energy/spikes_per_synapse; energy/activity; energy/break_even_low and
    energy/break_even_high: the activity at which that ratio is 1.
    """
    compared = baselines(operations, model)
    int8 = next(baseline for baseline in compared if baseline.name == "int8")
    found = {
        "energy/spikes_per_synapse": operations.spikes_per_synapse,
        "energy/activity": activity(operations),
        "energy/bits": float(compared[-1].bits),
    }
    for end in ENDS:
        spent = sum(spiking_energy(model, operations, end).values())
        found[f"energy/snn_{end}_nj"] = spent / 1000
        for baseline in compared:
            found[f"energy/{baseline.name}_{end}_nj"] = (
                sum(relu_energy(model, operations, baseline, end).values()) / 1000
            )
        limit = found[f"energy/int8_{end}_nj"]  # 0 where all that it does is free
        found[f"energy/ratio_{end}"] = spent / 1000 / limit if limit else math.nan
        found[f"energy/break_even_{end}"] = break_even(model, operations, int8, end)
    return {name: value for name, value in found.items() if math.isfinite(value)}
