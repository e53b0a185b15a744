"""Clock-driven simulation of a RateSNN, layer by layer, all steps at once. T steps, B images.

The network is feed-forward, so a layer can compute all T steps before the next layer starts: one product per layer serves
T x B rows, and the neuron is a scan over T. stepwise.py holds the same simulation step by step.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from respike.convert.rate.rate_snn import RateSNN
from respike.layers.over_time import over_time
from respike.simulate.rate.input import encoded_input, largest_current
from respike.simulate.rate.kernels import events, triton_backend
from respike.simulate.rate.program import COPIES, Program, alive, compile_program, new_tally, widest
from respike.simulate.rate.settings import Settings
from respike.simulate.rate.stepwise import simulate_stepwise
from respike.simulate.record import SpikeRecord, image_numbers

BUDGET = 1 << 24  # bytes of the widest layer in one chunk, near the size of the caches
BLOCK = 1 << 28  # bytes of the values that are in memory at once in one block of steps
ON_GPU = {  # kind of a layer's plan -> what runs it, and why not Triton alone
    "torch": ("torch", "no neurons"),
    "scan": ("triton", "its drive by PyTorch in float64, for several branches, groups or currents"),
}
EVENT_CHUNK = 1000  # images per call of the compiled simulation, which splits them among threads


def simulate(
    snn: RateSNN,
    images: Tensor,
    *,
    index: Tensor | None = None,
    chunk: int | None = None,
    trace: Sequence[int] = (),
    progress: bool = False,
    **settings: Any,
) -> SpikeRecord:
    """Simulate a spiking network on images and count its spikes.

    images: (B, C, H, W) in [0, 1], or uint8 pixels. index: image numbers (B,) which, with the seed, decide the random
    spikes (default 0, 1, ...). chunk: images at a time. trace: image numbers whose spikes and potentials are kept.
    progress: a bar on a terminal. settings: keywords of `Settings` (encode, neuron, dt, duration, weight_bits, ...).
    Raises InputError for settings or networks that cannot be simulated.
    """
    chosen = Settings.from_keywords(settings)
    chosen.warn_if_unusual()
    index = image_numbers(images, index, chunk, trace).cpu()
    largest = largest_current(images, chosen, index)
    program = compile_program(snn, images.shape[1:], chosen, largest)
    run, size = _prepared(program, chosen, chunk)
    parts = []
    with (
        torch.inference_mode(),
        tqdm(total=len(images), desc="simulate", unit="img", disable=None if progress else True, leave=False) as bar,
    ):
        for part, numbers in zip(images.split(size), index.split(size), strict=True):
            parts.append(run(part.to(program.device), numbers))
            bar.update(len(part))
    record = SpikeRecord.merge(parts)
    wanted = torch.isin(index, torch.tensor(list(trace), dtype=index.dtype)).nonzero().flatten()
    if len(wanted):
        traced = simulate_stepwise(snn, images[wanted], index=index[wanted], keep=True, largest=largest, **settings)
        record.traces.update(traced.traces)
    return record


def backends(program: Program, settings: Settings, on_gpu: bool) -> dict[str, tuple[str, str | None]]:
    """For every layer the backend that `simulate` runs it with, on a CPU or a GPU, and why not with a faster one."""
    name = "triton" if on_gpu else "events"
    if settings.backend not in ("auto", name):
        return {layer.name: ("torch", f"simulate.backend={settings.backend}") for layer in program.layers}
    reason = triton_backend.unsupported(program, "cuda") if on_gpu else events.unsupported(program, settings)
    if reason is not None:
        return {layer.name: ("torch", reason) for layer in program.layers}
    if on_gpu:
        kinds = {layer.name: triton_backend.plan(program, layer, settings).kind for layer in program.layers}
        return {layer: ON_GPU.get(kind, (name, None)) for layer, kind in kinds.items()}
    plain = {layer.name: events.plain_reason(program, layer) for layer in program.layers}
    return {layer.name: ("torch" if plain[layer.name] else name, plain[layer.name]) for layer in program.layers}


def _prepared(
    program: Program, settings: Settings, chunk: int | None
) -> tuple[Callable[[Tensor, Tensor], SpikeRecord], int]:
    """What simulates images with their numbers, on the fastest backend, and how many images at a time."""
    if triton_backend.is_selected(program, settings):
        prepared = triton_backend.TritonProgram(program, settings)
        return prepared.run, min(chunk or prepared.chunk, prepared.chunk)
    if events.is_selected(program, settings):
        return events.EventProgram(program, settings).run, chunk or EVENT_CHUNK  # which keeps no copy of its weights
    return partial(_simulate_chunk, program, settings), chunk or _chunk_size(program, settings.steps)


def _chunk_size(program: Program, steps: int) -> int:
    per_image = steps * max(shape.numel() for shape in program.shapes.values()) * program.dtype.itemsize
    return max(1, BUDGET // per_image)


def _simulate_chunk(program: Program, settings: Settings, images: Tensor, index: Tensor) -> SpikeRecord:
    """Images (B, C, H, W) through all layers, in blocks of steps T' between which the neurons keep their state."""
    tally = new_tally(program, settings)
    kept = [*alive(program.layers)[1:], {program.layers[-1].name}]
    states: dict[str, Any] = {}
    output: list[Tensor] = []
    for steps in torch.arange(settings.steps).split(_block_size(program, len(images))):
        first = int(steps[0])
        spikes = {"input": encoded_input(program, settings, images, index, steps)}  # (T' or 1, B, ...)
        tally.add("input", spikes["input"], first)
        for layer, needed in zip(program.layers, kept, strict=True):
            drive = layer.drive(spikes, over_time)  # (T' or 1, B, ...N)
            dropped = settings.drop_first_output and not first and layer is program.layers[-1]
            spikes[layer.name], states[layer.name] = layer.scan(drive, len(steps), states.get(layer.name), dropped)
            tally.add(layer.name, spikes[layer.name], first)
            spikes = {name: values for name, values in spikes.items() if name in needed}
        output.append(spikes[program.layers[-1].name])
    return tally.record(index, torch.cat(output))


def _block_size(program: Program, images: int) -> int:
    """Steps at once, so that all values in memory at once, with the drive of a layer and its copies, fit in `BLOCK`."""
    shapes = program.shapes
    numbers = max(
        sum(shapes[name].numel() for name in names) + COPIES * widest(layer, shapes)
        for layer, names in zip(program.layers, alive(program.layers), strict=True)
    )
    return max(1, BLOCK // (images * numbers * program.dtype.itemsize))
