"""Records made by hand."""

import pytest
import torch

from respike.simulate import SpikeRecord


@pytest.fixture
def hand_made():
    """hand_made(**changes) -> 2 images, 4 steps of 0.5 ms, an input of 6 pixels, layers of 4 and 3 neurons."""

    def make(**changes):
        values = {
            "index": torch.tensor([40, 7]),
            "predicted": torch.tensor([[0, 0], [2, 0], [2, 1], [2, 1]], dtype=torch.int16),
            "counts": torch.tensor([[0, 0, 3], [1, 2, 0]], dtype=torch.int32),
            "times_ms": torch.tensor([0.5, 1.0, 1.5, 2.0], dtype=torch.float64),
            "spikes": {
                "input": torch.tensor([5, 4, 6, 3]),
                "hidden": torch.tensor([0, 3, 4, 3]),
                "output": torch.tensor([0, 1, 2, 3]),
            },
            "synops": {"hidden": torch.tensor([20, 16, 24, 12]), "output": torch.tensor([0, 9, 12, 9])},
            "neurons": {"input": 6, "hidden": 4, "output": 3},
            "dt": 0.0005,
            "ann_macs": 36,
        }
        return SpikeRecord(**values | changes)

    return make
