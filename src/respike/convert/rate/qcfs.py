"""Conversion of networks with QCFS activations (Bu et al. 2022): thresholds are those that were trained, weights stay.

A neuron with threshold theta whose spikes have the amplitude theta is, in units of theta, one with threshold 1 and drive
x / theta: the scale of a layer is its theta. The neuron is reset by subtraction and starts at theta / 2 (neuron=soft), the
image is a constant current (encode=current), biases act at every step, and the mean current of the output is read.
"""

from torch import Tensor, nn

from respike.convert.calibration import Images
from respike.convert.graph.nodes import Graph
from respike.convert.rate.normalize import normalize, wire
from respike.convert.rate.rate_snn import RateSNN
from respike.convert.rate.wiring import cap_of
from respike.errors import InputError
from respike.networks.qcfs import QCFS


def qcfs_thresholds(
    net: nn.Module,
    images: Images | None = None,
    *,
    fold_dropout: bool = True,
    spiking_pools: bool = False,
    max_pool: str = "count",
    readout: str = "current",
) -> RateSNN:
    """Spiking layers whose scales are the trained thresholds of the network's QCFS activations.

    images: only to compare the result with the network. spiking_pools: true makes average pools layers of neurons, unlike in
    the paper; fold_dropout, max_pool: as in `build_rate_snn`; readout: "current": the output has no trained threshold.
    Raises InputError for a network with other ReLUs, and as `build_rate_snn`.
    """
    if readout != "current":
        raise InputError(
            f"convert.readout={readout}: the output has no trained threshold; type convert.readout=current"
        )
    wired, _ = wire(net, images, fold_dropout, spiking_pools, max_pool, readout, trained=True)
    thresholds = {}
    for name in wired.measured(output_layer=False):
        node = wired.node_of_layer[name]
        if not quantizer(wired.graph, node):
            raise InputError(
                f"layer '{name}' has a ReLU without a trained threshold; train with model.activation=qcfs, or type "
                "convert=percentile"
            )
        thresholds[name] = Tensor([cap_of(wired.graph, node)]).double().reshape(())
    normalize(wired.snn, thresholds)
    return wired.checked()


def quantizer(graph: Graph, name: str) -> QCFS | None:
    """The QCFS whose value a node has, or of which it is the largest; None for other activations."""
    node = graph.nodes[name]
    while node.kind == "maxpool":
        node = graph.nodes[node.inputs[0]]
    return node.module if isinstance(node.module, QCFS) else None
