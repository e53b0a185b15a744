"""torchvision's constructors by name, and ResNet-20 for CIFAR with the weights that its authors publish."""

import pytest
import torch
import torch.nn.functional as F
from torchvision import models

from respike.errors import InputError
from respike.networks.resnet_cifar import ResNetCifar
from respike.networks.torchvision_models import torchvision_model

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def test_a_file_gives_the_network_that_wrote_it(tmp_path):
    torch.manual_seed(0)
    net = models.squeezenet1_1(weights=None, num_classes=7).eval()
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "net.pth")
    read = torchvision_model("squeezenet1_1", num_classes=7, path=tmp_path / "net.pth").eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(read(images), net(images))


def test_names_of_torchvisions_own_densenet_files_are_understood(tmp_path):
    """Those files say norm.1 where the network says norm1."""
    net = torchvision_model("densenet121", num_classes=3)
    old = {
        name.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2.") if "denselayer" in name else name: value
        for name, value in net.state_dict().items()
    }
    assert old.keys() != net.state_dict().keys()
    torch.save(old, tmp_path / "old.pth")
    read = torchvision_model("densenet121", num_classes=3, path=tmp_path / "old.pth")
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), read.parameters(), strict=True))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "resnet81"}, r"model\.name=resnet81: .*type model\.name=resnet18"),
        ({"name": "resnet18", "widht": 3}, r"model\.widht=3: refused by torchvision"),
        ({"name": "resnet18", "path": "/absent.pth"}, r"model\.path=/absent\.pth: no such file"),
    ],
)
def test_wrong_names_arguments_and_files_are_a_line(given, words):
    with pytest.raises(InputError, match=words) as caught:
        torchvision_model(**given)
    assert "\n" not in str(caught.value)


def test_depths_that_are_no_stages_of_equal_length_are_refused():
    assert sum(p.numel() for p in ResNetCifar(20).parameters()) == 269_722
    for depth in (2, 18, 21):
        with pytest.raises(InputError, match=rf"model\.depth={depth}"):
            ResNetCifar(depth)


def published_forward(net, x):
    """The published code, line by line: a pad of the channels, and a pool by the size that the map happens to have."""
    x = F.relu(net.bn1(net.conv1(x)))
    for stage in (net.layer1, net.layer2, net.layer3):
        for block in stage:
            out = F.relu(block.bn1(block.conv1(x)))
            out = block.bn2(block.conv2(out))
            if out.shape != x.shape:
                planes = out.shape[1]
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, planes // 4, planes // 4), "constant", 0)
            x = F.relu(out + x)
    return net.linear(F.avg_pool2d(x, x.size()[3]).view(x.size(0), -1))


def test_resnet20_with_the_published_weights_computes_the_published_forward(published):
    path = published("pretrained", "resnet20-12fca82f.th")
    net = ResNetCifar(path=path).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(net(images), published_forward(net, images))
    with pytest.raises(InputError, match=r"it lacks layer1\.3\.conv1\.weight"):
        ResNetCifar(depth=32, path=path)
