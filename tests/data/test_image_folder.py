"""A folder of image files: the pixels that lie in it, decoded once, or whenever they are used."""

import os
import shutil
import tarfile
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from respike.data.datamodule import ImageDataModule
from respike.data.image_folder import image_folder, imagenet_folder
from respike.errors import InputError


def write_images(root, height=8, width=8, mode="RGB", counts=(("train", 3), ("test", 2))):
    """root/<part>/<class>/<i>.png of random pixels, classes "cat" and "dog"; returns {part: uint8 (N, H, W[, 3])}."""
    random, written = np.random.default_rng(0), {}
    for part, count in counts:
        written[part] = []
        for label in ("cat", "dog"):
            (root / part / label).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (height, width, 3)[: 3 if mode == "RGB" else 2], dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / label / f"{i}.png")
                written[part].append(pixels)
    return {part: np.stack(images) for part, images in written.items()}


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_png_pixels_come_back_as_they_were(tmp_path, mode, channels):
    written = write_images(tmp_path / "set", mode=mode)
    images = image_folder(tmp_path / "set", size=8, channels=channels, cache_dir=tmp_path / "decoded")
    for part, read in (("train", images.train_images), ("test", images.test_images)):
        assert read.dtype == torch.uint8
        assert (read.numpy() == written[part].reshape(-1, 8, 8, channels).transpose(0, 3, 1, 2)).all()
    assert images.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.test_labels.tolist() == [0, 0, 1, 1]
    assert (images.name, images.classes, images.reduced) == ("set", ("cat", "dog"), None)


def test_the_centre_is_cut_out_of_the_longer_side(tmp_path):
    written = write_images(tmp_path, height=8, width=12)
    images = image_folder(tmp_path, size=8, channels=3, name="wide")
    assert (images.train_images.numpy() == written["train"][:, :, 2:10].transpose(0, 3, 1, 2)).all()
    assert images.name == "wide"


def test_the_shorter_side_is_resized(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part / "grey").mkdir(parents=True)
        Image.new("RGB", (40, 20), (7, 8, 9)).save(tmp_path / part / "grey" / "one.png")
    images = image_folder(tmp_path, size=10, channels=3)
    assert images.train_images.shape == (1, 3, 10, 10)
    assert (images.train_images == torch.tensor([7, 8, 9]).view(1, 3, 1, 1)).all()


def spoil_unseen(file):
    """Other bytes, same size and time of change: only who decodes the file again will notice."""
    state = file.stat()
    file.write_bytes(b"\0" * state.st_size)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_the_second_load_decodes_nothing(tmp_path):
    write_images(tmp_path / "set")
    first = image_folder(tmp_path / "set", size=8, channels=3).sha256
    for file in (tmp_path / "set").rglob("*.png"):
        spoil_unseen(file)
    assert image_folder(tmp_path / "set", size=8, channels=3).sha256 == first


def test_a_changed_file_is_decoded_again(tmp_path):
    """Even one whose size stays, as that of a bitmap does."""
    write_images(tmp_path / "set")
    file = tmp_path / "set" / "train" / "dog" / "2.bmp"
    Image.new("RGB", (8, 8), "white").save(file)
    assert (image_folder(tmp_path / "set", size=8, channels=3).train_images[5] == 255).all()
    state = file.stat()
    Image.new("RGB", (8, 8), "black").save(file)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))
    assert file.stat().st_size == state.st_size
    assert (image_folder(tmp_path / "set", size=8, channels=3).train_images[5] == 0).all()


def test_a_cut_cache_file_is_made_anew_and_nothing_else_is_left(tmp_path):
    write_images(tmp_path / "set")
    first = image_folder(tmp_path / "set", size=8, channels=3, cache_dir=tmp_path / "decoded").sha256
    (kept,) = (tmp_path / "decoded").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    assert image_folder(tmp_path / "set", size=8, channels=3, cache_dir=tmp_path / "decoded").sha256 == first
    assert list((tmp_path / "decoded").iterdir()) == [kept]


