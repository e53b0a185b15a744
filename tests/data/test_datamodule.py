"""The data module: which images are served, in which order."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from respike.data.datamodule import ImageBatches, ImageDataModule, ShuffledBatches
from respike.data.datasets import ImageSet
from respike.errors import InputError

TRAIN, TEST = 103, 27


def numbered_set(root, reduced=None):
    """Every image carries its own number in its first pixel; test images count from 128."""

    def images(numbers):
        return numbers.to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 2, 3)

    train, test = torch.arange(TRAIN), torch.arange(TEST)
    return ImageSet("numbered", images(train), train % 5, images(test + 128), test % 5, tuple("abcde"), reduced)


def module(batch_size=10, **arguments):
    return ImageDataModule(numbered_set, "here", batch_size, **arguments)


def numbers(x):
    """The numbers of the images in a batch."""
    return (x[:, 0, 0, 0] * 255).round().long().tolist()


def served(loader, epoch=None):
    """The numbers of all images of one epoch, in order."""
    if epoch is not None:
        loader.sampler.set_epoch(epoch)
    return [number for x, _ in loader for number in numbers(x)]


def test_pixels_are_served_in_the_unit_interval_with_their_labels():
    for x, y in module().train_dataloader():
        assert (x.dtype, x.shape[1:], y.dtype) == (torch.float32, (1, 2, 3), torch.int64)
        assert torch.equal(x, torch.tensor(numbers(x)).view(-1, 1, 1, 1).expand_as(x) / 255)
        assert y.tolist() == [number % 5 for number in numbers(x)]


@pytest.mark.parametrize("batch_size", [1, 10, TRAIN, 1000])
def test_every_training_image_appears_once_per_epoch(batch_size):
    loader = module(batch_size).train_dataloader()
    sizes = [len(y) for _, y in loader]
    assert len(loader) == len(sizes) and set(sizes[:-1]) <= {batch_size}
    assert sorted(served(loader)) == list(range(TRAIN))


def test_order_is_a_function_of_seed_and_epoch_only():
    first, again = module().train_dataloader(), module().train_dataloader()
    orders = [served(first, epoch) for epoch in range(4)]
    torch.manual_seed(1)
    assert [served(again, epoch) for epoch in (3, 2, 1, 0)] == orders[::-1]
    assert len({tuple(order) for order in orders}) == 4
    assert served(module(seed=1).train_dataloader(), 0) != orders[0]
    assert served(module(batch_size=7).train_dataloader(), 2) == orders[2]


def test_the_seed_orders_the_same_images_differently():
    everything = numbered_set("here")
    orders = [
        ShuffledBatches(everything.train_images, everything.train_labels, torch.arange(TRAIN), 10, seed, None)
        for seed in (0, 1)
    ]
    assert served(orders[0].loader()) != served(orders[1].loader())


def test_serving_leaves_the_global_generator_alone():
    noisy = module(train_transform=lambda x: x + torch.rand_like(x), val_size=5)
    before = torch.get_rng_state()
    for loader in (noisy.train_dataloader(), noisy.val_dataloader(), noisy.test_dataloader()):
        assert len(list(loader)) > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_a_random_transform_is_a_function_of_seed_epoch_and_batch():
    def batches(epoch, seed=0):
        loader = module(train_transform=lambda x: torch.rand_like(x), seed=seed).train_dataloader()
        loader.sampler.set_epoch(epoch)
        torch.rand(3)  # whatever else is drawn meanwhile
        return torch.cat([x for x, _ in loader])

    assert torch.equal(batches(1), batches(1))
    draws = torch.stack([batches(0), batches(1), batches(0, seed=1)]).view(3, -1)
    assert len(draws.unique(dim=0)) == 3
    assert len(batches(0).unique()) > 0.99 * batches(0).numel(), "each batch draws anew"


def test_the_transform_sees_whole_training_batches_and_nothing_else():
    shapes = []
    data = module(train_transform=lambda x: shapes.append(tuple(x.shape)) or x, val_size=3)
    served(data.val_dataloader()), served(data.test_dataloader()), list(data.batches("train", 10))
    assert shapes == []
    served(data.train_dataloader())
    assert shapes == [(10, 1, 2, 3)] * 10


def test_validation_and_training_are_disjoint_and_complete():
    data = module(val_size=20)
    train, val = served(data.train_dataloader()), served(data.val_dataloader())
    assert len(val) == 20
    assert sorted(train + val) == list(range(TRAIN))
    assert val == served(module(val_size=20, train_size=30, batch_size=3).val_dataloader()), "fixed by the seed"
    assert set(val) != set(served(module(val_size=20, seed=1).val_dataloader()))


def test_reduced_parts():
    data = module(val_size=20, train_size=30, test_size=12)
    train = served(data.train_dataloader())
    assert len(set(train)) == 30
    assert set(train) < set(served(module(val_size=20, train_size=31).train_dataloader()))
    assert set(train).isdisjoint(served(data.val_dataloader()))
    assert served(data.test_dataloader()) == list(range(128, 140)), "test keeps its order"


def test_fewer_images_of_a_test_set_sorted_by_class_are_of_all_classes():
    def in_folders(root):
        numbered = numbered_set(root)
        return replace(numbered, test_labels=numbered.test_labels.sort().values)

    data = ImageDataModule(in_folders, "here", 10, test_size=5)
    assert data.labels("test").tolist() == [0, 1, 2, 3, 4]
    assert data.index["test"].tolist() == [2, 8, 13, 18, 24]
    whole = ImageDataModule(in_folders, "here", 10, test_size=TEST)
    assert whole.index["test"].tolist() == list(range(TEST))


def test_reductions_say_what_is_missing():
    assert module().reductions() == module(val_size=20, train_size=83, test_size=TEST).reductions() == []
    assert module(train_size=30, test_size=12).reductions() == ["30 of 103 training images", "12 of 27 test images"]
    some = ImageDataModule(partial(numbered_set, reduced="half of them"), "here", 10, train_size=30)
    assert some.reductions() == ["half of them", "30 of 103 training images"]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_batches_come_in_order_with_the_number_of_each_image(split):
    data, first = module(val_size=20), 128 if split == "test" else 0
    batches = list(data.batches(split, 8))
    images, labels, index = (torch.cat(part) for part in zip(*batches, strict=True))
    assert [len(part[1]) for part in batches[:-1]] == [8] * (len(batches) - 1)
    assert numbers(images) == (index + first).tolist()
    assert torch.equal(labels, data.labels(split)) and torch.equal(labels, index % 5)
    assert torch.equal(index, torch.cat([part[2] for part in data.batches(split, 5)])), "whatever the batch size"
    assert split != "test" or index.tolist() == list(range(TEST))


def test_the_set_is_made_once_from_the_root_given():
    calls = []
    data = ImageDataModule(lambda root: calls.append(root) or numbered_set(root), "there", 10)
    assert calls == []
    data.prepare_data(), data.setup("fit"), data.setup("test"), data.labels("test")
    assert calls == ["there"]
    assert (data.input_shape, data.num_classes, data.images.name) == ((1, 2, 3), 5, "numbered")


def test_without_validation_there_is_nothing_to_validate():
    data = module()
    assert data.val_dataloader() == [] and list(data.batches("val", 10)) == [] and len(data.labels("val")) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch_size": 0}, "data.batch_size=0"),
        ({"batch_size": 2.5}, "data.batch_size=2.5"),
        ({"eval_batch_size": -1}, "data.eval_batch_size=-1"),
        ({"val_size": -1}, "data.val_size=-1"),
        ({"val_size": TRAIN}, "data.val_size=103.*at most data.val_size=102"),
        ({"train_size": 0}, "data.train_size=0"),
        ({"train_size": 84, "val_size": 20}, "data.train_size=84: 1 to 83"),
        ({"test_size": 28}, "data.test_size=28: 1 to 27"),
    ],
)
def test_sizes_that_cannot_be_are_refused(arguments, words):
    with pytest.raises(InputError, match=words) as caught:
        module(**arguments).setup()
    assert "\n" not in str(caught.value)


def test_an_unknown_split_is_refused():
    with pytest.raises(InputError, match="'valid': one of train, val, test"):
        module().labels("valid")


def test_batches_past_the_last_are_no_batches():
    batches = ImageBatches(torch.zeros(3, 1, 1, 1, dtype=torch.uint8), torch.zeros(3).long(), torch.arange(3), 2)
    assert [len(y) for _, y in batches] == [2, 1]
