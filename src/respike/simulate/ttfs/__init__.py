"""Simulation of time-to-first-spike networks: a network and images in, a TTFSRecord out."""

from respike.simulate.ttfs.evaluate import simulate_ttfs
from respike.simulate.ttfs.record import TTFSRecord

__all__ = ["TTFSRecord", "simulate_ttfs"]
