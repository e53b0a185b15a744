"""Reads NIR graphs (neuromorphic intermediate representation) of integrate-and-fire neurons, of respike and other libraries.

The network is that of the firing rates: every neuron is a ReLU between 0 and 1, its rate in spikes per step for a constant
drive. A rate conversion without normalization (convert=none) makes the spiking network of the file of it. Thresholds and gains
of the neurons are divided into the weights. What NIR leaves to the reader (time step, firing above or at the threshold) is in
the metadata of files of respike, and can be given.
"""

import ast
import keyword
import math
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import torch
from torch import Tensor, nn

from respike.convert.graph.modules import conv2d_of, linear_of, pair
from respike.convert.graph.nodes import BiasMapConv2d
from respike.errors import InputError
from respike.neurons.integrate_fire import IntegrateFire
from respike.neurons.lif import LIF
from respike.neurons.neuron import Neuron

SOURCE = "python -m respike.export RUN_DIR --nir net.nir writes one, as do nir.write and the exports of other libraries"
FIRES = ("file", "above", "at")
NEURONS = (nir.IF, nir.LIF)
# Settings of `simulate` that the metadata of a file of respike say
SIMULATED = ("encode", "dt", "duration", "start_at_zero", "drop_first_output", "read_from", "weight_bits")
READ = "Affine, Linear, Conv2d, SumPool2d, AvgPool2d, Scale, Flatten, IF and LIF"


class NIRNetwork(nn.Module):
    """The ReLU network of a NIR graph: images (B, *input shape) -> outputs (B, N). Its modules have the names of the nodes."""

    def __init__(self, graph: nir.NIRGraph, dt: float | None, line: str):
        super().__init__()
        self.sources = _sources(graph, line)
        self.entry = next(name for name, node in graph.nodes.items() if isinstance(node, nir.Input))
        nodes = {name: graph.nodes[name] for name in self.sources}
        self.flat = any(  # the shape of the input may have a batch axis, as Norse writes it
            isinstance(node, nir.Affine | nir.Linear) or np.ndim(getattr(node, "r", 0)) == 1
            for name, node in nodes.items()
            if self.entry in self.sources[name]
        )
        self.modules_of: dict[str, str] = {}
        self.factors: dict[str, str] = {}
        self.output = next(name for name, node in nodes.items() if isinstance(node, nir.Output))
        biased = _biased_by_place(self.sources, nodes)
        self.sources = {
            name: self.sources[biased[name]] if name in biased else found
            for name, found in self.sources.items()
            if name not in biased.values()
        }
        only_bias = _biases_of_sums(self.sources, nodes)
        for name, node in nodes.items():
            if isinstance(node, nir.Output) or name in biased.values():
                continue
            if isinstance(node, nir.Flatten):
                _check_flatten(
                    node, name, [nodes[reader] for reader, read in self.sources.items() if name in read], line
                )
            pooled = _pool_of(name, self.sources, nodes)
            factor = _factor(node, name, dt, line) if isinstance(node, NEURONS) else None
            divisor = 1 / float(factor) if pooled is not None and factor is not None and factor.ndim == 0 else 0.0
            if pooled is not None and round(divisor) > 0 and math.isclose(divisor, round(divisor), rel_tol=1e-12):
                pool = getattr(self, self.modules_of[pooled])
                pool.divisor_override, factor = round(divisor), None  # exact, as a factor of 1/9 would not be
            if factor is not None and bool((factor != 1).any()):
                self.factors[name] = self._own_name(f"{name}_factor")
                self.register_buffer(self.factors[name], factor.float())
            self.modules_of[name] = self._own_name(name)
            if name in biased:
                self.add_module(self.modules_of[name], _with_bias_map(node, name, line))
            elif name in only_bias:
                self.add_module(self.modules_of[name], _Bias(node))
            else:
                self.add_module(self.modules_of[name], _module(node, name, line))

    def _own_name(self, name: str) -> str:
        name = re.sub(r"\W", "_", name)
        while hasattr(self, name) or keyword.iskeyword(name):
            name += "_"
        return name

    def forward(self, images: Tensor) -> Tensor:
        """Sums of edges through the nodes, first to last."""
        values = {self.entry: images.flatten(1) if self.flat else images}
        for name, sources in self.sources.items():
            total = values[sources[0]]
            for source in sources[1:]:
                total = total + values[source]
            if name == self.output:
                return total.flatten(1)
            if name in self.factors:
                total = total * getattr(self, self.factors[name])
            values[name] = getattr(self, self.modules_of[name])(total)
        raise AssertionError("a graph has an output")


