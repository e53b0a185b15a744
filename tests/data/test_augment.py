import math

import torch

from respike.data.augment import autoaugment_and_cutout, crop_and_flip, cutout, random_crop, shift_rotate_flip


def test_every_image_is_its_own_shift_of_itself():
    torch.manual_seed(0)
    images = torch.rand(300, 2, 6, 5)
    cropped = random_crop(images, padding=1)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    shifts = {(i, j): padded[:, :, i : i + 6, j : j + 5] for i in range(3) for j in range(3)}
    hits = {shift: (cropped == moved).flatten(1).all(1) for shift, moved in shifts.items()}
    assert torch.stack(list(hits.values())).sum(0).eq(1).all()
    assert all(hit.sum() > 10 for hit in hits.values())  # 300 images, 9 shifts: 33 of each expected


def test_no_padding_changes_nothing():
    images = torch.rand(4, 1, 7, 7)
    assert torch.equal(random_crop(images, padding=0), images)


def test_without_any_freedom_nothing_changes_and_a_flip_mirrors():
    torch.manual_seed(0)
    images = torch.rand(40, 3, 6, 6)
    torch.testing.assert_close(shift_rotate_flip(images, 0, 0, False), images)
    flipped = shift_rotate_flip(images, 0, 0, True)
    kept, mirrored = ((flipped - other).abs().amax((1, 2, 3)) < 1e-5 for other in (images, images.flip(3)))
    assert (kept ^ mirrored).all() and 8 < int(mirrored.sum()) < 32


def test_a_shift_moves_by_up_to_its_share_of_the_side_and_a_turn_keeps_the_middle():
    torch.manual_seed(0)
    columns = torch.arange(32.0).expand(200, 1, 32, 32)
    moved = shift_rotate_flip(columns, 0.1, 0, False)[:, 0, 16, 16] - 16
    assert 2.5 < moved.max() < 3.2 + 1e-4 and -3.2 - 1e-4 < moved.min() < -2.5
    x = torch.linspace(-1, 1, 33)
    disc = torch.exp(-4 * (x[:, None] ** 2 + x**2)).expand(20, 1, 33, 33)  # looks the same however it is turned
    torch.testing.assert_close(shift_rotate_flip(disc, 0, 15, False), disc, rtol=0, atol=0.01)
    turned = shift_rotate_flip(x.expand(50, 1, 33, 33).contiguous(), 0, 15, False)
    slopes = turned[:, 0, 17, 16] - turned[:, 0, 15, 16]  # of the ramp along the other axis: sin of the angle
    assert float(slopes.abs().max()) <= float(x[2] - x[0]) * math.sin(math.radians(15)) + 1e-5
    assert len(set(slopes.tolist())) == 50


def test_crops_are_mirrored_every_other_time_or_never():
    torch.manual_seed(0)
    images = torch.rand(200, 1, 5, 5)
    changed = crop_and_flip(images, padding=0, flip=True)
    mirrored = (changed == images.flip(3)).flatten(1).all(1)
    assert 60 < mirrored.sum() < 140 and torch.equal(changed[~mirrored], images[~mirrored])
    assert torch.equal(crop_and_flip(images, padding=0, flip=False), images)


def test_a_hole_is_one_square_of_the_given_colour_cut_off_at_the_border():
    torch.manual_seed(0)
    images = torch.full((200, 2, 12, 12), 0.5)
    holes = cutout(images, 4, [0.1, 0.9])
    inside = holes[:, 0] == 0.1
    assert torch.equal(inside, holes[:, 1] == 0.9) and bool((holes[:, 0][~inside] == 0.5).all())
    heights, widths = inside.any(2).sum(1), inside.any(1).sum(1)
    assert torch.equal(inside.sum((1, 2)), heights * widths)  # a rectangle
    assert heights.max() == widths.max() == 4 and heights.min() == widths.min() == 2
    assert torch.equal(cutout(images, 0), images)


def test_autoaugment_changes_images_and_keeps_their_shape_and_range():
    torch.manual_seed(0)
    images = torch.rand(8, 3, 32, 32)
    changed = autoaugment_and_cutout(images, 4, True, 16, [0.5, 0.5, 0.5])
    assert changed.shape == images.shape and changed.min() >= 0 and changed.max() <= 1
    assert bool((changed == 0.5).all(1).flatten(1).any(1).all())  # every image has a hole
