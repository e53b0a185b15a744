"""Every evaluator of the exact mapping gives the same classes, and a row that cannot run has a reason."""

import pytest
import torch

from respike.bench import exact, rows
from respike.bench.plan import EXACT_ROWS, Plan
from respike.convert import exact_map
from respike.networks.mlp import MLP
from respike.simulate.ttfs import search


@pytest.fixture
def kept(tmp_path):
    """A small mapped network and its images in a file, as `make` writes it."""
    torch.manual_seed(0)
    model = {"_target_": "respike.networks.mlp.MLP", "sizes": [36, 12, 4]}
    net = MLP(model["sizes"])
    images = torch.randint(0, 256, (40, 1, 6, 6), dtype=torch.uint8)
    with torch.no_grad():
        labels = net(images.float() / 255).argmax(1)
    path = tmp_path / "work.pt"
    exact.save(path, model, net, exact_map(net, images), images, labels)
    return str(path)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_every_row_classifies_as_the_relu_network_does(kept, precision, monkeypatch):
    for name, options in EXACT_ROWS.items():
        monkeypatch.setattr(search, "compiled", search.compiled)  # undone after the test
        answer = exact.measure(kept, precision, images=40, repeats=2, budget=5.0, **options)
        assert answer["accuracy"] == 1, name
        assert answer["images"] == 40 and answer["runs"] == 2 and answer["arithmetic"] == precision
        assert (answer["certified"] is None) == (name == "ReLU network")


def test_a_network_that_cannot_be_made_is_a_row_with_its_reason(tmp_path):
    plan = Plan(
        out=tmp_path,
        outputs=tmp_path,
        workloads=(),
        exact=("exact_fc",),
        only=("exact",),
        threads=1,
        overrides=("data.train_size=0",),
    )
    (row,) = rows.run(plan, report=lambda line: None)
    assert row["part"] == "exact" and "data.train_size=0" in row["reason"]
