"""What a run needs beside its config: weights, validation, a start that can be trained; and on which code its stages depend."""

import pytest

from respike.errors import InputError
from respike.runs.check import check_machine, own_code
from respike.runs.compose import compose_run
from respike.system.cache import code_hash, depend_on

KINDS = ("training", "conversion", "train_acc", "relu pass")


@pytest.fixture
def config(tmp_path, monkeypatch):
    """config(override, ...) -> a composed run, of code of a user's in the module `mine`."""
    (tmp_path / "mine.py").write_text(
        "import torch\n\ndef loss(output, target):\n    return torch.nn.functional.cross_entropy(output, target)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)

    def compose(*overrides):
        return compose_run([f"paths.run={tmp_path}/run", "paths.data=data", *overrides])

    yield compose
    depend_on([])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=diehl_cnn", "recipe=pretrained", "train=false", "name=x"], "train=false without weights: type"),
        (["experiment=stbp_resnet19", "+trainer.limit_val_batches=0"], "nothing is validated, .* recipe.keep=last"),
        (["experiment=diehl_fc", "trainer.max_epochs=0"], "nothing is trained; type train=false, or a number from 1 up"),
        (["experiment=ttfs_finetune_fc_levels", "data.root=/mine"], "start=exact_fc reads paths.data; type paths.data=/mine"),
    ],
)  # fmt: skip
def test_what_a_run_lacks_is_a_line(config, overrides, words):
    with pytest.raises(InputError, match=words) as caught:
        check_machine(config(*overrides))
    assert "\n" not in str(caught.value)


def test_a_start_is_not_trained_by_the_processes_of_a_scheduler(config, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    typed = ["experiment=ttfs_finetune_fc_levels", "trainer=ddp"]
    with pytest.raises(InputError, match="start=exact_fc: is trained in one process, and the scheduler started 2"):
        check_machine(config(*typed))
    check_machine(config("experiment=exact_fc", "trainer=ddp"))
    check_machine(config(typed[0]))


@pytest.mark.parametrize(
    "typed",
    [
        "recipe.loss._target_=mine.loss",
        "recipe.transform={_target_: torchvision.transforms.Compose, transforms: [{_target_: mine.loss, _partial_: true}]}",
        "+callbacks.swa={_target_: pytorch_lightning.callbacks.StochasticWeightAveraging, swa_lrs: 0.1}",
    ],
)
def test_stages_depend_on_code_and_callbacks_that_are_not_respikes(config, typed):
    depend_on(own_code(config("experiment=diehl_fc")))
    before, run = {kind: code_hash(kind) for kind in KINDS}, code_hash("run")
    cfg = config("experiment=diehl_fc", typed)
    assert len(own_code(cfg)) == 1
    depend_on(own_code(cfg))
    assert all(code_hash(kind) != before[kind] for kind in KINDS) and code_hash("run") == run
    depend_on(own_code(config("experiment=diehl_fc")))
    assert {kind: code_hash(kind) for kind in KINDS} == before


@pytest.mark.parametrize(
    "experiment", ["diehl_fc", "digits_cnn", "ttfs_sparse_lenet", "stbp_resnet19", "resnet20_cifar10"]
)
def test_experiments_depend_on_no_code_of_others(config, experiment):
    assert own_code(config(f"experiment={experiment}")) == []
