"""Writes a RateSNN as a NIR graph (neuromorphic intermediate representation, Pedersen et al. 2024), as it is simulated.

Weights and thresholds are those of the fixed-point grid, so that sums are exact in the float32 of other libraries, in any
order. Nodes are the ones that most readers know: Affine, Conv2d, SumPool2d, Flatten, IF, LIF, with r = 1 and a time step of 1.
"""

import copy
import importlib.metadata
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from torch import nn

from respike.convert.exact.ttfs_net import TTFSNet
from respike.convert.graph.modules import pair
from respike.convert.graph.nodes import Scale, SignedMaxPool2d
from respike.convert.rate.rate_snn import RateSNN, SpikingLayer, Synapse
from respike.errors import InputError
from respike.networks.copying import copied
from respike.networks.standardize import Standardize
from respike.neurons.encode import Current
from respike.neurons.integrate_fire import IntegrateFire
from respike.neurons.lif import LIF
from respike.neurons.neuron import Neuron
from respike.nir.paths import NodePath
from respike.nir.read import SIMULATED
from respike.simulate.connections import layer_shapes, path_shape, with_plain_pools
from respike.simulate.rate.fixed_point import fold_pools, round_layer, weights_of
from respike.simulate.rate.program import grid_of_input, pools, synapse_paths
from respike.simulate.rate.settings import Settings
from respike.system.files import write_atomically

log = logging.getLogger(__name__)
LOSSY = "or write it all the same, with a note of what is lost: --lossy, in Python lossy=True"


def export_nir(
    snn: nn.Module,
    path: str | os.PathLike,
    input_shape: Sequence[int],
    *,
    lossy: bool = False,
    **settings: Any,
) -> list[str]:
    """Write a network to a NIR file, as `simulate(snn, images, **settings)` runs it; returns what is lost (`lossy` only).

    snn: a `RateSNN`, or a network that was trained directly, as `SpikingResNet19`, which is written in float32 with its batch
    norms folded and its own neuron. input_shape: of the images (C, H, W). settings: keywords of `simulate`; neuron and
    weight_bits decide what is written.
    Metadata of the graph say what NIR leaves to its reader: "fires" (">=" or ">"), "dt", "readout", "simulated" (the other
    settings). How images become spikes is not part of the graph. lossy: write what NIR cannot say in the nearest form: a reset
    by subtraction as one to zero, start potentials as 0, a max-pool as the average, currents without their rounding. Raises
    InputError for it otherwise, and for spike times, average pools with windows of unequal size, and biases that vary
    over spatial positions as those of no padded convolution do.
    """
    if hasattr(snn, "spiking_layers"):
        steps = int(getattr(snn, "steps", 40))
        snn, neuron = _direct_layers(snn)
        clock = {"dt": 0.001, "duration": 0.001 * steps}  # its steps have no length
        settings = {"encode": Current(), "weight_bits": None, **clock} | settings | {"neuron": neuron}
    if isinstance(snn, TTFSNet):
        raise InputError(
            "NIR has no spike times: of method=ttfs nothing can be written; export a network of method=rate"
        )
    if not isinstance(snn, RateSNN):
        raise InputError(
            f"a {type(snn).__name__} is no spiking network; export a RateSNN, or a network of method=direct"
        )
    chosen = Settings.from_keywords(settings)
    writer = _Writer(snn, torch.Size(input_shape), chosen)
    if writer.lost and not lossy:
        advice = "; ".join(dict.fromkeys(writer.advice))
        raise InputError(f"NIR does not say {', nor '.join(writer.lost)}; {advice}, {LOSSY}")
    graph = writer.graph()
    with write_atomically(Path(path)) as temporary:
        nir.write(temporary, graph)
    return writer.lost


