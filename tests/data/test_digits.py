"""Rendered digits: the same images for a seed, every class as often, two draws that share nothing, and not too easy."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from respike.data import digits as module
from respike.data.digits import digits
from respike.data.glyphs import FAMILIES, distance_fields, font_files
from respike.errors import InputError
from respike.runs.conf import CONF

SETTINGS = {
    name: value
    for name, value in OmegaConf.load(CONF / "data" / "digits.yaml").dataset.items()
    if not name.startswith("_")
}
STILL = {"rotation": 0, "scale": [1, 1], "shear": 0, "stroke": [0, 0], "shift": 0}
SHA256 = "214c434074c249706f4b57a7639ac8d2a8b54631232d430718ad8816e7e29dbc"


def drawn(train_count=100, test_count=100, **changed):
    return digits("", **(SETTINGS | {"train_count": train_count, "test_count": test_count} | changed))


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return digits("", **SETTINGS)


def test_every_parameter_stands_in_the_config():
    assert set(SETTINGS) == set(inspect.signature(digits).parameters) - {"root"}


def test_the_default_digits_are_the_same_pixels_everywhere(full):
    assert full.train_images.shape == full.test_images.shape == (5000, 1, 28, 28)
    assert full.sha256 == SHA256
    assert full.reduced is None


def test_classes_come_in_turn_so_any_cut_is_balanced(full):
    for labels in (full.train_labels, full.test_labels):
        assert (labels.view(-1, 10) == torch.arange(10)).all()


def test_no_image_is_drawn_twice(full):
    images = [image.numpy().tobytes() for image in torch.cat([full.train_images, full.test_images])]
    assert len(set(images)) == len(images)


def test_no_ink_is_cut_off(full):
    """Digits of the default settings stay within the image: hardly any ink on its rim."""
    rim = torch.ones(28, 28, dtype=torch.bool)
    rim[1:-1, 1:-1] = False
    inked = (full.train_images[:, 0][:, rim] > 127).any(1)
    assert inked.double().mean() < 0.02


def test_seeds_and_settings_are_other_images():
    first = drawn()
    assert drawn().sha256 == first.sha256
    for changed in (
        {"seed": 1},
        {"rotation": 5},
        {"scale": [0.9, 1]},
        {"shear": 0},
        {"stroke": [0, 0.1]},
        {"shift": 1},
    ):
        assert drawn(**changed).sha256 != first.sha256


def test_a_longer_draw_begins_with_the_shorter_one():
    assert torch.equal(drawn(200).train_images[:100], drawn(100).train_images)


def test_test_fonts_change_the_test_images_only():
    one, other = drawn(fonts=["sans"]), drawn(fonts=["sans"], test_fonts=["cm"])
    assert torch.equal(one.train_images, other.train_images)
    assert not torch.equal(one.test_images, other.test_images)
    assert torch.equal(other.test_images, drawn(fonts=["cm"]).test_images)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unmoved_digit_is_twenty_pixels_high_in_the_middle(family):
    for image in drawn(fonts=[family], **STILL).train_images[:50, 0]:
        rows, columns = (image > 127).any(1).nonzero().flatten(), (image > 127).any(0).nonzero().flatten()
        assert 19 <= len(rows) <= 21
        assert abs(rows.double().mean() - 13.5) <= 0.75 and abs(columns.double().mean() - 13.5) <= 0.75


def test_a_shift_moves_and_a_stroke_adds_ink_and_a_scale_multiplies_it():
    def ink(**changed):
        return drawn(fonts=["sans"], **(STILL | changed)).train_images.double().sum().item()

    assert ink(stroke=[1, 1]) > 1.2 * ink() > 1.2 * ink(stroke=[-0.5, -0.5]) > 0
    assert ink(scale=[1.2, 1.2]) == pytest.approx(1.44 * ink(), rel=0.02)
    assert ink(rotation=20) == pytest.approx(ink(), rel=0.01)
    assert ink(shear=0.3) == pytest.approx(ink(), rel=0.03)
    assert ink(shift=3) == pytest.approx(ink(), rel=0.01)


def test_rotation_turns_by_the_angle_drawn():
    """The long axis of the ink of a 1, from its second moments, turns by up to 40 degrees to both sides of where it rests."""

    def axes(**changed):
        ones = drawn(1000, fonts=["mono"], **(STILL | changed)).train_images[1::10, 0].double()
        share = ones / ones.sum((1, 2), keepdim=True)
        places = torch.arange(28.0).double()
        y, x = share.sum(2) @ places, share.sum(1) @ places
        dy, dx = places - y[:, None], places - x[:, None]
        xy = (share * dy[:, :, None] * dx[:, None, :]).sum((1, 2))
        yy, xx = (share.sum(2) * dy**2).sum(1), (share.sum(1) * dx**2).sum(1)
        return torch.rad2deg(torch.atan2(2 * xy, yy - xx) / 2)

    turned = axes(rotation=40) - axes()
    assert -41.5 < turned.min() < -36 and 36 < turned.max() < 41.5
    assert turned.mean().abs() < 8


def test_distances_are_above_zero_inside_only():
    fields, heights = distance_fields(font_files(["sans"]))
    assert fields.shape[:2] == (2, 10)
    inside = (fields > 0).any(3).sum(2)
    assert (inside == heights).all()


def test_kept_pixels_are_read_back_and_damaged_ones_drawn_again(monkeypatch, caplog):
    first = drawn()
    (file,) = (module.cache_folder("digits")).iterdir()
    kept = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_draw", lambda *_: pytest.fail("drawn again"))
        assert drawn().sha256 == first.sha256
    for damaged in (b"", kept[:-1], kept[:40] + bytes([kept[40] ^ 1]) + kept[41:]):
        file.write_bytes(damaged)
        assert drawn().sha256 == first.sha256
        assert file.read_bytes() == kept
    assert "damaged" in caplog.text


def test_without_a_writable_cache_they_are_drawn_each_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert drawn().sha256 == drawn().sha256


def test_a_linear_classifier_stays_below_95_percent(full):
    """Logistic regression with a little weight decay, fitted to the end (the best of a few decays)."""
    x, y = full.train_images.flatten(1).float() / 255, full.train_labels
    matrix = torch.zeros(785, 10, requires_grad=True)
    images = F.pad(x, (0, 1), value=1)
    optimizer = torch.optim.LBFGS([matrix], max_iter=60, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = F.cross_entropy(images @ matrix, y) + 1e-4 * matrix.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    tests = F.pad(full.test_images.flatten(1).float() / 255, (0, 1), value=1)
    accuracy = ((tests @ matrix).argmax(1) == full.test_labels).double().mean()
    assert 0.5 < accuracy < 0.95


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"fonts": ["sans", "arial"]}, "data.dataset.fonts="),
        ({"fonts": []}, "sans, mono"),
        ({"test_fonts": ["x"]}, "cm"),
        ({"train_count": 5}, "train_count=5"),
        ({"scale": [1.1, 0.9]}, "data.dataset.scale="),
        ({"scale": [1]}, "data.dataset.scale="),
        ({"scale": [0, 1]}, "data.dataset.scale="),
        ({"stroke": [1, 0]}, "data.dataset.stroke="),
    ],
)
def test_bad_settings_are_one_line(changed, words):
    with pytest.raises(InputError) as caught:
        drawn(**changed)
    assert words in str(caught.value) and "\n" not in str(caught.value)
