import torch

from respike.data.augment import random_crop


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
