"""The readable reference: one step after the other, every layer within the step. T steps, B images.

All layers update within a step, without delay: spikes of layer l at step t drive layer l + 1 at step t.
"""

from typing import Any

import torch
from torch import Tensor

from respike.convert.rate.rate_snn import RateSNN
from respike.simulate.rate.input import encoded_input, largest_current
from respike.simulate.rate.program import compile_program, new_tally
from respike.simulate.rate.settings import Settings
from respike.simulate.record import SpikeRecord, Trace


def simulate_stepwise(
    snn: RateSNN, images: Tensor, *, index: Tensor | None = None, keep: bool = False, **settings: Any
) -> SpikeRecord:
    """The same simulation as `simulate`, step by step, all images at once. keep: record a `Trace` of every image."""
    chosen = Settings.from_keywords(settings)
    index = torch.arange(len(images)) if index is None else index
    program = compile_program(snn, images.shape[1:], chosen, largest_current(images, chosen))
    output = program.layers[-1]
    states: dict[str, Any] = {}
    spikes: dict[str, list[Tensor]] = {"input": [], **{layer.name: [] for layer in program.layers}}
    potentials: dict[str, list[Tensor]] = {layer.name: [] for layer in program.layers}
    with torch.inference_mode():
        for t in range(chosen.steps):
            now = {"input": encoded_input(program, chosen, images, index, torch.tensor([t]))[0]}
            for layer in program.layers:
                drive = layer.drive(now)  # (B, ...N)
                if t == 0 and chosen.drop_first_output and layer is output:
                    drive = torch.zeros_like(drive)
                before = states[layer.name] if t > 0 else layer.neuron.initial(drive)
                state = layer.neuron.step(drive, before)
                states[layer.name], now[layer.name] = state, state.spikes
                potentials[layer.name].append(state.potential / layer.neuron.threshold)
            for name, values in now.items():
                spikes[name].append(values)
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