def nir_network(path: str | Path | None, dt: float | None = None) -> NIRNetwork:
    """The network of a NIR file, in eval mode.

    dt: the time step in the units of its time constants; None: as the file's metadata say, or, of IF neurons alone, the one by
    which an input of 1 raises a potential by 1. Raises InputError for a file that is missing or damaged, and for a graph that
    cannot be read, by the name of its node.
    """
    line, graph = f"model.path={path}", _read(path)
    return NIRNetwork(graph, _time_step(graph, dt, line), line).requires_grad_(False).eval()


def nir_neuron(path: str | Path | None, dt: float | None = None, fires: str = "file") -> Neuron:
    """The neuron of all layers of a NIR file, with threshold 1: thresholds and gains are in the weights of `nir_network`.

    fires: "above" the threshold, as NIR's text and Norse have it, or "at" it, as SpikingJelly; "file": as the file's metadata
    say, else above. Raises InputError as `nir_network`, and for layers of different neurons.
    """
    line, graph = f"model.path={path}", _read(path)
    step = _time_step(graph, dt, line)
    decays = {name: _decay(node, name, step, line) for name, node in graph.nodes.items() if isinstance(node, NEURONS)}
    if not decays:
        raise InputError(f"{line}: the graph has no IF and no LIF neurons; supported: {READ}")
    (first, decay), *others = decays.items()
    for name, other in others:
        if other != decay:
            raise InputError(
                f"{line}: neurons '{first}' keep {decay:.6g} of their potential at each step, '{name}' {other:.6g}; "
                "one neuron for all layers can be simulated"
            )
    if fires not in FIRES:
        raise InputError(
            f"neuron.fires={fires}: unknown, choose {' or '.join(f'neuron.fires={name}' for name in FIRES)}"
        )
    above = _said(graph, "fires") != ">=" if fires == "file" else fires == "above"
    reset = str(_said(graph, "reset") or "zero")
    if decay < 1:
        if not above:
            raise InputError(f"{line}: leaky neurons fire above the threshold here, not at it; type neuron.fires=above")
        return LIF(v_th=1.0, tau=decay, reset=reset)
    start = _number(_said(graph, "start") or 0.0, "start", line)
    return IntegrateFire(fire_above=above, reset=reset, start=start)


def simulated(path: str | Path | None) -> dict[str, Any]:
    """What a file of respike says of its simulation, of SIMULATED: encode as the name of its class, encode.NAME its arguments.

    {} for a file that says nothing, and for one that cannot be read, which `nir_network` refuses. Nothing of it is run.
    """
    try:
        said = ast.parse(f"dict({_said(_read(path), 'simulated') or ''})", mode="eval").body
        pairs = [(one.arg, one.value) for one in said.keywords] if isinstance(said, ast.Call) else []
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name == "encode" and isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
                found["encode"] = value.func.id
                found |= {f"encode.{one.arg}": ast.literal_eval(one.value) for one in value.keywords}
            elif name in SIMULATED and name != "encode":
                found[name] = ast.literal_eval(value)
    except (InputError, SyntaxError, TypeError, ValueError):
        return {}
    return {name: value for name, value in found.items() if value is None or isinstance(value, str | int | float)}


def _read(path: str | Path | None) -> nir.NIRGraph:
    if path is None or not Path(path).is_file():
        raise InputError(
            f"model.path={path or 'null'}: no such file; give a NIR graph as model.path=net.nir ({SOURCE})"
        )
    try:
        with h5py.File(path) as file:
            kind = file["node/type"].asstr()[()]
        if kind == "NIRGraph":
            graph = nir.read(path, type_check=False)  # nir 1.0.8 refuses kernels that are not square, and groups
    except Exception as error:  # h5py and nir raise different errors for each way in which a file can be broken
        reason = " ".join(str(error).split())
        raise InputError(f"model.path={path}: not a NIR graph, or a damaged one ({reason}); {SOURCE}") from error
    if kind != "NIRGraph":
        raise InputError(
            f"model.path={path}: holds a single node, of type {kind}, and no graph; write nir.NIRGraph.from_list(node), which "
            "adds an Input and an Output"
        )
    return graph


