"""Accuracy over time, agreement with the ReLU network, time to the final accuracy. T steps, B images."""

import math

from torch import Tensor

from respike.simulate.record import SpikeRecord

ONE_POINT = 0.01  # one percentage point of accuracy


def correct_share(record: SpikeRecord, truth: Tensor) -> Tensor:
    """Share of images whose predicted class equals `truth` (B,), after each step: float64 (T,), NaN where no class is read."""
    share = (record.predicted.long() == truth.long()).double().mean(1)
    share[: record.read_from] = math.nan
    return share


def steps_to_one_point(accuracy: Tensor) -> int:
    """The first step, counted from 1, from which on the accuracy stays within one percentage point of the last one."""
    outside = (~((accuracy - accuracy[-1]).abs() <= ONE_POINT + 1e-12)).nonzero().flatten()  # NaN is outside, too
    return int(outside[-1]) + 2 if len(outside) else 1


def disagreements(index: Tensor, labels: Tensor, ann: Tensor, snn: Tensor) -> dict[str, list[int]]:
    """The columns of disagreements.csv, one entry per image that the two networks classify differently.

    index: image numbers; labels: true classes; ann: classes predicted by the ReLU network; snn: those predicted by the
    spiking network; int (B,) each.
    """
    columns = {"index": index, "label": labels, "ann": ann, "snn": snn}
    return {name: values[snn != ann].tolist() for name, values in columns.items()}


def is_at_chance(snn: float, ann: float, labels: Tensor) -> bool:
    """Whether an accuracy keeps less than a tenth of what the ReLU network has above the share of the most frequent class.

    False for a ReLU network that is itself within 0.1 of that share.
    """
    chance = float(labels.bincount().max()) / len(labels)
    return ann - chance > 0.1 and snn - chance < 0.1 * (ann - chance)


def accuracy_metrics(record: SpikeRecord, labels: Tensor, ann: Tensor) -> dict[str, float]:
    """ann/test_acc, snn/test_acc, snn/acc_drop, snn/agreement, snn/steps_to_1pct, snn/time_to_1pct_ms; snn/steps,
    snn/read_from: T and t0.

    labels, ann: the true classes and those of the ReLU network, (B,) each. The record must have times (`times_ms`).
    """
    assert record.times_ms is not None
    accuracy = correct_share(record, labels)
    snn_accuracy, steps = float(accuracy[-1]), steps_to_one_point(accuracy)
    ann_accuracy = float((ann == labels).double().mean())
    return {
        "ann/test_acc": ann_accuracy,
        "snn/test_acc": snn_accuracy,
        "snn/acc_drop": ann_accuracy - snn_accuracy,
        "snn/agreement": float(correct_share(record, ann)[-1]),
        "snn/steps_to_1pct": steps,
        "snn/time_to_1pct_ms": float(record.times_ms[steps - 1]),
        "snn/steps": record.steps,
        "snn/read_from": record.read_from,
    }


def spiking_accuracy(record: SpikeRecord, labels: Tensor) -> dict[str, float]:
    """snn/test_acc and snn/steps_to_1pct, for a network without a ReLU counterpart. labels: the true classes (B,)."""
    accuracy = correct_share(record, labels)
    return {"snn/test_acc": float(accuracy[-1]), "snn/steps_to_1pct": steps_to_one_point(accuracy)}