def _direct_layers(net: Any) -> tuple[RateSNN, Neuron]:
    """A directly trained network as layers and synapses, with batch norms folded, and the neuron of all its layers."""
    folded = net.folded().float()
    neurons = {
        module.neuron
        for layer in folded.spiking_layers().values()
        for module in layer.modules()
        if hasattr(module, "neuron")
    }
    if len(neurons) != 1:
        raise InputError(f"{type(net).__name__} has neurons of {len(neurons)} kinds; one for all layers can be written")
    layers: dict[str, SpikingLayer] = {}
    pixels = getattr(folded, "standardize", None)
    if isinstance(pixels, Standardize):
        assert pixels.running_mean is not None and pixels.running_var is not None
        factor = pixels.running_var.rsqrt()
        layers["standardize"] = SpikingLayer(
            "current", [Synapse("input", Scale(factor))], -factor * pixels.running_mean
        )
    for name, connections in folded.synapses().items():
        synapses, biases = [], []
        for source, modules in connections:
            modules = copy.deepcopy(modules)
            for module in modules:
                if getattr(module, "bias", None) is not None:
                    biases.append(module.bias.detach())
                    module.register_parameter("bias", None)
            source = "standardize" if source == "input" and "standardize" in layers else source
            synapses.append(Synapse(source.replace(".", "_"), *modules))
        layers[name.replace(".", "_")] = SpikingLayer("relu", synapses, torch.stack(biases).sum(0) if biases else None)
    return RateSNN(layers).requires_grad_(False), neurons.pop()


