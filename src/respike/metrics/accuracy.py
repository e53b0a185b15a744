"""Accuracy over time, agreement with the ReLU network, time to a good answer. T steps, B images."""

import torch
from torch import Tensor

from respike.simulate.record import SpikeRecord

ONE_POINT = 0.01


def correct_share(record: SpikeRecord, truth: Tensor) -> Tensor:
    """Share of images whose prediction equals `truth` (B,) after each step, float64 (T,)."""
    return (record.predicted.long() == truth.long()).double().mean(1)


def steps_to_one_point(accuracy: Tensor) -> int:
    """Number of the first step (from 1) whose accuracy, and every later one's, lies within one point of the last."""
    outside = ((accuracy - accuracy[-1]).abs() > ONE_POINT + 1e-12).nonzero().flatten()
    return int(outside[-1]) + 2 if len(outside) else 1


def disagreements(record: SpikeRecord, labels: Tensor, ann: Tensor) -> list[tuple[int, int, int, int]]:
    """(image number, label, class of the ReLU network, class of the spiking one) wherever the two classes differ."""
    snn = record.predicted[-1].long()
    rows = torch.stack([record.index, labels, ann, snn], dim=1)[snn != ann]
    return [tuple(row) for row in rows.tolist()]


def accuracy_metrics(record: SpikeRecord, labels: Tensor, ann: Tensor) -> dict[str, float]:
    """ann/test_acc, snn/test_acc, snn/acc_drop, snn/agreement, snn/steps_to_1pct, snn/time_to_1pct_ms.

    labels, ann: the true classes and those of the ReLU network, (B,) each. The record must have times (`times_ms`).
    """
    spiking = spiking_accuracy(record, labels)
    ann_accuracy = float((ann == labels).double().mean())
    return {
        "ann/test_acc": ann_accuracy,
        "snn/test_acc": spiking["snn/test_acc"],
        "snn/acc_drop": ann_accuracy - spiking["snn/test_acc"],
        "snn/agreement": float(correct_share(record, ann)[-1]),
        "snn/steps_to_1pct": spiking["snn/steps_to_1pct"],
        "snn/time_to_1pct_ms": float(record.times_ms[spiking["snn/steps_to_1pct"] - 1]),
    }


def spiking_accuracy(record: SpikeRecord, labels: Tensor) -> dict[str, float]:
    """snn/test_acc, snn/steps_to_1pct: of a network that comes from no other. labels: the true classes (B,)."""
    accuracy = correct_share(record, labels)
    return {"snn/test_acc": float(accuracy[-1]), "snn/steps_to_1pct": steps_to_one_point(accuracy)}