def _sources(graph: nir.NIRGraph, line: str) -> dict[str, list[str]]:
    """For every node but the input, each after its sources, the nodes that it reads."""
    for kind, what in ((nir.Input, "images enter"), (nir.Output, "the class is read")):
        found = [name for name, node in graph.nodes.items() if isinstance(node, kind)]
        if len(found) == 1:
            continue
        listed = [
            f"'{name}' ({type(node).__name__})" for name, node in graph.nodes.items() if name in (found or graph.nodes)
        ]
        has = f"has {len(found)} nodes of type {kind.__name__}" if found else f"has no node of type {kind.__name__}"
        nodes = f"{', '.join(listed[:4]) or 'it is empty'}{', ...' if len(listed) > 4 else ''}"
        raise InputError(
            f"{line}: the graph {has} ({nodes}); exactly one is needed, where {what}: nir.NIRGraph.from_list(nodes) adds it"
        )
    sources: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        if source not in sources or target not in sources:
            raise InputError(f"{line}: an edge joins '{source}' and '{target}', which are not both nodes of the graph")
        sources[target].append(source)
    try:
        order = list(TopologicalSorter({name: sorted(found) for name, found in sources.items()}).static_order())
    except CycleError as error:
        raise InputError(
            f"{line}: the graph is recurrent ({' -> '.join(error.args[1])}); it must be feed-forward"
        ) from error
    (entry,) = (name for name, node in graph.nodes.items() if isinstance(node, nir.Input))
    unread = [name for name in order if not sources[name] and name != entry]
    if unread:
        raise InputError(f"{line}: node '{unread[0]}' has no input")
    return {name: sources[name] for name in order if name != entry}


def _pool_of(name: str, sources: dict[str, list[str]], nodes: dict[str, nir.NIRNode]) -> str | None:
    """The sum pool that only this node reads, and that is all it reads."""
    (first, *more) = sources[name]
    readers = sum(found.count(first) for found in sources.values())
    return first if not more and readers == 1 and isinstance(nodes.get(first), nir.SumPool2d) else None


def _biased_by_place(sources: dict[str, list[str]], nodes: dict[str, nir.NIRNode]) -> dict[str, str]:
    """The convolutions whose last input channel is all ones, by which respike writes biases that differ by place.

    Each with the node that adds this channel, and that no other reads.
    """
    found = {}
    for name, node in nodes.items():
        (first, *more) = sources[name]
        ones = nodes.get(first)
        if more or not isinstance(node, nir.Conv2d) or not isinstance(ones, nir.Conv2d) or node.input_shape is None:
            continue
        alone = sum(read.count(first) for read in sources.values()) == 1
        channels = np.eye(len(ones.weight))
        adds = np.array_equal(ones.weight, channels[:, :-1, None, None]) and np.array_equal(ones.bias, channels[-1])
        if alone and adds and (pair(ones.stride), pair(ones.padding)) == ((1, 1), (0, 0)):
            found[name] = first
    return found


def _biases_of_sums(sources: dict[str, list[str]], nodes: dict[str, nir.NIRNode]) -> set[str]:
    """The nodes that add a bias to sums of currents and change nothing else, by which respike writes biases after pools.

    As weights, they would make the sums a layer of its own, whose currents are rounded.
    """
    found = set()
    sums: dict[str, bool] = {}  # whether weights lie between the last neurons, or the input, and the value of a node
    for name, read in sources.items():
        node, weighted = nodes[name], any(sums.get(source, False) for source in read)
        if weighted and isinstance(node, nir.Affine | nir.Conv2d) and _is_identity(node):
            found.add(name)
        weights = isinstance(node, nir.Affine | nir.Linear | nir.Conv2d)
        sums[name] = (weighted or weights) and not isinstance(node, NEURONS)
    return found


