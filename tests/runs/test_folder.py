from respike.runs.folder import changes


def test_only_what_makes_another_experiment_counts_as_a_change():
    neutral = [
        "experiment=diehl_fc",
        "recipe=ours",
        "seed=3",
        "logger=csv",
        "data.root=/x",
        "model.path=a.mat",
        "trainer=gpu",
    ]
    assert changes([*neutral, "hydra.run.dir=x", "paths.outputs=y", "train=false", "data.test_size=10"]) == []
    changed = ["data=fashion_mnist", "convert=none", "encode.max_rate=400", "recipe.epochs=1", "model.sizes=[784,10]"]
    assert changes([*neutral, *changed[:3]]) == changed[:3]
    assert changes(changed) == changed
    assert changes([*changed[4:], "ckpt_path=x.pt", "data.val_size=9"]) == [
        *changed[4:],
        "ckpt_path=x.pt",
        "data.val_size=9",
    ]


def test_another_data_set_than_the_published_one_is_a_change():
    assert changes(["data=mnist"]) == [] and changes(["data=digits"]) == ["data=digits"]
    assert changes(["data=digits"], "digits") == [] and changes(["data=mnist"], "digits") == ["data=mnist"]
