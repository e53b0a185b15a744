"""From a ReLU network to a spiking one: read the graph, rescale, rewire."""

from respike.convert.rate.normalize import data_norm, model_norm, no_norm, percentile_norm
from respike.convert.rate.rate_snn import RateSNN

__all__ = ["RateSNN", "data_norm", "model_norm", "no_norm", "percentile_norm"]
