"""The readable reference: one step after the other, every layer within the step. T steps, B images.

All layers update within a step, without delay: spikes of layer l at step t drive layer l + 1 at step t.
"""

from typing import Any

import torch
from torch import Tensor

from respike.convert.rate.rate_snn import RateSNN
from respike.neurons.integrate_fire import State
from respike.simulate.rate.program import Program
from respike.simulate.rate.settings import Settings
from respike.simulate.record import SpikeRecord, Tally, Trace


def simulate_stepwise(
    snn: RateSNN, images: Tensor, *, index: Tensor | None = None, keep: bool = False, **settings: Any
) -> SpikeRecord:
    """The same simulation as `simulate`, step by step, all images at once. keep: record a `Trace` of every image."""
    chosen = Settings(**settings)
    index = torch.arange(len(images)) if index is None else index
    program = chosen.compile(snn, images.shape[1:])
    states: dict[str, State] = {}
    spikes: dict[str, list[Tensor]] = {"input": []}
    potentials: dict[str, list[Tensor]] = {}
    with torch.inference_mode():
        for t in range(chosen.steps):
            now = {"input": chosen.encoded(program, images, index, torch.tensor([t]))[0]}
            for layer in program.layers:
                drive = layer.synapses.drive(now)  # (B, ...N)
                if t == 0 and chosen.drop_first_output and layer is program.layers[-1]:
                    drive = torch.zeros_like(drive)
                state = states.setdefault(layer.name, layer.neuron.initial(drive))
                now[layer.name], charged = torch.empty_like(drive), torch.empty_like(drive)
                layer.neuron.step(drive, state, now[layer.name], charged)
                potentials.setdefault(layer.name, []).append(charged / layer.neuron.threshold)
            for name, values in now.items():
                spikes.setdefault(name, []).append(values)
        whole = {name: torch.stack(values) for name, values in spikes.items()}  # (T, B, ...N)
        record = _tallied(program, chosen, whole, index)
    if keep:
        charged = {name: torch.stack(values) for name, values in potentials.items()}
        for b, number in enumerate(index.tolist()):
            record.traces[number] = Trace(
                {name: values[:, b] for name, values in whole.items()},
                {name: values[:, b] for name, values in charged.items()},
            )
    return record


def _tallied(program: Program, settings: Settings, spikes: dict[str, Tensor], index: Tensor) -> SpikeRecord:
    tally = Tally(program, settings)
    for name, values in spikes.items():
        tally.add(name, values)
    return tally.record(index, spikes[program.layers[-1].name])
