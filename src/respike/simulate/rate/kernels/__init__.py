"""Fast backends of the fixed-point simulation. Each gives the spikes of stepwise.py, bit for bit."""
