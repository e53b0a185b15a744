"""How far two arithmetics of ours agree on the same input spikes. T steps, B images."""

from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def agreement(first: dict[str, Tensor], second: dict[str, Tensor], labels: Tensor) -> dict[str, Any]:
    """Compare outputs: predicted (T, B) and counts (B, classes) of each, labels (B,), on the images both have.

    predictions_differ: share of (image, step) predictions; counts_differ: share of final counts; accuracy_gap: first
    minus second, as a fraction.
    """
    images = min(len(first["counts"]), len(second["counts"]))
    a, b = (output["predicted"][:, :images] for output in (first, second))
    counts = [output["counts"][:images] for output in (first, second)]
    right = [(predicted[-1] == labels[:images]).double().mean().item() for predicted in (a, b)]
    return {
        "images": images,
        "predictions_differ": (a != b).double().mean().item(),
        "counts_differ": (counts[0] != counts[1]).double().mean().item(),
        "accuracy_gap": right[0] - right[1],
    }


def agreements(outputs: dict[str, Path], labels: Tensor) -> list[dict[str, Any]]:
    """Every pair of the outputs (files by contender) that tell their predictions; those not written are left out."""
    loaded = {name: torch.load(path) for name, path in outputs.items() if path.is_file()}
    told = [name for name, output in loaded.items() if output["predicted"] is not None]
    return [
        {"name": f"{one} / {other}", **agreement(loaded[one], loaded[other], labels)}
        for one, other in combinations(told, 2)
    ]