def _is_identity(node: nir.Affine | nir.Conv2d) -> bool:
    """Whether the weights pass on every channel as it is."""
    count = len(node.weight)
    if isinstance(node, nir.Conv2d):
        unpadded = node.padding in ("same", "valid") if isinstance(node.padding, str) else pair(node.padding) == (0, 0)
        if not unpadded or pair(node.stride) != (1, 1) or node.weight.shape[2:] != (1, 1):
            return False
    return node.weight.shape[:2] == (count, count) and np.array_equal(node.weight.reshape(count, -1), np.eye(count))


def _with_bias_map(node: nir.Conv2d, name: str, line: str) -> BiasMapConv2d:
    """The convolution without its last channel, which reads ones: what this channel adds is a bias."""
    images = torch.zeros(1, node.weight.shape[1], *node.input_shape, dtype=torch.float64)
    images[:, -1] = 1
    with torch.no_grad():
        bias_map = _module(node, name, line).double()(images)[0].float()
    rest = nir.Conv2d(
        node.input_shape, node.weight[:, :-1], node.stride, node.padding, node.dilation, node.groups, node.bias
    )
    conv = _module(rest, name, line)
    assert isinstance(conv, nn.Conv2d)
    return BiasMapConv2d(conv, bias_map)


def _module(node: nir.NIRNode, name: str, line: str) -> nn.Module:
    """The module of a node; a neuron as the ReLU of its rate."""
    if isinstance(node, NEURONS):
        return nn.Hardtanh(0.0, 1.0)
    if isinstance(node, nir.Affine | nir.Linear):
        if node.weight.ndim != 2:
            raise InputError(
                f"{line}: {type(node).__name__} '{name}' has weights of shape {node.weight.shape}, not (out, in)"
            )
        return linear_of(_tensor(node.weight), _tensor(node.bias) if isinstance(node, nir.Affine) else None)
    if isinstance(node, nir.Conv2d):
        padding = node.padding if isinstance(node.padding, str) else pair(node.padding)
        settings = pair(node.stride), padding, pair(node.dilation), int(node.groups)
        return conv2d_of(_tensor(node.weight), _tensor(node.bias), *settings)
    if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
        kernel, stride, padding = (pair(value) for value in (node.kernel_size, node.stride, node.padding))
        divisor = 1 if isinstance(node, nir.SumPool2d) else None
        return nn.AvgPool2d(kernel, stride, padding, divisor_override=divisor)
    if isinstance(node, nir.Flatten):
        return nn.Flatten()  # see `_check_flatten`
    if isinstance(node, nir.Scale):
        return _Factor(_per_channel(node.scale, f"{line}: Scale '{name}'"))
    raise InputError(f"{line}: node '{name}' is a {type(node).__name__}, which cannot be read; supported: {READ}")


def _check_flatten(node: nir.Flatten, name: str, readers: list[nir.NIRNode], line: str) -> None:
    """Raise InputError for a Flatten that leaves an axis of more than one place: all behind the batch are flattened here.

    NIR counts its axes without the batch. Writers that copy torch's count it, so that the first axis seems to be left: what
    they mean is seen from the weights that read all values.
    """
    start, end, shape = int(node.start_dim), int(node.end_dim), node.input_type["input"]
    if shape is None:
        left = not (start == 0 and end == -1)
    else:
        merged = range(len(shape))[start : end + 1 or None]
        left = any(size > 1 for axis, size in enumerate(shape) if axis not in merged)
        weights = [reader.weight for reader in readers if isinstance(reader, nir.Affine | nir.Linear)]
        if (start, end) == (1, -1) and weights and len(weights) == len(readers):
            left = left and any(weight.shape[-1] != np.prod(shape) for weight in weights)
    if left:
        of = "an input of unknown shape" if shape is None else f"an input of {'x'.join(map(str, shape))}"
        raise InputError(
            f"{line}: Flatten '{name}' merges the axes {start} to {end} of {of}; only one of all axes is read here, "
            "start_dim=0, end_dim=-1"
        )


