"""From a ReLU network to rate-coded spikes: scales, normalization, wiring."""