def test_writing_to_the_images_does_not_reach_the_cache(tmp_path):
    write_images(tmp_path / "set")
    images = image_folder(tmp_path / "set", size=8, channels=3)
    first = images.sha256
    images.train_images.zero_()
    assert image_folder(tmp_path / "set", size=8, channels=3).sha256 == first


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_an_unreadable_image_is_named_and_nothing_is_kept(tmp_path, content):
    write_images(tmp_path / "set")
    file = tmp_path / "set" / "train" / "cat" / "1.png"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        image_folder(tmp_path / "set", size=8, channels=3, cache_dir=tmp_path / "decoded")
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    assert not list((tmp_path / "decoded").iterdir())


def test_trees_of_another_form_are_refused(tmp_path):
    def refused(words, **arguments):
        with pytest.raises(InputError, match=words) as caught:
            image_folder(**{"root": tmp_path / "set", "size": 8, "channels": 3, **arguments})
        assert "\n" not in str(caught.value)

    refused("no folder .*train")
    (tmp_path / "set" / "train").mkdir(parents=True)
    refused("train: no class folder")
    write_images(tmp_path / "set")
    refused("channels=2", channels=2)
    refused("size=0", size=0)
    (tmp_path / "set" / "test" / "emu").mkdir()
    refused("test: no image files for the classes emu")
    Image.new("RGB", (8, 8)).save(tmp_path / "set" / "test" / "emu" / "0.png")
    refused("same classes.* emu")
    (tmp_path / "set" / "train" / "emu").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "set" / "train" / "emu" / "0.png")
    (tmp_path / "a file").write_text("")
    refused("data.dataset.cache_dir=", cache_dir=tmp_path / "a file")


def test_a_tar_file_is_read_as_the_folder_that_was_packed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_images(tmp_path / "set")
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / "digits.tar", "w") as archive:
        for part in ("train", "test"):
            archive.add(tmp_path / "set" / part, part)
    plain = image_folder(tmp_path / "set", size=8, channels=3)
    for root in (tmp_path / "packed", tmp_path / "packed" / "digits.tar"):
        packed = image_folder(root, size=8, channels=3)
        assert packed.sha256 == plain.sha256 and packed.classes == plain.classes
    assert packed.name == "digits"
    (tmp_path / "torn.tar").write_bytes((tmp_path / "packed" / "digits.tar").read_bytes()[:700])
    with pytest.raises(InputError, match="cannot be unpacked"):
        image_folder(tmp_path / "torn.tar", size=8, channels=3)
    assert not list((tmp_path / "cache" / "respike" / "unpacked").glob("*.partial"))


def test_some_of_the_files_are_spread_over_all_and_make_a_reduced_set(tmp_path):
    write_images(tmp_path / "set", counts=(("train", 4), ("test", 2)))
    whole = image_folder(tmp_path / "set", size=8, channels=3, cache_dir=tmp_path)
    some = image_folder(tmp_path / "set", size=8, channels=3, cache_dir=tmp_path, train_files=4, test_files=9)
    assert torch.equal(some.train_images, whole.train_images[::2]) and some.train_labels.tolist() == [0, 0, 1, 1]
    assert torch.equal(some.test_images, whole.test_images) and some.reduced == "4 of 8 training images"
    with pytest.raises(InputError, match="train_files"):
        image_folder(tmp_path / "set", size=8, channels=3, train_files=0)


def one_image(root, name, write):
    """The only training image of an image folder, (1, 8, 8) grey; `write(file)` writes it."""
    for part in ("train", "test"):
        (root / part / "thing").mkdir(parents=True)
        Image.new("L", (8, 8)).save(root / part / "thing" / "0.png")
    (root / "train" / "thing" / "0.png").unlink()
    write(root / "train" / "thing" / name)
    return image_folder(root, size=8, channels=1, cache_dir=root / "decoded").train_images[0, 0].numpy()


