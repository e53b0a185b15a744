"""Calibration of a converted network on its own spikes (Li et al., ICML 2021, arXiv 2106.06984, section 4.3, and their code).

Front to back, each layer is matched to the activations a of the ReLU network while all layers before it, already calibrated,
spike for T steps. The spikes are those of the simulator, on its fixed-point grid, so that a corrected value is rounded before
the next layer is calibrated. With s the mean output of a layer over T, and a divided by what one spike per step represents, the
error is e = a - s. The ReLU network is always the original one. Labels are not read.
"""

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from respike.convert.calibration import EMPTY, Images, image_batches
from respike.convert.graph.nodes import per_channel
from respike.convert.rate.normalize import wire
from respike.convert.rate.rate_snn import RateSNN, Synapse
from respike.convert.rate.wiring import wiring_of
from respike.errors import InputError
from respike.layers.over_time import over_time
from respike.networks.copying import device_of, on_cpu
from respike.system.distributed import all_gather

if TYPE_CHECKING:
    from respike.simulate.rate.program import ProgramLayer

# The simulator imports the networks that this package makes; so the functions that run it import it themselves.

EXACT = 1 << 24  # integers up to here are exact in float32
BUDGET = 1 << 22  # bytes of the drives of a part of the images, which stay in the cache
Correction = Callable[["Calibration", str, Tensor, Tensor], None]  # (calibration, layer, a, its mean output)


def calibrate_bias(
    net: nn.Module,
    images: Images,
    *,
    norm: Callable[..., RateSNN],
    simulate: Callable[..., Any],
    steps: int | None = None,
) -> RateSNN:
    """Per channel c of every layer with weights: b_c += mean of e over images and places ("light" pipeline).

    A channel keeps its bias where |mean e| would grow. norm: the conversion that chooses the scales, a partial of a function
    like `percentile_norm`, or another calibration. simulate: a partial of `respike.simulate.simulate` with the settings of the
    simulation to come. steps: T, by default that of the simulation. images: as in `data_norm`, all in memory at once.
    """
    return _calibrated(net, images, norm, simulate, steps, _correct_bias, _add_bias)


def calibrate_potential(
    net: nn.Module,
    images: Images,
    *,
    norm: Callable[..., RateSNN],
    simulate: Callable[..., Any],
    steps: int | None = None,
) -> RateSNN:
    """Per neuron i: v_i(0) += T times the mean of e over images ("advanced" pipeline, without its weights).

    A neuron keeps its start potential where |mean e| would grow. The correction is added to the neuron model's start, half a
    threshold by default, where the authors add it to 0. Arguments as in `calibrate_bias`.
    """
    return _calibrated(net, images, norm, simulate, steps, _correct_potential, _add_start)


def calibrate_weights(
    net: nn.Module,
    images: Images,
    *,
    norm: Callable[..., RateSNN],
    simulate: Callable[..., Any],
    steps: int | None = None,
    iterations: int = 200,
    batch_size: int = 32,
    lr: float = 0.001,
    seed: int = 0,
) -> RateSNN:
    """Per layer: the weights W that minimize the mean of sum( (a - Q(z))^2 ), z = W (mean input) + b ("advanced" pipeline).

    Q(z) = clip( floor(T z + v(0)), 0, T ) / T, in units of the threshold, is what a neuron emits for the constant current z;
    the gradient passes straight through floor. The authors have v(0) = 0 there. Adam, whose rate falls from `lr` to 0 by a
    cosine over `iterations` batches of `batch_size` images; lr is a share of the root mean square of the layer's weights (the
    authors: 5,000 iterations, an absolute rate of 1e-5). A layer keeps its weights where the mean of e^2 of its real spikes
    would grow. seed: of the batches. Other arguments as in `calibrate_bias`.
    """
    for name, value in (("iterations", iterations), ("batch_size", batch_size)):
        if value < 1:
            raise InputError(f"convert.{name}={value}: a whole number from 1 up, as in convert.{name}=32")
    if not lr > 0:
        raise InputError(f"convert.lr={lr}: a number above 0, as in convert.lr=0.001")
    random = torch.Generator().manual_seed(seed)

    def correct(calibration: "Calibration", name: str, target: Tensor, output: Tensor) -> None:
        layer = calibration.snn.layer(name)
        if layer.kind not in WEIGHTED:
            return
        before = copy.deepcopy(layer.state_dict())
        error = _mean_square(target - output)
        _fit(calibration, name, target, iterations, batch_size, lr, random)
        if _mean_square(target - calibration.run(name)) > error:
            layer.load_state_dict(before)
            calibration.run(name)

    return _calibrated(net, images, norm, simulate, steps, correct)


