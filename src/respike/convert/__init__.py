"""From a ReLU network to a spiking one: read its graph, then convert it to spike rates or to exact spike times.

graph/  the network as named operations   rate/  normalization -> RateSNN   exact/  exact mapping -> TTFSNet
"""

from respike.convert.exact.mapping import b1_map, exact_map
from respike.convert.exact.ttfs_net import TTFSNet
from respike.convert.loading import load_snn
from respike.convert.rate.calibrate import calibrate_bias, calibrate_potential, calibrate_weights
from respike.convert.rate.local_threshold import local_threshold_norm
from respike.convert.rate.mmse import mmse_norm
from respike.convert.rate.normalize import data_norm, model_norm, no_norm, percentile_norm
from respike.convert.rate.qcfs import qcfs_thresholds
from respike.convert.rate.rate_snn import RateSNN

__all__ = [
    "RateSNN",
    "TTFSNet",
    "b1_map",
    "calibrate_bias",
    "calibrate_potential",
    "calibrate_weights",
    "data_norm",
    "exact_map",
    "load_snn",
    "local_threshold_norm",
    "mmse_norm",
    "model_norm",
    "no_norm",
    "percentile_norm",
    "qcfs_thresholds",
]
