"""Evaluation of a TTFSNet: one product per layer, and a search for neurons where a bound does not prove that it suffices.

B images, N neurons.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from respike.convert.exact.ranges import unit_leads
from respike.convert.exact.ttfs_net import TTFSLayer, TTFSNet
from respike.data.pixels import to_unit
from respike.simulate.record import image_numbers
from respike.simulate.ttfs.oracle import integrate
from respike.simulate.ttfs.program import (
    B1Program,
    LayerProgram,
    compile_layer,
    connect,
    network_connections,
    network_shapes,
    noisy_weight,
)
from respike.simulate.ttfs.record import LayerCounts, TTFSRecord
from respike.simulate.ttfs.search import search
from respike.simulate.ttfs.settings import TTFSSettings
from respike.system.precision import plain_sums

BUDGET = 1 << 26  # bytes of the widest layer in one chunk, with its input unfolded


def simulate_ttfs(
    snn: TTFSNet,
    images: Tensor,
    *,
    index: Tensor | None = None,
    chunk: int | None = None,
    trace: Sequence[int] = (),
    progress: bool = False,
    **settings: Any,
) -> TTFSRecord:
    """Evaluate a time-to-first-spike network on images: spike counts, and the potentials of the output layer.

    images: (B, C, H, W) within the network's input range, or uint8 pixels. index: image numbers (B,), which determine the noise
    (default 0, 1, ...). chunk: images at a time. trace: image numbers whose spike times are kept whole. progress: a bar on
    a terminal. settings: keywords of `TTFSSettings`. Raises InputError for settings or images that do not fit.
    """
    chosen = TTFSSettings(**settings)
    index = image_numbers(images, index, chunk, trace)
    run = Run(snn, images.shape[1:], chosen)
    parts, size = [], chunk or max(1, min(1000, BUDGET // run.bytes_per_image))
    with (
        torch.inference_mode(),
        tqdm(total=len(images), desc="simulate", unit="img", disable=None if progress else True, leave=False) as bar,
    ):
        for part, numbers in zip(images.split(size), index.split(size), strict=True):
            parts.append(run.chunk(part, numbers, set(trace)))
            bar.update(len(part))
    return TTFSRecord.merge(parts)


class Run:
    """A network compiled for one trial. `chunk` evaluates images of one shape."""

    def __init__(self, snn: TTFSNet, input_shape: torch.Size, settings: TTFSSettings):
        self.snn, self.settings = snn, settings
        self.output_name = list(snn.layers)[-1]
        self.programs = {
            name: compile_layer(name, layer, settings)
            for name, layer in snn.layers.items()
            if isinstance(layer, TTFSLayer)
        }
        self.output_weight = noisy_weight(self.output_name, snn.output.synapses.weight, settings).to(settings.dtype)
        shapes = network_shapes(snn, input_shape)
        connections = network_connections(snn, input_shape)
        self.fan_outs = {name: reached for name, (reached, _) in connections.items()}
        self.macs = sum(macs for _, macs in connections.values())
        self.last_reader = {source: name for name in snn.layers for source in snn.sources(name)}
        self.bytes_per_image = settings.dtype.itemsize * max(
            inputs.numel() + output.numel() + layer.synapses.weight[0].numel() * output[1:].numel()
            for layer, (inputs, output) in ((layer, shapes[name]) for name, layer in snn.layers.items())
        )

    def chunk(self, images: Tensor, index: Tensor, trace: set[int]) -> TTFSRecord:
        """The record of some images (B, C, H, W) with these numbers (B,)."""
        leads = self.settings.disturbed(self.encoded(images), "input", 1.0, index)
        inputs = LayerCounts(pairs=leads.numel(), active=int((leads > 0).count_nonzero()))
        times, counts, synops = {"input": 1 - leads} if trace else {}, {}, {}
        spikes = {"input": leads}
        for name, layer in self.snn.layers.items():
            leads = self.snn.inputs(spikes, name)
            spikes = {source: found for source, found in spikes.items() if self.last_reader[source] != name}
            synops[name] = int(((leads > 0).sum(0, dtype=torch.int32) * self.fan_outs[name]).sum())
            if name == self.output_name:
                break
            leads, found = self.fire(self.programs[name], leads)
            spikes[name] = leads = self.settings.disturbed(leads, name, self.programs[name].length, index)
            counts[name] = replace(found, active=int((leads > 0).count_nonzero()))
            if trace:
                times[name] = float(layer.t_max) - leads
        return TTFSRecord(
            index=index.cpu(),
            logits=self.potentials(leads).double().cpu(),
            inputs=inputs,
            counts=counts,
            synops=synops,
            latency=self.snn.latency,
            ann_macs=self.macs,
            spike_times={
                number: {name: time[b].cpu() for name, time in times.items()}
                for b, number in enumerate(index.tolist())
                if number in trace
            },
        )

    def encoded(self, images: Tensor) -> Tensor:
        """Leads of the input spikes: the pixels, from the network's input range to [0, 1]."""
        return unit_leads(
            to_unit(images).to(self.output_weight.device), self.snn.input_range.tolist(), self.settings.dtype
        )

    def fire(self, program: LayerProgram, inputs: Tensor) -> tuple[Tensor, LayerCounts]:
        """Leads (B, ...N) of a layer's spikes without noise, from those of its inputs (B, ...F); counts without `active`."""
        evaluator, authors = self.settings.evaluator, self.settings.authors
        prove = evaluator == "certified"
        with plain_sums() if prove else nullcontext():
            drive = program.drive(inputs)
        chosen = program.uncertain(inputs, drive) if prove else torch.ones_like(drive, dtype=torch.bool)
        leads = program.leads(drive)
        certified = early = 0
        if isinstance(program, B1Program):  # by definition: no spike before t_min
            early = int((leads >= program.length).sum())
            if evaluator == "events":
                integrate(program, inputs, leads)
            elif prove:
                certified = leads.numel() - int(chosen.count_nonzero())
        elif evaluator == "events":
            early = integrate(program, inputs, leads)
        elif evaluator != "closed":
            searched = int(chosen.count_nonzero())
            proved, early = search(program, inputs, leads, chosen, authors, prove) if searched else (0, 0)
            certified = leads.numel() - searched + proved
        return leads, LayerCounts(leads.numel(), certified, early)

    def potentials(self, inputs: Tensor) -> Tensor:
        """Potentials (B, C) of the output layer at its t_min; later inputs have no effect."""
        output = self.snn.output
        if not self.settings.authors:
            inputs = inputs.clamp(min=0)
        drive = connect(output.synapses, inputs, self.output_weight)
        v = (drive + (output.alpha * (output.t_min - output.t_min_prev)).to(drive)).flatten(1)
        return v.clamp(min=0) if output.rectified else v
