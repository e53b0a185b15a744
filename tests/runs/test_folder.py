"""The facts of a run: which typed overrides a comparison shows as settings, and which images calibrated."""

import pytest
import torch

from respike.data.datamodule import ImageDataModule
from respike.data.datasets import ImageSet
from respike.runs.compose import compose_run
from respike.runs.folder import calibrated_on, changes


def image_set(root):
    """Sixty black training images and thirty test images."""
    images, labels = torch.zeros(60, 1, 6, 6, dtype=torch.uint8), torch.arange(60) % 3
    return ImageSet("noise", images, labels, images[:30], labels[:30], ("a", "b", "c"), None)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "40 training images"),
        (["callbacks.convert.calibration_size=7"], "7 training images"),
        (["callbacks.convert.calibration_size=700"], "40 training images"),
        (["callbacks.convert.calibrate_on=test"], "30 test images"),
        (["convert=percentile"], "40 training images"),
        (["convert=none", "callbacks.convert.calibrate_on=test"], ""),
        (["convert=model_norm"], ""),
    ],
)
def test_the_images_that_calibrate_are_those_the_conversion_measures(tmp_path, overrides, expected):
    """20 of 60 training images are for validation. Without normalization, or by weights alone, no image counts."""
    data = ImageDataModule(image_set, root="", batch_size=7, val_size=20, seed=0)
    cfg = compose_run([f"paths.run={tmp_path}", "experiment=diehl_fc", *overrides])
    assert calibrated_on(cfg, data) == expected


@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        ("diehl_cnn_published", "60 training images"),
        ("diehl_cnn_published_curve", "30 test images"),
        ("exact_fc", "60 training images"),
        ("stbp_resnet19_narrow", ""),
    ],
)
def test_experiments_calibrate_on_what_they_say(tmp_path, experiment, expected):
    data = ImageDataModule(image_set, root="", batch_size=7, seed=0)
    assert calibrated_on(compose_run([f"paths.run={tmp_path}", f"experiment={experiment}"]), data) == expected


def test_only_what_may_change_the_measurement_is_a_change():
    unmeasured = ["experiment=diehl_cnn", "seed=3", "logger=csv", "paths.outputs=y", "hydra.run.dir=x", "+threads=2"]
    changed = ["recipe=diehl_cnn_ours", "recipe/scheduler=cosine", "model.sizes=[784,10]", "ckpt_path=x.pt"]
    assert changes([*unmeasured, *changed, "~convert"]) == [*changed, "convert"]
