"""A run of spike times draws every picture that the page has a caption for, of the image asked for."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from respike.callbacks.convert import Convert
from respike.callbacks.simulate_ttfs import SimulateTTFS
from respike.convert.exact.mapping import exact_map
from respike.errors import InputError
from respike.figures.ttfs_run import TTFSFigures
from respike.report.pictures import CAPTIONS
from respike.simulate.ttfs import simulate_ttfs


@pytest.fixture
def trainer(tmp_path):
    """What the callback reads of a trainer whose run of spike times, with some noise, has been simulated."""
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3))
    pixels, labels = torch.randint(256, (30, 1, 4, 4)).byte(), torch.arange(30) % 3
    index = torch.arange(5, 25)
    convert = Convert(exact_map)
    convert.snn = exact_map(net.double(), pixels)
    simulate = partial(simulate_ttfs, alpha_noise=0.01)
    done = SimulateTTFS(simulate)
    done.record = simulate(convert.snn, pixels[index], index=index)
    images = SimpleNamespace(test_images=pixels, classes=["a", "b", "c"])
    data = SimpleNamespace(index={"test": index}, images=images, labels=lambda split: labels[index])
    return SimpleNamespace(
        datamodule=data, callbacks=[convert, done], default_root_dir=tmp_path, loggers=[],
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )  # fmt: skip


def test_every_picture_is_there_and_has_a_caption(trainer, tmp_path):
    (tmp_path / "training.csv").write_text("epoch,train_acc,train_loss\n1,0.5,1.0\n")
    figures = TTFSFigures(image=3)
    figures.on_test_start(trainer, None)
    figures.on_test_end(trainer, None)
    names = ["raster", "spike_times", "potentials", "output_potentials", "confusion", "samples", "training"]
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {f"{name}.png" for name in names}
    assert all(f"{name}.png" in CAPTIONS for name in names)


def test_the_image_shown_is_traced_first_and_keeps_its_number(trainer):
    numbers = TTFSFigures(image=3)._traced_images(trainer).tolist()
    assert numbers == [8, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16]


def test_what_is_not_there_is_refused(trainer):
    with pytest.raises(InputError, match="0 to 19"):
        TTFSFigures(image=20).on_test_start(trainer, None)
    with pytest.raises(InputError, match="1 or more"):
        TTFSFigures(neurons=0)
