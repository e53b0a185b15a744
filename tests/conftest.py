"""Shared by all tests: the import guard, a repeatable hypothesis profile and small random networks."""

from respike.system import torchvision_guard  # noqa: F401  first: test modules import pytorch_lightning, which imports torchvision

# isort: split
import logging
import math
import os
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hypothesis import settings
from torch import nn

from respike.convert import data_norm

torch.set_num_threads(1)  # the tests' tensors are tiny: a second thread costs more than it brings

settings.register_profile("repeatable", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _nothing_of_hydra_is_left():
    """Hydra's command line leaves its configuration, and log handlers of the captured stdout, to the tests after it."""
    before, cfg = list(logging.root.handlers), HydraConfig.instance().cfg
    yield
    HydraConfig.instance().cfg = cfg
    for handler in list(logging.root.handlers):
        if handler not in before and type(handler) in (logging.StreamHandler, logging.FileHandler):
            logging.root.removeHandler(handler)


def pytest_terminal_summary(terminalreporter):
    """Lines that tests recorded as "summary", and the libraries whose networks were not compared with ours."""
    for report in terminalreporter.stats.get("passed", ()):
        for name, line in report.user_properties:
            if name == "summary":
                terminalreporter.write_line(line)
    reasons = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    missing = sorted({word for reason in reasons for word in re.findall(r"(\w+) is in requirements-bench", reason)})
    if missing:
        line = (
            f"peer equivalence not run: not installed: {', '.join(missing)}; make test-peers installs them and runs it"
        )
        terminalreporter.write_line(line)
    absent = sorted({file for reason in reasons for file in re.findall(r"to a folder that holds ([\w./-]*\w)", reason)})
    if absent:
        terminalreporter.write_line(f"published data not tested, since DATA_DIR does not hold it: {', '.join(absent)}")


@pytest.fixture(scope="session")
def published():
    """published("folder", "file") -> its path below DATA_DIR; skips the test where there is none."""

    def find(*parts):
        path = Path(os.environ.get("DATA_DIR", "data"), *parts)
        if not path.exists():
            pytest.skip(f"set DATA_DIR to a folder that holds {'/'.join(parts)}")
        return path

    return find


class Residual(nn.Module):
    """A ReLU on the sum of two branches: conv-ReLU-conv, and a shortcut."""

    def __init__(self, shortcut: nn.Module, bias: bool):
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 3, padding=1, bias=bias)
        self.conv1, self.conv2 = (nn.Conv2d(3, 3, 3, padding=1, bias=bias) for _ in range(2))
        self.shortcut, self.pool, self.relu = shortcut, nn.AvgPool2d(2), nn.ReLU()
        self.head = nn.Linear(18, 5, bias=bias)

    def forward(self, x):
        x = self.relu(self.stem(x))
        x = self.relu(self.conv2(self.relu(self.conv1(x))) + self.shortcut(x))
        return self.head(self.pool(x).flatten(1))


def fully_connected(bias):
    widths = [12, 9, 8, 7, 5]
    layers = [(nn.Linear(a, b, bias=bias), nn.ReLU()) for a, b in pairwise(widths)]
    return nn.Sequential(nn.Flatten(), *sum(layers, ())), (3, 2, 2)


def convolutional(bias):
    """Odd sides, a pool that leaves a column over, padding, a stride, overlapping pools, no ReLU at the end."""
    convs = nn.Conv2d(1, 3, 3, bias=bias), nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=bias)
    layers = convs[0], nn.ReLU(), nn.AvgPool2d(2), convs[1], nn.ReLU(), nn.AvgPool2d(2, 1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(8, 5, bias=bias)), (1, 9, 12)


def pools_everywhere(bias):
    """A pool on the input, before a ReLU, behind another pool, an adaptive one, and one as the output; grouped maps."""
    first = nn.AvgPool2d(2), nn.Conv2d(2, 4, 2, groups=2, bias=bias), nn.AvgPool2d((1, 2)), nn.ReLU()
    return nn.Sequential(
        *first, nn.AvgPool2d(2, 1), nn.AdaptiveAvgPool2d(2), nn.Conv2d(4, 5, 1, bias=bias), nn.ReLU(), nn.AvgPool2d(2)
    ), (2, 12, 14)


class InputSkip(nn.Module):
    """The input itself is added to spikes; the sum is read without a ReLU."""

    def __init__(self, bias):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 3, 3, padding=1, bias=bias), nn.Conv2d(3, 2, 3, padding=1, bias=bias)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.conv2(self.relu(self.conv1(x))) + x * 0.5


class EveryUnit(nn.Module):
    """What has no neurons: a max-pool, a cap, currents that are concatenated, and shifts in front of padding."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1, bias=False)
        self.norm, self.conv3, self.fc = nn.BatchNorm2d(7), nn.Conv2d(7, 4, 3, 2, 1, groups=1), nn.Linear(4, 5)

    def forward(self, x):
        x = nn.functional.max_pool2d(nn.functional.relu6(self.conv1((x - 0.4) / 0.3)), 3, 2, 1, ceil_mode=True)
        x = torch.relu(self.norm(torch.cat([self.conv2(x), x], 1)))
        x = torch.relu(self.conv3(x) + nn.functional.pad(x[:, 1:3, ::2, ::2], (0, 0, 0, 0, 1, 1)))
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def every_unit():
    """every_unit(seed) -> (an EveryUnit in float64, 6 images)."""

    def draw(seed=0):
        torch.manual_seed(seed)
        net = EveryUnit().double().eval()
        for values in (net.norm.running_mean, net.norm.bias.data):
            values.normal_(0, 0.3)
        return net, torch.rand(6, 2, 7, 8).double()

    return draw


NETS = {
    "fc": fully_connected,
    "cnn": convolutional,
    "pools": pools_everywhere,
    "input skip": lambda bias: (InputSkip(bias), (2, 4, 5)),
    "identity": lambda bias: (Residual(nn.Identity(), bias), (2, 5, 6)),
    "projection": lambda bias: (Residual(nn.Conv2d(3, 3, 1, bias=bias), bias), (2, 5, 6)),
}


@pytest.fixture(scope="session", params=list(NETS))
def wiring(request):
    """The name of one kind of random network: chains of Linear, Conv2d and pools, and three with branches that meet."""
    return request.param


@pytest.fixture(scope="session")
def draw_net():
    """draw_net(wiring, seed, bias) -> a random float64 ReLU network whose layers all respond, and 20 images for it."""

    def draw(wiring, seed=0, bias=True):
        net, shape = NETS[wiring](bias)
        random = torch.Generator().manual_seed(seed)
        for module in net.double().modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                fan_in = module.weight[0].numel()
                module.weight.data.normal_(1.2 / fan_in, 1 / math.sqrt(fan_in), generator=random)
                if bias:
                    module.bias.data.uniform_(-0.2, 0.3, generator=random)
        return net, torch.rand(20, *shape, dtype=torch.float64, generator=random)

    return draw


@pytest.fixture(scope="session")
def draw_snn(draw_net):
    """draw_snn(wiring, seed, bias, spiking_pools) -> a normalized random network, float32, and 6 images for it."""

    def draw(wiring, seed=0, bias=True, spiking_pools=True):
        net, images = draw_net(wiring, seed, bias)
        return data_norm(net.float(), images.float(), spiking_pools=spiking_pools), images[:6].float()

    return draw
