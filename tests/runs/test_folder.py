"""Which typed overrides make a run another one than its experiment describes."""

from respike.runs.compose import compose_run
from respike.runs.folder import changes

DIEHL = {"method": "rate", "recipes": ["diehl_cnn_authors", "diehl_cnn_ours"], "data": "mnist"}
NEUTRAL = [
    "experiment=diehl_cnn",
    "recipe=diehl_cnn_authors",
    "method=rate",
    "seed=3",
    "logger=csv",
    "data.root=/x",
    "model.path=a.mat",
    "trainer=gpu",
    "keep_networks=false",
]


def test_only_what_makes_another_experiment_counts_as_a_change():
    assert changes([*NEUTRAL, "hydra.run.dir=x", "paths.outputs=y", "train=false", "data.test_size=10"], DIEHL) == []
    changed = [
        "data=fashion_mnist",
        "convert=none",
        "encode.max_rate=400",
        "recipe.epochs=1",
        "recipe/scheduler=cosine",
        "model.sizes=[784,10]",
        "ckpt_path=x.pt",
        "data.val_size=9",
    ]
    assert changes([*NEUTRAL, *changed[:3]], DIEHL) == changed[:3]
    assert changes(changed, DIEHL) == changed


def test_another_data_set_than_the_published_one_is_a_change():
    assert changes(["data=mnist"], DIEHL) == [] and changes(["data=digits"], DIEHL) == ["data=digits"]
    on_digits = DIEHL | {"data": "digits"}
    assert changes(["data=digits"], on_digits) == [] and changes(["data=mnist"], on_digits) == ["data=mnist"]


def test_a_recipe_that_the_experiment_does_not_name_is_a_change():
    assert changes(["recipe=diehl_cnn_ours"], DIEHL) == [] and changes(["recipe=custom"], DIEHL) == ["recipe=custom"]


def test_without_an_experiment_no_choice_of_recipe_or_method_is_a_change():
    protocol = compose_run(["paths.run=x", "name=x", "method=ttfs", "model=exact_fc", "recipe=custom"]).protocol
    assert changes(["method=ttfs", "recipe=custom"], protocol) == []
