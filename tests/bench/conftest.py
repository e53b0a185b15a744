"""A small workload: a random spiking network with images and labels, in memory and in a file."""

import pytest
import torch

from respike.bench.workload import Workload
from respike.convert import data_norm


@pytest.fixture(scope="session")
def draw_workload(draw_net):
    """draw_workload(wiring) -> 20 steps of a normalized random network on 20 images with random labels."""

    def draw(wiring="fc"):
        net, images = draw_net(wiring, seed=3, bias=True)
        snn = data_norm(net.float(), images.float())
        labels = torch.arange(len(images)) % 5
        return Workload(wiring, snn, images.float(), labels, {"duration": 0.020})

    return draw


@pytest.fixture
def saved_workload(draw_workload, tmp_path):
    """The file of a workload with a fully-connected network."""
    return str(draw_workload().save(tmp_path / "fc.pt"))
