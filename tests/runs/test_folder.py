"""Which typed overrides a comparison shows as settings."""

from respike.runs.folder import changes


def test_only_what_may_change_the_measurement_is_a_change():
    unmeasured = ["experiment=diehl_cnn", "seed=3", "logger=csv", "paths.outputs=y", "hydra.run.dir=x", "+threads=2"]
    changed = ["recipe=diehl_cnn_ours", "recipe/scheduler=cosine", "model.sizes=[784,10]", "ckpt_path=x.pt"]
    assert changes([*unmeasured, *changed, "~convert"]) == [*changed, "convert"]
