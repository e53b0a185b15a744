"""Simulation of spiking networks: a network and images in, a SpikeRecord out."""

from respike.simulate.rate.layerwise import simulate
from respike.simulate.rate.stepwise import simulate_stepwise
from respike.simulate.record import SpikeRecord

__all__ = ["SpikeRecord", "simulate", "simulate_stepwise"]