@torch.inference_mode(False)
@torch.no_grad()
def _calibrated(
    net: nn.Module,
    images: Images,
    norm: Callable[..., RateSNN],
    simulate: Callable[..., Any],
    steps: int | None,
    correct: Correction,
    prepare: Callable[["Calibration", str], None] | None = None,
) -> RateSNN:
    """The converted network after prepare(calibration, layer) of every layer, and then correct(...) of one after the other.

    On the CPU, whose compiled layers are the fastest; the result is where the network is.
    """
    calibration = Calibration(on_cpu(net), [part.cpu() for part in image_batches(images)], norm, simulate, steps)
    if prepare is not None:
        for name in calibration.snn.layers:
            prepare(calibration, name)
    return calibration.front_to_back(correct).to(device_of(net))


LAYERS_KEPT = 3  # at once, in a residual block
FLOATS_KEPT = 16  # bytes of mean outputs and activations of a neuron
WEIGHTED = ("relu", "output")  # kinds of layers with weights


class Calibration:
    """A converted network and calibration images on their way through it: outputs of the layers that are still read, over T.

    snn: the network, whose weights and buffers are corrected in place.
    """

    def __init__(
        self,
        net: nn.Module,
        images: Images,
        norm: Callable[..., RateSNN],
        simulate: Callable[..., Any],
        steps: int | None,
    ):
        from respike.simulate.connections import layer_shapes, with_plain_pools
        from respike.simulate.rate.kernels.event_synapses import Neurons
        from respike.simulate.rate.program import pools, synapse_paths
        from respike.simulate.rate.settings import Settings

        share = list(image_batches(images))
        self.snn = norm(net, share)
        everywhere = [part for parts in all_gather([part.cpu() for part in share]) for part in parts]
        if not sum(map(len, everywhere)):
            raise InputError(EMPTY)
        tensor = next(self.snn.parameters())
        self.images = torch.cat(everywhere).to(tensor.device, tensor.dtype)
        settings = Settings.of(simulate)
        if steps is not None and steps != settings.steps:
            settings = replace(settings, duration=steps * settings.dt, start_at_zero=False)
        self.settings, self.steps = settings, settings.steps
        self.wired, _ = wire(net, self.images, **wiring_of(norm), trained=True)  # norm refuses what it cannot
        self.shapes = layer_shapes(synapse_paths(self.snn), self.images.shape[1:], pools(self.snn))
        for layer in self.snn.layers.values():
            synapses = []
            for synapse in layer.synapses:  # a pool that is multiplied into weights would leave the corrected ones out
                plain = Synapse(synapse.source, *with_plain_pools(list(synapse), self.shapes[synapse.source]))
                synapses.append(synapse if plain.weighted is synapse.weighted else plain)
            layer.synapses = nn.ModuleList(synapses)  # type: ignore[assignment]
        _check_memory(len(self.images), self.steps, max(shape.numel() for shape in self.shapes.values()))
        self.neurons = {name: Neurons.of_layer(shape) for name, shape in self.shapes.items()}
        self.neurons["input"] = Neurons.of_input(self.images.shape[1:])
        self.values: dict[
            str, Tensor
        ] = {}  # by source: spikes by number (T, B, S), see `Neurons`; currents (T or 1, B, ...N)
        self.means: dict[str, Tensor] = {}  # by source: over T (B, ...N)

    def has_neurons(self, name: str) -> bool:
        """Whether the layer has neurons, with potentials to start from."""
        read_as_current = name == self.snn.output and self.snn.readout == "current"
        return self.snn.layer(name).kind in ("relu", "pool", "output") and not read_as_current

    def front_to_back(self, correct: Correction) -> RateSNN:
        """The network, after correct(self, layer, a, output) of one layer after the other: a and its mean output, (B, ...N)."""
        from respike.simulate.rate.input import encoded_input, largest_current
        from respike.simulate.rate.program import compile_by_layer

        snn, images = self.snn, self.images
        self.frame, self.compile = compile_by_layer(
            snn, images.shape[1:], self.settings, largest_current(images, self.settings)
        )
        parts, means = [], []
        for index in torch.arange(len(images)).split(self._images_at_once()):
            encoded = encoded_input(self.frame, self.settings, images[index], index, torch.arange(self.steps))
            means.append((encoded.mean(0) / (self.frame.input_grid or 1)).to(images))
            parts.append(encoded if self.frame.analog_input else self._kept("input", encoded))
        self.means["input"], self.values["input"] = torch.cat(means), torch.cat(parts, 1)
        last_reader = {source: name for name, layer in snn.layers.items() for source in layer.sources}
        for name, target in self._targets():
            correct(self, name, target, self.run(name))
            for source in snn.layer(name).sources:
                if last_reader[source] == name:
                    self.values.pop(source, None)
                    self.means.pop(source, None)
        return snn

    def run(self, name: str) -> Tensor:
        """All steps of a layer with its present weights and buffers: its mean spikes per step, or mean current, (B, ...N)."""
        from respike.simulate.rate.kernels.events import LayerAlone

        layer, last = self.compile(name), name == self.snn.output
        values = {source: self.values[source] for source in layer.synapses.sources}
        self.values.pop(name, None)  # of an earlier run
        alone = None if last else LayerAlone.of(self.frame, layer, self.settings)
        if alone is not None:
            self.values[name], counts = alone.run_layer(values)
            mean = counts / self.steps
        else:
            self.values[name], mean = self._in_torch(layer, values, last)
        self.means[name] = mean.to(self.images)
        return self.means[name]

    def _in_torch(self, layer: "ProgramLayer", values: dict[str, Tensor], last: bool) -> tuple[Tensor, Tensor]:
        """The values of a layer as they are kept, and their mean, by PyTorch: of any layer, on any device."""
        from respike.simulate.rate.units import SummedCurrent

        spikes_alone = self.frame.analog.isdisjoint(values) and not layer.grids
        exact = self.frame.fixed_point and layer.largest_drive < EXACT and spikes_alone
        if exact:  # faster, with the same sums
            layer = replace(layer, synapses=layer.synapses.float())
        unit = layer.neuron.threshold if isinstance(layer.neuron, SummedCurrent) else 1
        dtype = torch.float32 if exact else self.frame.dtype
        kept, means = [], []
        for images in torch.arange(len(self.images)).split(self._images_at_once()):
            part = slice(int(images[0]), int(images[-1]) + 1)
            read = {source: self._read(source, value[:, part]).to(dtype) for source, value in values.items()}
            drive = layer.drive(read, over_time)
            if self.frame.fixed_point and layer.largest_potential(self.steps) >= EXACT:
                drive = drive.double()
            output, _ = layer.scan(drive, self.steps, None, last and self.settings.drop_first_output)
            read_out = output[self.settings.read_from :] if last and len(output) > 1 else output
            means.append(read_out.mean(0) / unit)
            kept.append(output if layer.analog else self._kept(layer.name, output))
        return torch.cat(kept, 1), torch.cat(means)

    def _images_at_once(self) -> int:
        """How many images' values of the widest layer, at all steps, are made at once."""
        return max(1, BUDGET // (4 * self.steps * max(shape.numel() for shape in self.shapes.values())))

    def _kept(self, name: str, spikes: Tensor) -> Tensor:
        """Spikes (T, B, ...N) as compiled events read them, one byte each: (T, B, S)."""
        return self.neurons[name].numbered(spikes)

    def _read(self, name: str, values: Tensor) -> Tensor:
        """Kept spikes, or currents, in the shape of the layer: (T or 1, B, ...N)."""
        return self.neurons[name].maps(values) if values.dtype == torch.uint8 else values

    def _targets(self) -> Iterator[tuple[str, Tensor]]:
        """(layer, a): the activations (B, ...N) of the ReLU network in units of each layer's scale, in the layers' order."""
        layer_of_node = {node: layer for layer, node in self.wired.node_of_layer.items()}
        waiting: dict[str, Tensor] = {}
        order = iter(self.snn.layers)
        following = next(order)
        for node, value in self.wired.graph.stream(self.images.clone()):
            if node in layer_of_node:
                name = layer_of_node[node]
                scale = torch.as_tensor(self.snn.scales[name], device=value.device)
                waiting[name] = value / per_channel(scale, value)
            while following in waiting:
                yield following, waiting.pop(following)
                following = next(order, "")


def _check_memory(images: int, steps: int, widest: int) -> None:
    """Raise InputError if the spikes and values of the layers that are still read would not fit."""
    needed = images * widest * LAYERS_KEPT * (steps + FLOATS_KEPT)
    if needed > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise InputError(
            f"{images:,} calibration images: all their spikes in T = {steps} steps are kept at once, about "
            f"{needed / 1e9:.0f} GB; type callbacks.convert.calibration_size=1000, or give fewer images"
        )


def _add_bias(calibration: Calibration, name: str) -> None:
    layer = calibration.snn.layer(name)
    if layer.bias is None and layer.kind in WEIGHTED:
        layer.bias = calibration.images.new_zeros(calibration.shapes[name][0])


def _correct_bias(calibration: Calibration, name: str, target: Tensor, output: Tensor) -> None:
    layer = calibration.snn.layer(name)
    if layer.bias is None or layer.kind not in WEIGHTED:
        return
    channels = len(layer.bias)
    threshold = calibration.settings.neuron.threshold if calibration.has_neurons(name) else 1.0

    def mean_error(output: Tensor) -> Tensor:
        return (target - output).mean(0).reshape(channels, -1).mean(1)

    error = mean_error(output)
    step = (threshold * error).view(-1, *[1] * (layer.bias.ndim - 1))
    _keep_where_worse(layer.bias, step, error, lambda: mean_error(calibration.run(name)))


def _add_start(calibration: Calibration, name: str) -> None:
    layer = calibration.snn.layer(name)
    if layer.start is None and calibration.has_neurons(name):
        layer.start = calibration.images.new_zeros(calibration.shapes[name])


def _correct_potential(calibration: Calibration, name: str, target: Tensor, output: Tensor) -> None:
    layer = calibration.snn.layer(name)
    if layer.start is None or not calibration.has_neurons(name):
        return
    error = (target - output).mean(0)
    step = calibration.steps * calibration.settings.neuron.threshold * error
    _keep_where_worse(layer.start, step, error, lambda: (target - calibration.run(name)).mean(0))


def _keep_where_worse(values: Tensor, step: Tensor, error: Tensor, again: Callable[[], Tensor]) -> None:
    """Add the step to the values in place, except where it increases the magnitude of the error, which again() measures."""
    before = values.clone()
    values += step
    worse = again().abs() > error.abs()
    if bool(worse.any()):
        values[worse] = before[worse]
        again()


@torch.enable_grad()
def _fit(
    calibration: Calibration,
    name: str,
    target: Tensor,
    iterations: int,
    batch_size: int,
    lr: float,
    random: torch.Generator,
) -> None:
    """Minimize the error of a layer's quantized drive over its weights, in place."""
    layer, steps = calibration.snn.layer(name), calibration.steps
    fitted = copy.deepcopy(layer)
    weights = [
        synapse.weighted.weight for synapse in fitted.synapses if isinstance(synapse.weighted, nn.Linear | nn.Conv2d)
    ]
    if not weights:
        return
    groups = [
        {"params": [weight.requires_grad_()], "lr": lr * float(weight.detach().square().mean().sqrt())}
        for weight in weights
    ]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    settings, spikes = calibration.settings, calibration.has_neurons(name)
    neuron, grids = settings.neuron.with_time_step(settings.dt), calibration.compile(name).grids
    means = {source: calibration.means[source] / grids.get(source, 1.0) for source in fitted.sources}
    start = neuron.initial(target[:1].new_zeros(1)).potential + (0 if layer.start is None else layer.start)
    for _ in range(iterations):
        chosen = torch.randint(len(target), (batch_size,), generator=random).to(target.device)
        z = fitted.drive({source: mean[chosen] for source, mean in means.items()})
        made = quantized_drive(z / neuron.threshold, start / neuron.threshold, steps) if spikes else z
        loss = (target[chosen] - made).square().flatten(1).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    layer.load_state_dict(fitted.state_dict())


def quantized_drive(z: Tensor, start: Tensor, steps: int) -> Tensor:
    """clip( floor(T z + v(0)), 0, T ) / T with T = `steps`; the gradient passes through the clip, straight through floor."""
    levels = (steps * z + start).clamp(0, steps)
    return (levels + (levels.floor() - levels).detach()) / steps


def _mean_square(error: Tensor) -> float:
    return float(error.square().mean(dtype=torch.float64))
