"""Metrics of a time-to-first-spike network: agreement with the ReLU network, certified neurons, latency, activity."""

from torch import Tensor

from respike.simulate.ttfs.record import LayerCounts, TTFSRecord


def agreement_metrics(record: TTFSRecord, labels: Tensor, relu: Tensor) -> dict[str, float]:
    """ann/test_acc, snn/test_acc, snn/acc_drop, snn/agreement, ttfs/largest_logit_difference.

    labels: true classes (B,); relu: outputs (B, C) of the original network in float64, without softmax.
    """
    ann = float((relu.argmax(1) == labels).double().mean())
    snn = float((record.predicted == labels).double().mean())
    return {
        "ann/test_acc": ann,
        "snn/test_acc": snn,
        "snn/acc_drop": ann - snn,
        "snn/agreement": float((record.predicted == relu.argmax(1)).double().mean()),
        "ttfs/largest_logit_difference": float((record.logits - relu.double()).abs().max()),
    }


def ttfs_metrics(record: TTFSRecord) -> dict[str, float]:
    """Shares of the (image, hidden neuron) pairs, in total and per layer (ttfs/active/<layer>), and spike counts.

    ttfs/certified: the bound proves that the neuron fires after its last input. ttfs/early: it fires before its last
    input. ttfs/active: it fires before t_max. ttfs/spikes_per_neuron: the active share, with input neurons included.
    ttfs/latency: t_min of the output layer. snn/spikes_per_image: spikes before t_max, without the input's.
    snn/synops_per_image: weights that spikes before t_max reach, with the input's.
    """
    hidden = sum(record.counts.values(), LayerCounts())
    pairs = max(hidden.pairs, 1)
    return {
        "ttfs/certified": hidden.certified / pairs,
        "ttfs/early": hidden.early / pairs,
        "ttfs/active": hidden.active / pairs,
        "ttfs/spikes_per_neuron": (hidden.active + record.inputs.active) / (hidden.pairs + record.inputs.pairs),
        "ttfs/latency": record.latency,
        "snn/spikes_per_image": hidden.active / record.images,
        "snn/synops_per_image": sum(record.synops.values()) / record.images,
        **{
            f"ttfs/{what}/{name}": getattr(counts, what) / counts.pairs
            for name, counts in record.counts.items()
            for what in ("certified", "early", "active")
        },
    }
