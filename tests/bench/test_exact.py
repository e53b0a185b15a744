"""Every evaluator of the exact mapping gives the same classes, and a row that cannot run has a reason."""

import shutil

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


@pytest.mark.parametrize(
    ("images", "of_data", "said"), [(40, "", ""), (30, "", "30 of 40 images"), (40, "5,000 images", "5,000 images")]
)
def test_fewer_images_are_a_reduction(kept, tmp_path, monkeypatch, images, of_data, said):
    def made(plan, log, function, given, limit=None):
        shutil.copyfile(kept, tmp_path / "work" / "exact_fc.pt")
        return {"images": 40, "reduced": of_data} if function.endswith("make") else exact.measure(**given)

    monkeypatch.setattr(rows, "isolated", made)
    monkeypatch.setattr(search, "compiled", search.compiled)  # undone after the test
    plan = Plan(out=tmp_path, exact=("exact_fc",), only=("exact",), images=images, repeats=1)
    assert {row["reduced"] for row in rows.exact_rows(plan, report=lambda line: None)} == {said}


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
