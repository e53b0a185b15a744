"""A small piece of work: a random spiking network of each kind with images and labels, in memory and on disk."""

import pytest
import torch

from respike.bench.workload import Work
from respike.convert import data_norm


@pytest.fixture(scope="session")
def draw_work(draw_net):
    """draw_work(wiring) -> 20 steps of a normalized random network on 20 images, labelled at random."""

    def draw(wiring="fc"):
        net, images = draw_net(wiring, seed=3, bias=True)
        snn = data_norm(net.float(), images.float())
        labels = torch.arange(len(images)) % 5
        return Work(wiring, snn, images.float(), labels, {"duration": 0.020})

    return draw


@pytest.fixture
def saved_work(draw_work, tmp_path):
    """The path of a saved fully-connected work."""
    return str(draw_work().save(tmp_path / "fc.pt"))
