"""Numbers read off a TTFSRecord: agreement with the ReLU network, what is proved, when and how much it spikes."""

from torch import Tensor

from respike.simulate.ttfs.record import LayerCounts, TTFSRecord


def agreement_metrics(record: TTFSRecord, labels: Tensor, relu: Tensor) -> dict[str, float]:
    """ann/test_acc, snn/test_acc, snn/acc_drop, snn/agreement, ttfs/largest_logit_difference.

    labels: true classes (B,); relu: outputs (B, C) of the original network in float64, softmax left out.
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
    """Shares of (image, hidden neuron) pairs: ttfs/certified, proved by the bound to fire after their last input; ttfs/early,
    found to fire before it; ttfs/active, firing before t_max; each also per layer, as ttfs/active/<layer>.

    ttfs/spikes_per_neuron is the active share with the input's neurons counted too; ttfs/latency is the output layer's
    t_min; snn/spikes_per_image counts spikes before t_max, the input's left out; snn/synops_per_image the weights that spikes
    before t_max reach, input included.
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
