"""From a ReLU network to rate-coded spikes: connect spiking layers, measure scales, normalize weights."""
