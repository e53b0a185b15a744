"""The readable reference: one step after the other, every layer within the step. T steps, B images.

All layers update within a step, without delay: spikes of layer l at step t drive layer l + 1 at step t.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from respike.convert.rate.rate_snn import RateSNN
from respike.simulate.rate.input import encoded_input, largest_current
from respike.simulate.rate.program import Program, compile_program, new_tally
from respike.simulate.rate.settings import Settings
from respike.simulate.record import SpikeRecord, Trace


def simulate_stepwise(
    snn: RateSNN,
    images: Tensor,
    *,
    index: Tensor | None = None,
    keep: bool = False,
    largest: float | None = None,
    **settings: Any,
) -> SpikeRecord:
    """The same simulation as `simulate`, step by step, all images at once.

    keep: record a `Trace` of every image. largest: of the input currents, on which the grid of carried currents depends, if
    these images are some of many.
    """
    chosen = Settings.from_keywords(settings)
    index = torch.arange(len(images)) if index is None else index
    largest = largest_current(images, chosen, index) if largest is None else largest
    program = compile_program(snn, images.shape[1:], chosen, largest)
    output = program.layers[-1]
    spikes: dict[str, list[Tensor]] = {"input": [], **{layer.name: [] for layer in program.layers}}
    potentials: dict[str, list[Tensor]] = {layer.name: [] for layer in program.layers}
    with torch.inference_mode():
        for now, states in _steps(program, chosen, images, index):
            for name, values in now.items():
                spikes[name].append(values)
            for layer in program.layers:
                potentials[layer.name].append(states[layer.name].potential / layer.neuron.threshold)
        whole = {name: torch.stack(values) for name, values in spikes.items()}  # (T, B, ...N)
        tally = new_tally(program, chosen)
        for name, values in whole.items():
            tally.add(name, values)
        record = tally.record(index, whole[output.name])
    if keep:
        charged = {name: torch.stack(values) for name, values in potentials.items()}
        for b, number in enumerate(index.tolist()):
            record.traces[number] = Trace(
                {name: values[:, b] for name, values in whole.items()},
                {name: values[:, b] for name, values in charged.items()},
            )
    return record


def mean_rates(snn: RateSNN, images: Tensor, *, index: Tensor | None = None, **settings: Any) -> dict[str, Tensor]:
    """Spikes per step, or the mean current, of every neuron of each layer: (B, ...N), in memory that does not grow with T.

    In floating point, whatever simulate.weight_bits says. Other arguments as in `simulate_stepwise`.
    """
    chosen = Settings.from_keywords(settings | {"weight_bits": None})
    index = torch.arange(len(images)) if index is None else index
    program = compile_program(snn, images.shape[1:], chosen)
    total: dict[str, Tensor] = {}
    with torch.inference_mode():
        for now, _ in _steps(program, chosen, images, index):
            for name, values in now.items():
                total[name] = total[name].add_(values) if name in total else values.clone()
    return {name: values / chosen.steps for name, values in total.items() if name != "input"}


def _steps(
    program: Program, settings: Settings, images: Tensor, index: Tensor
) -> Iterator[tuple[dict[str, Tensor], dict[str, Any]]]:
    """For every step: the spikes or currents (B, ...N) of the input and of each layer, and the layers' states after it."""
    states: dict[str, Any] = {}
    for t in range(settings.steps):
        now = {"input": encoded_input(program, settings, images, index, torch.tensor([t]))[0]}
        for layer in program.layers:
            drive = layer.drive(now)  # (B, ...N)
            if t == 0 and settings.drop_first_output and layer is program.layers[-1]:
                drive = torch.zeros_like(drive)
            before = states[layer.name] if t > 0 else layer.initial(drive)
            states[layer.name] = layer.neuron.step(drive, before)
            now[layer.name] = states[layer.name].spikes
        yield now, states
