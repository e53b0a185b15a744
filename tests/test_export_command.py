"""python -m respike.export, and what it wrote, simulated by experiment=nir."""

import json
import shutil
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from respike.convert import RateSNN
from respike.errors import InputError
from respike.export import _check_targets, main
from respike.neurons.encode import Rate
from respike.nir.read import simulated
from respike.runs.compose import compose_run
from respike.simulate import simulate
from respike.train import train
from respike.training.fit import make_network

RUN = Path(__file__).parents[1] / "outputs" / "reference" / "runs" / "diehl_cnn"


def copy_of(run, folder, changed):
    """A copy of a run's folder with other settings, each of which it has, by "block.name"."""
    shutil.copytree(run, folder)
    config = OmegaConf.load(run / "config.yaml")
    for key, value in changed.items():
        assert OmegaConf.select(config, key, throw_on_missing=True) is not None
        OmegaConf.update(config, key, value, merge=False)
    OmegaConf.save(config, folder / "config.yaml")
    return folder


def test_the_network_of_a_run_is_written_as_it_was_simulated(tmp_path, capsys):
    assert main([str(RUN), "--nir", str(tmp_path / "net.nir")]) == 0
    said = capsys.readouterr().out
    assert (
        "images of 1x28x28, 1 Affine, 2 Conv2d, 1 Flatten, 5 IF, 2 SumPool2d" in said
        and "at the threshold (>=)" in said
    )
    metadata = nir.read(tmp_path / "net.nir").metadata
    assert metadata["fires"] == ">=" and metadata["dt"] == 1 and metadata["readout"] == "counts"
    assert "Rate(max_rate=1000" in metadata["simulated"] and "start_at_zero=True" in metadata["simulated"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"neuron.reset": "subtract"}, "NIR does not say a reset by subtraction"),
        ({"data.dataset": {"_target_": "mine.images"}, "model.input_shape": None}, "type --shape C H W"),
        ({"encode._target_": "mine.Encode"}, "call export_nir in Python"),
        ({"encode._target_": "respike.export.Path.touch"}, "call export_nir in Python"),
        ({"neuron._target_": "respike.neurons.lif.LIF"}, "unexpected keyword argument"),
        ({"encode": None}, "its config.yaml has no encode._target_"),
    ],
)
def test_what_cannot_be_written_is_one_line(changed, said, tmp_path, capsys):
    folder = copy_of(RUN, tmp_path / "run", changed)
    assert main([str(folder), "--nir", str(tmp_path / "net.nir")]) == 1
    answer = capsys.readouterr().err
    assert said in answer and answer.count("\n") == 1
    assert not (tmp_path / "net.nir").exists()


def test_nothing_of_a_model_but_respike_is_called():
    with pytest.raises(InputError, match=r"_target_=pathlib.Path.touch is not of respike"):
        _check_targets({"_target_": "respike.networks.mlp.MLP", "sizes": [{"_target_": "pathlib.Path.touch"}]}, RUN)


def test_a_lossy_file_says_what_is_lost(tmp_path, capsys):
    folder = copy_of(RUN, tmp_path / "run", {"neuron.reset": "subtract"})
    assert main([str(folder), "--nir", str(tmp_path / "net.nir"), "--lossy"]) == 0
    assert "lost: a reset by subtraction" in capsys.readouterr().out


def test_a_run_without_a_spiking_network_is_one_line(tmp_path, capsys):
    shutil.copytree(RUN, tmp_path / "run", ignore=shutil.ignore_patterns("snn.pt"))
    assert main([str(tmp_path / "run"), "--nir", str(tmp_path / "net.nir")]) == 1
    said = capsys.readouterr().err
    assert "snn.pt: no such file" in said and "keeps its spiking network there (keep_networks=true)" in said
    shutil.copytree(RUN.parent / "stbp_resnet19_narrow", tmp_path / "direct", ignore=shutil.ignore_patterns("*.pt"))
    assert main([str(tmp_path / "direct"), "--nir", str(tmp_path / "net.nir")]) == 1
    assert f"{tmp_path / 'direct' / 'checkpoints' / 'weights.pt'}: no such file" in capsys.readouterr().err


def test_a_run_of_spike_times_has_no_form(tmp_path, capsys):
    assert main([str(RUN.parent / "exact_fc"), "--nir", str(tmp_path / "net.nir")]) == 1
    assert "NIR has no spike times" in capsys.readouterr().err


