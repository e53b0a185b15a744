"""python -m respike.check: the table of a network, with and without calibration images, and its refusals."""

import re
import sys
from types import SimpleNamespace

import pytest
from torch import nn

from respike.check import check, main
from respike.errors import InputError


def rows(lines):
    """operation -> cells of its line."""
    return {cells[0]: cells for line in lines if len(cells := re.split(r"\s{2,}", line)) > 2}


def test_without_images_no_data_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        main(["experiment=diehl_cnn", "data.root=none", "+data.dataset.download=false", "simulate.weight_bits=8"]) == 0
    )
    text = capsys.readouterr().out
    table = rows(text.splitlines())
    assert text.startswith("DiehlCNN, images of 1x28x28, weights as initialized; T = 41 steps\n")
    assert list(table) == ["operation", *"012345678"]
    assert table["1"][1:6] == ["ReLU", "12x24x24", "neurons conv1", "173 k", "173 k"]  # 12 x 24 x 24 x 25
    assert table["4"][4:6] == ["1.23 M", "1.23 M"]
    assert "1.41 M MACs per image and pass" in text
    assert not list(tmp_path.iterdir())


def test_with_images_scales_shares_and_correlations_are_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = check(["experiment=digits_cnn", "convert=data_norm", "data.dataset.train_count=300"], images=60)
    heading = next(line for line in lines if line.startswith("operation"))
    assert heading.split()[-4:] == ["scale", "dead", "saturated", "corr."]
    cells = [cells for cells in rows(lines).values() if "neurons conv" in cells[3]]
    assert len(cells) == 2 and all(cells[-2] == "0.0 %" for cells in cells)  # none above its largest activation
    assert all(0.5 < float(cells[-1]) <= 1 for cells in cells)
    assert (tmp_path / "outputs/check/digits_cnn/correlations.png").is_file()


def runs_in(lines):
    """layer -> its backend, where the table gives one."""
    return {
        cells[3].split()[-1]: cells[7] for cells in rows(lines).values() if len(cells) > 7 and cells[0] != "operation"
    }


@pytest.mark.parametrize(
    ("typed", "backends", "said"),
    [
        ("simulate.backend=torch", {"torch"}, "'conv1' and 4 more run in torch: simulate.backend=torch"),
        ("simulate.weight_bits=null", {"torch"}, "fixed point only"),
        ("simulate.backend=auto", {"events", "torch"}, ""),
        ("trainer=gpu", {"triton", "torch"}, ""),
    ],
)
def test_the_backend_of_every_layer_is_named_and_a_slower_one_has_a_reason(
    tmp_path, monkeypatch, typed, backends, said
):
    monkeypatch.chdir(tmp_path)
    lines = check(["experiment=diehl_cnn", typed])
    found = set(runs_in(lines).values())
    assert found and found <= backends and said in "\n".join(lines)
    assert ("torch" in found) <= any("in torch: " in line for line in lines)


class Gated(nn.Module):
    """Squeeze-excitation."""

    def __init__(self):
        super().__init__()
        self.conv, self.gate, self.out = nn.Conv2d(1, 2, 28), nn.Sigmoid(), nn.Linear(2, 10)

    def forward(self, x):
        x = self.conv(x).flatten(1)
        return self.out(x * self.gate(x))


def unmade():
    raise ValueError("no such\nlayer")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("unmade", r"model\._target_=theirs\.unmade: it raised ValueError \(no such layer\) when it was made"),
        ("number", r"model\._target_=theirs\.number: it returned int; a torch\.nn\.Module is needed"),
        ("spatial", r"returns \(4, 26, 26\) for one image; one number per class is needed"),
    ],
)
def test_a_network_that_is_none_is_refused(monkeypatch, target, said):
    theirs = SimpleNamespace(
        unmade=unmade, number=lambda: 3, spatial=lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    )
    monkeypatch.setitem(sys.modules, "theirs", theirs)
    with pytest.raises(InputError, match=said):
        check(["model=custom", "recipe=custom", f"model._target_=theirs.{target}"])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("experiment=exact_fc", "conversion to rates; type another experiment, as in experiment=diehl_fc"),
        ("experiment=stbp_resnet19_narrow", "type another experiment"),
        ("method=ttfs model=exact_fc recipe=exact_fc_ours", "conversion to rates; type method=rate"),
        ("experiment=diehl_fc encode.maxrate=3", "type encode.max_rate=3"),
        ("experiment=diehl_fc data=cifar10", "(3, 32, 32)"),
        ("experiment=diehl_fc --images -1", "--images -1"),
        ("experiment=diehl_fc ckpt_path=none.pt", "ckpt_path=none.pt: no such file"),
    ],
)
def test_mistakes_are_one_line_and_status_1(tmp_path, monkeypatch, capsys, typed, said):
    monkeypatch.chdir(tmp_path)
    assert main(typed.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("respike: ") and error.count("\n") == 1 and said in error


def test_a_network_that_cannot_be_converted_is_refused_with_advice(monkeypatch):
    monkeypatch.setitem(sys.modules, "theirs", SimpleNamespace(Gated=Gated))
    with pytest.raises(
        InputError, match="layer 'gate', a Sigmoid, cannot be converted; gates such as squeeze-excitation"
    ):
        check(["model=custom", "recipe=custom", "model._target_=theirs.Gated"])
