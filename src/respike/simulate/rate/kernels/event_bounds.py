"""Which programs events.c supports, and whether they need the wide build: weights of up to 24 bits, sums of up to 63."""

from pathlib import Path

import torch

from respike.convert.graph.nodes import Scale
from respike.convert.rate.rate_snn import Synapse
from respike.simulate.rate.fixed_point import weights_of
from respike.simulate.rate.kernels.event_layers import known, padded
from respike.simulate.rate.program import Program, ProgramLayer
from respike.simulate.rate.settings import Settings
from respike.system.compiler import library

SOURCE = Path(__file__).with_name("events.c")
WIDE = {False: (), True: ("-DWIDE",)}  # flags of the compiler


def runnable(program: Program, settings: Settings) -> bool:
    """Whether events.c supports this: fixed point, known layers, sums within 63 bits, on a CPU with a compiler."""
    if settings.backend not in ("auto", "events") or not program.fixed_point:
        return False
    shapes = {"input": program.input_shape} | {layer.name: layer.shape for layer in program.layers}
    fits = program.input_shape.numel() <= 1 << 16 and all(
        padded(layer)[0] <= 1 << 16
        and all(
            known(synapse, layer, shapes[synapse.source]) and _largest_weight(synapse) < 1 << 31
            for synapse in spiking(layer, settings)
        )
        for layer in program.layers
    )
    device = next((parameter.device for parameter in program.layers[0].synapses.parameters()), torch.device("cpu"))
    return fits and device.type == "cpu" and library(SOURCE, *WIDE[wide(program, settings)]) is not None


def spiking(layer: ProgramLayer, settings: Settings) -> list[Synapse]:
    """The synapses that transmit spikes; those of an analog input give a constant drive instead."""
    return [s for s in layer.synapses.synapses if not (settings.encode.analog and s.source == "input")]


def _largest_weight(synapse: Synapse) -> float:
    return float(weights_of(synapse).abs().max())


def wide(program: Program, settings: Settings) -> bool:
    """Whether weights need more than 16 bits, or sums more than 32."""
    return any(
        layer.largest_potential(settings.steps) >= 1 << 31
        or any(
            _largest_weight(synapse) >= 1 << 15
            for synapse in spiking(layer, settings)
            if not isinstance(synapse.weighted, Scale)
        )
        for layer in program.layers
    )
