"""VGG16 from a file, against torchvision's network, with few maps and small images to be fast."""

import pytest
import torch
from torch import nn
from torchvision.models.vgg import VGG, make_layers

from respike.convert import exact_map
from respike.errors import InputError
from respike.networks.torchvision_vgg16 import PIXELS, load_vgg16
from respike.simulate.ttfs import simulate_ttfs

NARROW = [3, 4, "M", 4, 5, "M", 6, 6, 6, "M", 5, 6, 6, "M", 6, 5, 7, "M"]


@pytest.fixture
def narrow(tmp_path):
    """torchvision's VGG with few maps for 64-pixel images, and the file of its weights."""
    torch.manual_seed(0)
    net = VGG(make_layers(NARROW), num_classes=5, init_weights=False)
    net.avgpool = nn.Identity()
    net.classifier[0], net.classifier[3], net.classifier[6] = nn.Linear(7 * 4, 12), nn.Linear(12, 9), nn.Linear(9, 5)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            nn.init.uniform_(module.bias, -0.1, 0.2)
    torch.save(net.state_dict(), tmp_path / "vgg16.pth")
    return net.eval(), tmp_path / "vgg16.pth"


@pytest.mark.parametrize("preprocessing", list(PIXELS))
def test_it_computes_what_torchvision_computes_of_preprocessed_images(narrow, preprocessing):
    """Caffe's images are 0..255 without the mean and in the order BGR."""
    net, path = narrow
    images = torch.rand(3, 3, 64, 64)
    prepared = {
        "none": lambda x: x,
        "torchvision": lambda x: (
            (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        ),
        "caffe": lambda x: 255 * x.flip(1) - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1),
    }[preprocessing](images)
    with torch.no_grad():
        torch.testing.assert_close(
            load_vgg16(path, preprocessing, side=64)(images), net(prepared), rtol=1e-4, atol=1e-4
        )


def test_it_is_mapped_without_loss(narrow):
    net, images = load_vgg16(narrow[1], side=64), torch.rand(6, 3, 64, 64)
    record = simulate_ttfs(exact_map(net, images), images)
    with torch.no_grad():
        relu = net.double()(images.double())
    assert float((record.logits - relu).abs().max()) < 1e-9 * float(relu.abs().max())


def test_the_state_dict_of_the_loaded_network_is_read_again(narrow, tmp_path):
    net = load_vgg16(narrow[1], side=64)
    torch.save({"state_dict": net.state_dict()}, tmp_path / "again.pt")
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_vgg16(tmp_path / "again.pt", side=64)(images), net(images))


def test_another_file_size_or_preprocessing_is_a_line(narrow, tmp_path):
    path = narrow[1]
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "linear.pt")
    (tmp_path / "text.pt").write_text("no weights")
    for given, words in (
        ((None,), "model.path=null"),
        ((tmp_path / "linear.pt",), "13 convolutions and 3 linear layers"),
        ((tmp_path / "text.pt",), "not a readable state dict"),
        ((path, "torchvision", 224), "224x224"),
        ((path, "keras"), "model.preprocessing=keras"),
    ):
        with pytest.raises(InputError, match=words):
            load_vgg16(*given)
