"""A spiking network and images in, a SpikeRecord out."""

from respike.simulate.clock import simulate
from respike.simulate.record import SpikeRecord
from respike.simulate.reference import simulate_stepwise

__all__ = ["SpikeRecord", "simulate", "simulate_stepwise"]
