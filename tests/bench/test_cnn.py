"""The networks of the size that people have: what is timed is the network, and SpikingJelly converts it as we do."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from respike.bench import cnn, rows
from respike.bench.isolated import resolve
from respike.bench.plan import CNN_CONTENDERS, CNNS, Plan, named
from respike.bench.workload import Workload
from respike.convert import no_norm
from respike.errors import InputError
from respike.networks.init import measure_batch_norms
from respike.networks.resnet_cifar import ResNetCifar
from respike.networks.standardize import standardized
from respike.simulate import simulate

MISSING = "spikingjelly is in requirements-bench.txt only"


def random_resnet8():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 32, 32), dtype=torch.uint8)
    net = ResNetCifar(depth=8)
    measure_batch_norms(net, [cnn.standardize(images)])
    return net, images


@pytest.fixture
def small(monkeypatch):
    """The workload of a ResNet-8 with random weights in place of the ResNet-20: 10 images, 4 steps."""
    monkeypatch.setitem(cnn.BUILD, "resnet20", lambda: ResNetCifar(depth=8))
    net, images = random_resnet8()
    return cnn.of_network("resnet20", net, images, images[:10], torch.arange(10), 4)


def test_a_row_is_of_the_images_and_the_network_that_were_given(small, tmp_path, monkeypatch):
    monkeypatch.setattr(cnn, "make", lambda *given: small)
    monkeypatch.setattr(rows, "isolated", lambda plan, log, function, given, limit=None: resolve(function)(**given))
    plan = Plan(out=tmp_path, only=("resnet20", "float32"), repeats=1, cost_steps=(10, 32), threads=1)
    bare, ours, *cost = rows.cnn_rows(plan, report=lambda line: None)
    assert bare["part"] == "forwards" and bare["fp32"] > 0 and bare["bf16"] > 0
    record = simulate(small.snn, small.images, weight_bits=None, **small.keywords)
    with torch.no_grad():
        logits = cnn.relu_network(Workload.load(tmp_path / "work" / "resnet20.pt"))(cnn.standardize(small.images))
    assert (ours["part"], ours["name"], ours["images"], ours["runs"]) == ("cnn", "ours, float32", 10, 1)
    assert ours["accuracy"] == float((record.predicted[-1] == torch.arange(10)).double().mean())
    centred = [(values.double() - values.double().mean(0)).flatten().numpy() for values in (record.counts, logits)]
    assert ours["correlation"] == pytest.approx(np.corrcoef(*centred)[0, 1], rel=1e-6)
    assert ours["share_bf16"] == bare["bf16"] / ours["seconds_per_10000"]
    assert [(row["part"], row["steps"], row["images"]) for row in cost] == [("cost against steps", 32, 10)]


@pytest.mark.parametrize("name", CNNS)
def test_few_images_are_at_least_one(name, monkeypatch, tmp_path):
    asked = []

    def refuse(*given):
        asked.append(given[2])
        raise InputError("no files")

    monkeypatch.setattr(cnn, "make", refuse)
    list(rows.cnn_rows(Plan(out=tmp_path, only=(name,), reduced="--quick"), report=lambda line: None))
    assert asked[0] >= 1


def test_the_bare_products_are_those_of_the_published_count():
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    snn = no_norm(standardized(ResNetCifar(), *cnn.PIXELS).eval(), images.float() / 255, readout="current")
    assert cnn.macs(snn, images.shape[1:]) == 40_551_040


def test_random_weights_have_no_accuracy_and_missing_files_are_a_reason(small, tmp_path):
    assert not len(cnn.of_network("resnet20", *random_resnet8(), small.images, None, 4).labels)
    (row,) = rows.cnn_rows(Plan(out=tmp_path, data=tmp_path / "none", only=("vgg16",)), report=lambda line: None)
    assert row["workload"] == "vgg16" and str(tmp_path / "none") in row["reason"]


def test_spikingjelly_gets_the_same_network(small):
    pytest.importorskip("spikingjelly", reason=MISSING)
    from respike.bench.peers.spikingjelly import acceptable, converted

    net, x = cnn.relu_network(small), cnn.standardize(small.images)
    with torch.no_grad():
        torch.testing.assert_close(acceptable(net)(x), net(x))
        single, multi = (converted(small, step_mode)(small.pixels()) for step_mode in "sm")
    torch.testing.assert_close(single, multi, rtol=1e-4, atol=1e-3)


def test_a_gpu_that_is_missing_is_a_reason(small):
    pytest.importorskip("spikingjelly", reason=MISSING)
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    for row in named(CNN_CONTENDERS, ["gpu"]):
        with pytest.raises(InputError, match="CUDA"):
            rate = resolve(row.make)
            rate(small, **row.options) if row.converts else rate(small.snn, small.keywords, **row.options)


def photographs(tar, count):
    """`count` training and `count` test images, evenly spread over the classes, and the test images' labels."""
    found = []
    with tarfile.open(tar) as archive:
        files = sorted(name for name in archive.getnames() if "." in name)
        for part in ("train", "test"):
            names = [name for name in files if f"{part}/" in name]
            classes = sorted({name.split("/")[-2] for name in names})
            chosen = names[:: len(names) // count][:count]
            pixels = [
                np.array(Image.open(io.BytesIO(archive.extractfile(name).read())).convert("RGB")) for name in chosen
            ]
            labels = torch.tensor([classes.index(name.split("/")[-2]) for name in chosen])
            found.append((torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), labels))
    (train, _), (test, labels) = found
    return train, test, labels


def test_spikingjellys_resnet20_and_ours_agree_at_the_same_scales(published, monkeypatch):
    """100 test images, 16 steps. Where no sum is rounded to the other side of a threshold outputs are the same."""
    pytest.importorskip("spikingjelly", reason=MISSING)
    from respike.bench.peers.spikingjelly import Converted

    monkeypatch.setattr(cnn, "PART", 100)  # one batch: SpikingJelly averages the quantiles of several
    net = ResNetCifar(path=published("pretrained", "resnet20-12fca82f.th"))
    train, test, labels = photographs(published("CIFAR10", "cifar10.tar"), 100)
    workload = cnn.of_network("resnet20", net, train, test, labels, 16)
    peer = Converted(workload, "s", torch.float32)
    own = [scale for name, scale in workload.snn.scales.items() if name != workload.snn.output]
    assert len(own) == len(peer.scales) == 19
    for ours, theirs in zip(own, peer.scales, strict=True):
        active = theirs > 1e-5  # it gives silent channels 1e-6, we that of the strongest channel
        difference = (ours[active] / theirs[active] - 1).abs()
        assert difference.mean() < 0.03 and difference.max() < 0.15  # it interpolates between activations
    same = no_norm(standardized(net, *cnn.PIXELS), train[:2] / 255, readout="current", spiking_pools=False)
    same.rescale(dict(zip(same.layers, [*(scale.double() for scale in peer.scales), torch.ones(())], strict=True)))
    with torch.no_grad():
        theirs = peer(workload.pixels()).double()
    record = simulate(same.float(), workload.pixels(), weight_bits=None, **workload.keywords)
    same_output = ((record.counts - theirs).abs().amax(1) < 1e-3).double().mean()
    right = [(predicted == labels).double().mean() for predicted in (record.predicted[-1], theirs.argmax(1))]
    assert same_output > 0.6
    assert torch.corrcoef(torch.stack([record.counts.flatten(), theirs.flatten()]))[0, 1] > 0.999
    assert abs(right[0] - right[1]) <= 0.02 and min(right) > 0.6
