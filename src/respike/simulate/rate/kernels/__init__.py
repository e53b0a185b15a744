"""Fast paths of the fixed-point simulation. The spikes are those of stepwise.py, bit for bit."""