GREY = np.linspace(0, 1, 64).reshape(8, 8)
DEEP = {
    "png": lambda file: Image.fromarray(np.rint(65535 * GREY).astype(np.uint16)).save(file),
    "tif": lambda file: Image.fromarray(np.rint(65535 * GREY).astype(np.uint16)).save(file),
    "big.tif": lambda file: Image.fromarray(np.rint(65535 * GREY).astype(">u2")).save(file),
    "pgm": lambda file: Image.fromarray(np.rint(65535 * GREY).astype(np.uint16)).save(file),
    "float.tif": lambda file: Image.fromarray(GREY.astype(np.float32)).save(file),
}


@pytest.mark.parametrize("name", DEEP)
def test_sixteen_bits_and_unit_floats_are_scaled_to_eight_bits(tmp_path, name):
    assert (one_image(tmp_path, f"0.{name}", DEEP[name]) == np.rint(255 * GREY)).all()


def test_palettes_bits_and_opaque_alpha_are_the_pixels_they_mean(tmp_path):
    grey = Image.fromarray(np.rint(255 * GREY).astype(np.uint8))
    written = {"palette": grey.convert("RGB").quantize(256), "alpha": grey.convert("LA"), "bit": grey.convert("1")}
    for name, image in written.items():
        read = one_image(tmp_path / name, "0.png", image.save)
        assert (read == np.asarray(image.convert("L"))).all() and read.max() == 255


CLEAR = Image.new("RGBA", (8, 8), (200, 0, 0, 254))
MEANT = {
    "alpha": ("transparent", CLEAR.save, "0.png"),
    "grey alpha": ("transparent", CLEAR.convert("LA").save, "0.png"),
    "palette": ("transparent", lambda file: CLEAR.convert("RGB").quantize(4).save(file, transparency=0), "0.png"),
    "colour": ("transparent", lambda file: CLEAR.convert("RGB").save(file, transparency=(200, 0, 0)), "0.png"),
    "floats": (r"not in \[0, 1\]", Image.fromarray(np.full((8, 8), 1.5, np.float32)).save, "0.tif"),
    "nan": (r"not in \[0, 1\]", Image.fromarray(np.full((8, 8), np.nan, np.float32)).save, "0.tif"),
    "integers": ("32-bit integers", Image.fromarray(np.full((8, 8), 70000, np.int32)).save, "0.tif"),
}


@pytest.mark.parametrize("name", MEANT)
def test_transparency_and_unknown_ranges_are_refused_by_name(tmp_path, name):
    words, write, file = MEANT[name]
    with pytest.raises(InputError, match=rf"{file} .*{words}") as caught:
        one_image(tmp_path, file, write)
    assert "\n" not in str(caught.value)


def test_links_to_files_and_class_folders_are_followed(tmp_path):
    write_images(tmp_path / "set")
    for part in ("train", "test"):
        (tmp_path / "links" / part / "dog").mkdir(parents=True)
        (tmp_path / "links" / part / "cat").symlink_to(tmp_path / "set" / part / "cat")
        for file in (tmp_path / "set" / part / "dog").iterdir():
            (tmp_path / "links" / part / "dog" / file.name).symlink_to(file)
    linked, plain = (image_folder(tmp_path / name, size=8, channels=3) for name in ("links", "set"))
    assert linked.sha256 == plain.sha256


LINKS = {
    "loop": ("train/cat/more", "..", "train/cat/more links to a folder"),
    "test images below a class": ("train/cat/more", "../../test/cat", "train/cat/more links to a folder"),
    "a test image": ("train/cat/9.png", "../../test/cat/0.png", "train/cat/9.png are the same file"),
    "the test images of a class": ("train/emu", "../test/cat", "same classes.* emu"),
    "all test images": ("test", "train", "the same file"),
    "nothing": ("train/cat/9.png", "nowhere.png", "train/cat/9.png cannot be read"),
}


