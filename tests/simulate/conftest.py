"""Random spiking networks and what two records have in common."""

import pytest
import torch

from respike.errors import InputError
from respike.simulate.rate.program import compile_program
from respike.simulate.rate.settings import Settings


@pytest.fixture(scope="session")
def is_accepted():
    """is_accepted(snn, images, settings): whether the grid of the settings holds the network; few bits do not hold all."""

    def check(snn, images, settings):
        try:
            return compile_program(snn, images.shape[1:], Settings(**settings)) is not None
        except InputError:
            return False

    return check


@pytest.fixture(scope="session")
def assert_same_record():
    """assert_same_record(a, b): every number of the two records is equal; traces are not looked at."""

    def check(a, b):
        for name in ("index", "predicted", "counts", "times_ms"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        for name in ("spikes", "synops"):
            ours, others = getattr(a, name), getattr(b, name)
            assert ours.keys() == others.keys()
            assert all(torch.equal(ours[layer], others[layer]) for layer in ours), name
        names = ("neurons", "dt", "ann_macs", "analog_macs", "read_from")
        assert all(getattr(a, name) == getattr(b, name) for name in names)

    return check