class _Factor(nn.Module):
    """Multiplication by a constant, one number or one per channel, (C,) or (C, 1, 1)."""

    def __init__(self, factor: Tensor):
        super().__init__()
        self.register_buffer("factor", factor.float())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class _Bias(nn.Module):
    """Addition of the bias of a node, one number per channel, (C,), of maps (C, 1, 1)."""

    def __init__(self, node: nir.Affine | nir.Conv2d):
        super().__init__()
        self.register_buffer("bias", _tensor(node.bias).view(-1, *[1] * (node.weight.ndim - 2)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


def _time_step(graph: nir.NIRGraph, dt: float | None, line: str) -> float | None:
    """The time step; None for IF neurons alone, where the file says nothing."""
    said = _said(graph, "dt")
    if dt is None and said is not None:
        dt = _number(said, "dt", line)
    if dt is not None and not 0 < dt < math.inf:
        raise InputError(f"{line}: a time step of {dt:g}; type one above 0, as model.dt=0.001")
    if dt is None and any(isinstance(node, nir.LIF) for node in graph.nodes.values()):
        raise InputError(
            f"{line}: the file does not say the time step of its LIF neurons; type model.dt=0.0001, as is the default of "
            "SpikingJelly and snnTorch, or model.dt=1e-6 for a file of Norse, whose to_nir multiplies time constants by 0.001"
        )
    gains = {float(value) for node in graph.nodes.values() if isinstance(node, nir.IF) for value in np.unique(node.r)}
    if dt is None and len(gains) > 1:
        raise InputError(
            f"{line}: r is {' and '.join(f'{gain:g}' for gain in sorted(gains)[:2])} in one network, and the file does not say "
            "its time step; type model.dt= of the library that wrote it"
        )
    return dt


def _said(graph: nir.NIRGraph, name: str) -> Any:
    value = graph.metadata.get(name)
    return value.decode() if isinstance(value, bytes) else value


def _number(value: Any, name: str, line: str) -> float:
    """A number of the file's metadata."""
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{line}: {name} of its metadata is {value!r}, not a number") from error


def _decay(node: nir.IF | nir.LIF, name: str, dt: float | None, line: str) -> float:
    """The share of its potential that a neuron keeps at a step, by Euler's rule: tau dv = dt (v_leak - v + r I)."""
    if isinstance(node, nir.IF):
        return 1.0
    assert dt is not None
    decay = round(1 - dt / _one(node.tau, f"{line}: tau of '{name}'"), 12)
    if not 0 <= decay < 1:
        raise InputError(
            f"{line}: tau of '{name}' is shorter than the time step {dt:g}; type model.dt= of the library that wrote it"
        )
    return decay


def _factor(node: nir.IF | nir.LIF, name: str, dt: float | None, line: str) -> Tensor:
    """By what currents are multiplied so that a neuron's threshold is 1: one number, or one per channel, (C, 1, 1) of maps."""
    for rest in ("v_reset", "v_leak"):
        if np.any(getattr(node, rest, 0.0)):
            raise InputError(f"{line}: {rest} of '{name}' is not 0; only neurons that rest at 0 are read")
    threshold = np.asarray(node.v_threshold, dtype=np.float64)
    if not np.all(threshold > 0):
        raise InputError(f"{line}: v_threshold of '{name}' must be above 0 everywhere")
    gain = np.asarray(node.r, dtype=np.float64)
    if isinstance(node, nir.LIF):
        gain = gain * (1 - _decay(node, name, dt, line))
    else:
        gain = gain * (1 / _one(gain, f"{line}: r of '{name}'") if dt is None else dt)
    return _per_channel(gain / threshold, f"{line}: v_threshold and r of '{name}'")


def _one(values: Any, what: str) -> float:
    found = np.unique(np.asarray(values, dtype=np.float64))
    if found.size != 1 or not 0 < found[0] < math.inf:
        raise InputError(f"{what} must be one number above 0 for all neurons of the layer")
    return float(found[0])


def _per_channel(values: Any, what: str) -> Tensor:
    """Values of the neurons (C, H, W) or (N,) as one number, (), or one per channel, (C, 1, 1) or (N,)."""
    values = np.asarray(values, dtype=np.float64)
    if values.size and (values == values.flat[0]).all():
        return torch.tensor(float(values.flat[0]), dtype=torch.float64)
    first = values.reshape(len(values), -1)[:, :1]
    if not (values.reshape(len(values), -1) == first).all():
        raise InputError(f"{what} differ within a channel; one number per layer or per channel can be read")
    return torch.from_numpy(first.reshape(-1, *[1] * (values.ndim - 1)).copy())


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))
