"""Fast paths of the fixed-point simulation. Each gives the spikes of reference.py, bit for bit, or steps aside."""