@pytest.mark.parametrize("name", LINKS)
def test_links_bring_no_test_images_into_the_training(tmp_path, name):
    write_images(tmp_path)
    link, target, words = LINKS[name]
    if link == "test":
        (tmp_path / "test").rename(tmp_path / "away")
    (tmp_path / link).symlink_to(target)
    with pytest.raises(InputError, match=words) as caught:
        image_folder(tmp_path, size=8, channels=3)
    assert "\n" not in str(caught.value)


def imagenet_like(root, mode="RGB", sides=(40, 50)):
    """root/train and root/val with two classes of three images each, of random pixels."""
    random = np.random.default_rng(0)
    for part, label, i in product(("train", "val"), ("n01", "n02"), range(3)):
        (root / part / label).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (*sides, 3)[: 3 if mode == "RGB" else 2], dtype=np.uint8)
        Image.fromarray(pixels).save(root / part / label / f"{i}.png")
    return root


def test_images_of_imagenets_form_are_what_torchvision_reads(tmp_path):
    root = imagenet_like(tmp_path / "small")
    Image.new("L", (50, 40), 99).save(root / "val" / "n01" / "0.png")  # a grey one among them
    images = imagenet_folder(root, size=28, resize=32)
    transform = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(28), transforms.PILToTensor()])
    for part, ours, labels in (
        ("train", images.train_images, images.train_labels),
        ("val", images.test_images, images.test_labels),
    ):
        theirs = ImageFolder(root / part, transform)
        assert torch.equal(ours[:], torch.stack([image for image, _ in theirs]))
        assert labels.tolist() == [label for _, label in theirs]
    assert images.classes == tuple(theirs.classes) and images.reduced is None
    assert torch.equal(images.test_images[torch.tensor([4, 1])], images.test_images[:][[4, 1]])
    assert torch.equal(images.test_images[2], images.test_images[:][2])


def test_they_are_decoded_when_they_are_used(tmp_path):
    root = imagenet_like(tmp_path / "small")
    images = imagenet_folder(root, size=28, resize=32, test_files=2)
    assert images.reduced == "2 of 6 test images" and images.test_labels.tolist() == [0, 1]
    before = images.sha256
    (root / "val" / "n02" / "0.png").write_bytes(b"no image")
    images.test_images[0]
    with pytest.raises(InputError, match=r"n02/0\.png is no image"):
        images.test_images[[1]]
    assert imagenet_folder(root, size=28, resize=32, test_files=2).sha256 != before


def test_a_data_module_serves_them_in_batches(tmp_path):
    root = imagenet_like(tmp_path / "small")
    data = ImageDataModule(partial(imagenet_folder, size=28, resize=32), root, 4, eval_batch_size=4)
    for split, images in (("train", data.images.train_images), ("test", data.images.test_images)):
        served = [(x, index) for x, _, index in data.batches(split, 4)]
        x, index = (torch.cat(parts) for parts in zip(*served, strict=True))
        assert torch.equal(x, images[index] / 255)
    assert sum(len(x) for x, _ in data.train_dataloader()) == 6 and data.input_shape == (3, 28, 28)


def remove(root, place):
    shutil.rmtree(root / place)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: remove(root, "val"), "no folder .*val: .*root/val/<class>"),
        (lambda root: remove(root, "train"), "no folder .*train"),
        (lambda root: remove(root, "val/n01"), "must hold the same classes, only one of them has n01"),
        (
            lambda root: [file.unlink() for file in (root / "val" / "n02").iterdir()],
            "no image files for the classes n02",
        ),
        (lambda root: imagenet_like(root, "L"), "its images are grey"),
    ],
)
def test_folders_of_another_form_are_a_line(tmp_path, spoil, words):
    root = imagenet_like(tmp_path / "small")
    spoil(root)
    with pytest.raises(InputError, match=words) as caught:
        imagenet_folder(root, size=28, resize=32)
    assert "\n" not in str(caught.value)


def test_a_crop_larger_than_the_image_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"data\.dataset\.size=256 data\.dataset\.resize=224"):
        imagenet_folder(imagenet_like(tmp_path), size=256, resize=224)