class _Writer:
    """Nodes and edges of a network. Values: of a layer, the sum of its `ends`.

    lost: what NIR does not say, as words behind "NIR does not say"; advice: what to do instead, for each.
    """

    def __init__(self, snn: RateSNN, input_shape: torch.Size, settings: Settings):
        self.snn, self.settings = snn, settings
        self.neuron = settings.neuron.with_time_step(settings.dt)
        self.nodes: dict[str, nir.NIRNode] = {"input": nir.Input(np.array(input_shape))}
        self.edges: list[tuple[str, str]] = []
        self.ends: dict[str, list[str]] = {"input": ["input"]}
        self.shapes = layer_shapes(synapse_paths(snn), input_shape, pools(snn))
        self.lost: list[str] = []
        self.advice: list[str] = []
        self._check_neuron()
        self._check_currents()
        for name in snn.layers:
            self._add_layer(name)
        self.nodes["output"] = nir.Output(np.array(self.shapes[snn.output]))
        self._connect(self.ends[snn.output], "output")

    def graph(self) -> nir.NIRGraph:
        """The graph with its metadata."""
        above = not isinstance(self.neuron, IntegrateFire) or self.neuron.fire_above
        metadata: dict[str, str | float] = {
            "writer": f"respike {importlib.metadata.version('respike')}",
            "fires": ">" if above else ">=",
            "dt": 1.0,
            "reset": getattr(self.neuron, "reset", "zero"),
            "readout": "current" if self._reads_current else "counts",
        }
        metadata["simulated"] = ", ".join(f"{name}={getattr(self.settings, name)}" for name in SIMULATED)
        if getattr(self.neuron, "start", 0.0):
            metadata["start"] = float(self.neuron.start)  # type: ignore[attr-defined]  # a share of the threshold
        if self.lost:
            metadata["lost"] = "; ".join(self.lost)
        square = all(np.unique(n.weight.shape[2:]).size == 1 for n in self.nodes.values() if isinstance(n, nir.Conv2d))
        # nir 1.0.8 takes the height of a kernel for its width
        return nir.NIRGraph(self.nodes, self.edges, metadata, type_check=square)

    @property
    def _rounds(self) -> bool:
        """Whether the simulation is in fixed point."""
        return self.settings.weight_bits is not None and self.neuron.fixed_point(1.0) is not None

    @property
    def _reads_current(self) -> bool:
        return self.snn.readout == "current" and self.snn.layer(self.snn.output).kind != "max"

    def _check_neuron(self) -> None:
        neuron = self.neuron
        if not isinstance(neuron, IntegrateFire | LIF):
            raise InputError(
                f"a {type(neuron).__name__} has no counterpart in NIR; type neuron=diehl (IF) or neuron=lif, with reset=zero"
            )
        if neuron.reset == "subtract":
            self._lose("a reset by subtraction", "convert for neuron.reset=zero, as in neuron=diehl")
        if isinstance(neuron, IntegrateFire) and neuron.start:
            self._lose(f"start potentials of {neuron.start:g} thresholds", "simulate with neuron.start=0")
        if isinstance(neuron, IntegrateFire) and neuron.blocked_steps:
            self._lose(f"a refractory period of {neuron.t_ref:g} s", "simulate with neuron.t_ref=0")

    def _check_currents(self) -> None:
        """In fixed point currents are rounded where a layer passes them on, and again where others weight them."""
        carried = [f"'{name}'" for name, layer in self.snn.layers.items() if layer.kind == "current"]
        if carried and self._rounds:
            layers = f"layer{'s' if len(carried) > 1 else ''} {', '.join(carried)}"
            self._lose(f"the rounding of the currents of {layers}", "simulate with simulate.weight_bits=null")

    def _lose(self, what: str, advice: str) -> None:
        self.lost.append(what)
        self.advice.append(advice)

    def _add_layer(self, name: str) -> None:
        layer = copied(self.snn.layer(name), lambda tensor: tensor.detach().to(torch.float64, copy=True))
        layer.synapses = nn.ModuleList(  # type: ignore[assignment]
            Synapse(synapse.source, *with_plain_pools(self._floored(synapse), self.shapes[synapse.source]))
            for synapse in layer.synapses
        )
        if layer.start is not None and bool(layer.start.any()):
            self._lose(f"the start potentials of layer '{name}'", "convert without them, as with convert=percentile")
        if layer.kind == "max":
            self.ends[name] = self._max_pool(name, layer)
            return
        if layer.pool is not None:
            raise InputError(f"NIR has no max-pools of currents, as layer '{name}' has; type convert.max_pool=average")
        threshold, unit = self._rounded(name, layer)
        ends = self._synapses(name, layer, unit)
        if not self._has_neurons(name):
            self.ends[name] = ends
            return
        neurons = self._neurons(threshold, self.shapes[name])
        taken = name.replace(".", "_") in self.nodes
        self.ends[name] = [self._add(f"{name}_{type(neurons).__name__.lower()}" if taken else name, neurons, ends)]

    def _floored(self, synapse: Synapse) -> list[nn.Module]:
        """The modules of a synapse; average pools without ceil_mode, where it adds no window."""
        modules, shape = list(synapse), self.shapes[synapse.source]
        for i, module in enumerate(modules):
            end = path_shape([module], shape)
            if isinstance(module, nn.AvgPool2d) and module.ceil_mode:
                floored = copy.copy(module)
                floored.ceil_mode = False
                modules[i] = floored if path_shape([floored], shape) == end else module
            shape = end
        return modules

    def _rounded(self, name: str, layer: SpikingLayer) -> tuple[float, float | None]:
        """Round the layer's weights and biases in place, as the simulation does.

        Returns the threshold of its neurons and the unit of its sums, None without a grid. Average pools become sums: neurons
        that only pool have a larger threshold, other layers have smaller weights.
        """
        bits, threshold = self.settings.weight_bits, self.neuron.threshold
        if bits is None or not self._rounds:
            area = fold_pools(layer) or 1
            if area > 1 and not self._has_neurons(name):
                layer.synapses[0].append(Scale(1 / area))
            return threshold * area, None
        grid = grid_of_input(bits, self.settings.encode.analog) if "input" in layer.sources else 1
        only_pool = len(layer.synapses) == 1 and layer.synapses[0].weighted is None and layer.bias is None
        sums = only_pool and self._has_neurons(name)  # of a pool, which its threshold divides
        try:
            whole = round_layer(layer, bits, grid, threshold)
        except InputError as error:
            raise InputError(f"simulate.weight_bits={bits}: layer '{name}': {error}") from error
        fixed = self.neuron.fixed_point(whole)
        assert fixed is not None
        if sums:
            factor = layer.synapses[0].weighted
            assert isinstance(factor, Scale)
            whole = float(factor.factor) * grid
        if layer.bias is not None:
            layer.bias.div_(whole)
        for synapse in layer.synapses:
            weights_of(synapse).mul_((grid if synapse.source == "input" else 1) / whole)
        return fixed.threshold / whole, 1 / whole

    def _has_neurons(self, name: str) -> bool:
        """Whether a layer fires: it neither passes on currents, nor is the output that is read by its current."""
        kind = self.snn.layer(name).kind
        return kind not in ("current", "max") and not (name == self.snn.output and self._reads_current)

    def _neurons(self, threshold: float, shape: torch.Size) -> nir.NIRNode:
        ones = np.ones(tuple(shape), dtype=np.float32)
        values = {"r": ones, "v_threshold": np.float32(threshold) * ones, "v_reset": 0 * ones}
        return nir.LIF(tau=ones * self._gain, v_leak=0 * ones, **values) if self._leaks else nir.IF(**values)

    @property
    def _leaks(self) -> bool:
        return isinstance(self.neuron, LIF) and self.neuron.tau < 1

    @property
    def _gain(self) -> float:
        """In NIR a potential gains I / tau in a step of 1, here I: the time constant, by which currents are multiplied."""
        return 1 / (1 - self.neuron.tau) if isinstance(self.neuron, LIF) and self._leaks else 1.0

    def _synapses(self, name: str, layer: SpikingLayer, unit: float | None = None) -> list[str]:
        """Add the nodes of a layer's synapses; returns those whose values are summed."""
        gain, bias = self._gain if self._has_neurons(name) else 1.0, layer.bias
        paths = [NodePath(self.shapes[synapse.source], name) for synapse in layer.synapses]
        for path, synapse in zip(paths, layer.synapses, strict=True):
            for module in synapse:
                path.append(module)
        carrier = next((path for path in paths if bias is None or path.carries(bias, unit)), None)
        if carrier is None:
            raise InputError(
                f"NIR has no bias that varies over spatial positions, as layer '{name}' has (of a shift before zero padding), "
                "but that of a convolution with an odd kernel that is padded by at most its half; train without zero padding "
                "there, or on pixels in [0, 1]"
            )
        ends: list[str] = []
        for path, synapse in zip(paths, layer.synapses, strict=True):
            doubled = not path.nodes and any(end in ends for end in self.ends[synapse.source])
            before = self.ends[synapse.source]
            for node in path.finished(gain, bias if path is carrier else None, doubled, unit):
                # read back, a layer is called after its weights, and a sum of branches after its neurons
                own = len(layer.synapses) == 1 and node is path.weighted
                before = [self._add(name if own else f"{name}_{type(node).__name__.lower()}", node, before)]
            ends += before
        return ends

    def _max_pool(self, name: str, layer: SpikingLayer) -> list[str]:
        """In its place an average pool."""
        pool = layer.pool.pool if isinstance(layer.pool, SignedMaxPool2d) else layer.pool
        if not isinstance(pool, nn.MaxPool2d) or pool.ceil_mode or pool.dilation not in (1, (1, 1)):
            raise InputError(
                f"NIR has no max-pools, and no plain average pool resembles '{name}'; use convert.max_pool=average"
            )
        self._lose(f"the max-pool '{name}', which becomes an average pool", "convert with convert.max_pool=average")
        ends = self._synapses(name, layer)
        shape = torch.Size(self.shapes[layer.sources[0]])
        path = NodePath(path_shape(list(layer.synapses[0]), shape), name)
        path.append(nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding, divisor_override=1))
        path.append(Scale(1 / math.prod(pair(pool.kernel_size))))
        for node in path.finished(1.0, None, False):
            ends = [self._add(f"{name}_{type(node).__name__.lower()}", node, ends)]
        return ends

    def _add(self, name: str, node: nir.NIRNode, sources: list[str]) -> str:
        """Add a node that reads the sum of others; returns its name, which no other node has."""
        name = name.replace(".", "_")
        taken = {*self.nodes, "output"}
        unique = next(found for k in range(len(taken) + 1) if (found := f"{name}_{k}" if k else name) not in taken)
        self.nodes[unique] = node
        self._connect(sources, unique)
        return unique

    def _connect(self, sources: list[str], target: str) -> None:
        self.edges += [(source, target) for source in sources]