def test_a_place_where_no_file_can_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "net.nir"):
        assert main([str(RUN), "--nir", str(place)]) == 1
        said = capsys.readouterr().err
        assert f"--nir {place}: " in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_directly_trained_network_of_a_run_is_written(tmp_path, capsys):
    small = [
        "experiment=stbp_resnet19_narrow",
        "model.width_mult=0.03",
        "model.blocks=[1,1]",
        "model.hidden=8",
        "data=digits",
    ]
    sizes = [
        "data.dataset.train_count=20",
        "data.dataset.test_count=20",
        "data.val_size=5",
        "train=false",
        f"ckpt_path={tmp_path / 'w.pt'}",
    ]
    places = [
        f"paths.run={tmp_path / 'run'}",
        f"paths.stages={tmp_path / 'stages'}",
        "logger=none",
        "callbacks.figures=null",
    ]
    cfg = compose_run([*small, *sizes, *places])
    torch.save(make_network(cfg.model).state_dict(), tmp_path / "w.pt")
    train(cfg)
    assert main([str(tmp_path / "run"), "--nir", str(tmp_path / "net.nir")]) == 0
    said = capsys.readouterr().out
    assert "7 LIF" in said and "above the threshold (>)" in said
    assert simulated(tmp_path / "net.nir")["duration"] == 0.002

    train(compose_run([*small, *sizes, *places, "simulate.steps=5"]))
    assert main([str(tmp_path / "run"), "--nir", str(tmp_path / "longer.nir")]) == 0
    assert simulated(tmp_path / "longer.nir")["duration"] == 0.005


def digits_of(path, tmp_path, *typed):
    """The config of a run that simulates a file on rendered digits."""
    places = [
        f"paths.run={tmp_path / 'run'}",
        f"paths.stages={tmp_path / 'stages'}",
        "logger=none",
        "callbacks.figures=null",
    ]
    sizes = ["data=digits", "data.dataset.train_count=20", "data.dataset.test_count=40"]
    return compose_run(["experiment=nir", f"model.path={path}", *sizes, *places, *typed])


def test_the_file_is_simulated_by_the_command_line_as_the_network_was(tmp_path, caplog):
    """On rendered digits: the same counts of spikes, layer by layer; input coding and 41 steps are what the file says."""
    main([str(RUN), "--nir", str(tmp_path / "net.nir")])
    with caplog.at_level("INFO"):
        cfg = digits_of(tmp_path / "net.nir", tmp_path)
    (line,) = (record.getMessage() for record in caplog.records if "unless typed" in record.getMessage())
    assert "encode=rate encode.max_rate=1000" in line and "simulate.start_at_zero=true" in line
    metrics = train(cfg)
    snn = RateSNN.load(RUN / "checkpoints" / "snn.pt")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["snn/test_acc"] == metrics["snn/test_acc"]
    data = instantiate(cfg.data)
    data.setup()
    images, index = data.images.test_images[data.index["test"]], data.index["test"]
    loop = {"start_at_zero": True, "drop_first_output": True}
    record = simulate(snn, images, index=index, encode=Rate(1000.0), duration=0.04, **loop)
    assert len(record.predicted) == 41
    spikes = sum(float(counts.sum()) for name, counts in record.spikes.items() if name != "input")
    assert metrics["snn/spikes_per_image"] == pytest.approx(spikes / len(images))
    right = record.predicted[-1] == torch.as_tensor(data.labels("test"))
    assert metrics["snn/test_acc"] == pytest.approx(float(right.float().mean()))


def test_what_is_typed_goes_before_what_the_file_says(tmp_path):
    graph = nir.NIRGraph.from_list(nir.IF(np.ones(2), np.ones(2), np.zeros(2)))
    graph.metadata = {"simulated": "encode=Rate(max_rate=400.0), duration=0.1, start_at_zero=True, weight_bits=None"}
    nir.write(tmp_path / "net.nir", graph)
    cfg = digits_of(tmp_path / "net.nir", tmp_path)
    assert cfg.encode.max_rate == 400 and cfg.simulate.duration == 0.1 and cfg.simulate.weight_bits is None
    cfg = digits_of(tmp_path / "net.nir", tmp_path, "simulate.duration=0.02", "encode=threshold")
    assert cfg.simulate.duration == 0.02 and cfg.simulate.start_at_zero and "spike_threshold" in cfg.simulate.encode


def test_what_a_file_does_not_say_is_as_in_the_config(tmp_path):
    """Files of others, and metadata that are no settings: nothing of a file is run."""
    graph = nir.NIRGraph.from_list(nir.IF(np.ones(2), np.ones(2), np.zeros(2)))
    plain = digits_of(tmp_path / "missing.nir", tmp_path)
    said = ["", "_target_='os.system', seed=[1]", "encode=Rate(_target_='os.system')", "dt=1("]
    for text in said:
        graph.metadata = {"simulated": text} if text else {}
        nir.write(tmp_path / "net.nir", graph)
        cfg = digits_of(tmp_path / "net.nir", tmp_path)
        same, other = (OmegaConf.to_container(one.simulate, resolve=False) for one in (plain, cfg))
        assert same == other and "os.system" not in OmegaConf.to_yaml(cfg)
