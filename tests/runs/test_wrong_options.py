"""Every wrong option is answered in one line that repeats what was given and says what is allowed or what to type."""

import re
import shlex
import sys
from collections.abc import Callable
from functools import cache
from os import PathLike
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from torch import nn

from respike import reproduce
from respike.bench.__main__ import parse as bench
from respike.errors import InputError
from respike.report.__main__ import main as report
from respike.runs import compose
from respike.runs.compose import check_run, compose_run
from respike.runs.conf import CONF, groups
from respike.runs.offline import main as offline
from respike.runs.overrides import check_typed, explained
from respike.train import main

ANSWERED = {}  # experiment -> (answered well, tried)


def table():
    """(experiment, overrides, what the answer says) for every line of wrong_options.txt."""
    experiment, cases = "", []
    for line in Path(__file__).with_name("wrong_options.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            typed, _, said = line.strip().rpartition(" | ")
            cases.append((experiment, typed, said))
        elif not line.startswith("#"):
            experiment = line
    return cases


@cache
def composed(experiment):
    return compose._composed(["paths.run=x", f"experiment={experiment}"])


def check(experiment, overrides):
    """What compose_run does for overrides of keys, without composing the experiment anew for each."""
    check_typed(overrides)
    cfg, choices = composed(experiment)
    cfg = cfg.copy()
    typed = [f"experiment={experiment}", *overrides]
    try:
        ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(overrides), cfg)
    except Exception as error:
        line = explained(error, typed, lambda known: composed(experiment)[0])
        assert line, error
        raise InputError(line) from error
    check_run(cfg, choices, typed)


def refusal(experiment, typed):
    """The message with which overrides are refused."""
    overrides = [typed] if " " in typed and "=" not in typed.split(" ")[1] else typed.split(" ")
    with pytest.raises(InputError) as caught:
        compose_or_check(experiment, overrides)
    return str(caught.value), overrides


def compose_or_check(experiment, overrides):
    """What compose_run does, composing anew only for options of groups and for several values."""
    if any(one.partition("=")[0].lstrip("+~") in groups() or re.search(r"[,(]", one) for one in overrides):
        compose_run(["paths.run=x", f"experiment={experiment}", *overrides])
    else:
        check(experiment, overrides)


@pytest.mark.parametrize("experiment", dict.fromkeys(experiment for experiment, _, _ in table()))
def test_a_wrong_option_is_answered_in_one_line(experiment):
    cases = [(typed, said) for name, typed, said in table() if name == experiment]
    wrong = []
    for typed, said in cases:
        line, overrides = refusal(experiment, typed)
        repeated = any(bare(override) in bare(line) for override in overrides)
        if "\n" in line or said not in line or not repeated or not re.search(r"type |as in |leave |has it", line):
            wrong.append(f"{typed}: {line}")
        elif then := refusal_of_the_answer(experiment, line, overrides):
            wrong.append(f"{typed}: {line}\n    and then: {then}")
    ANSWERED[experiment] = len(cases) - len(wrong), len(cases)
    assert not wrong, "\n".join(wrong)


def refusal_of_the_answer(experiment, line, overrides):
    """The message with which the first override that an answer says to type is refused in turn, or None."""
    found = re.search(r"type '?([+~]?[\w./@]+=[^\s;']+)", line)
    wrong_name = re.search("no setting|no option|nothing reads it|one value is needed", line)
    if found is None or not wrong_name or re.search("[A-Z]{4}", found[1]):  # SECONDS, which a person has to fill in
        return None
    others = [one for one in overrides if one.partition("=")[0] in groups() and not bare(line).startswith(bare(one))]
    try:
        compose_or_check(experiment, [*others, found[1].rstrip(",")])
    except InputError as error:
        return None if "goes with method=" in str(error) else str(error)  # the name is right, for another method
    return None


def bare(text):
    """A text without quotes."""
    return text.replace("'", "").replace('"', "")


# No words that a check may take for mistakes: what is unusual and right
LEGAL = {
    "diehl_fc": [
        "threads=1 seed=4294967295 simulate.duration=0.001 encode.max_rate=5000 neuron.start=-1 neuron.t_ref=0.002",
        "trainer.devices=auto trainer.precision=bf16-mixed +trainer.limit_train_batches=0.1 +trainer.max_time=00:01:00:00",
        "+trainer.limit_train_batches=1.0 +trainer.limit_test_batches=2 +trainer.deterministic=warn +trainer.profiler=simple",
        "simulate.weight_bits=null simulate.dt=0.5 simulate.duration=1 train=false ckpt_path=x.pt",
        "callbacks.convert=null callbacks.simulate=null callbacks.figures=null",
        "+width=64 model.sizes=[784,${width},10] callbacks.figures=null recipe.dropout=0 recipe.patience=null",
        "recipe.optimizer._target_=torch.optim.AdamW ~recipe.optimizer.momentum +logger.tags=[a,b]",
        "recipe.loss._target_=torch.nn.functional.multi_margin_loss +recipe.optimizer.nesterov=true recipe.epochs=0",
        "trainer.accelerator=gpu trainer.devices=[0,1] trainer.precision=32 +data.eval_batch_size=1 data.train_size=1",
        "+my.width=64 model.sizes=[784,${my.width},10]",
        "+own={width:64} model.sizes=[784,${own.width},10] +callbacks.mine={_target_:pytorch_lightning.callbacks.Timer}",
        "+paper.tolerance=0.1 +paper.standard_error=0.001 paper.published={snn/test_acc:0.9} callbacks.simulate.energy=null",
        "paths.outputs=/somewhere/else data.root=/my/images 'name=a name' neuron.threshold=1e-6",
    ],
    "exact_fc": [
        "convert.zeta=-0.5 simulate.levels=2 simulate.first_crossing=authors simulate.precision=float32",
        "convert.zeta=auto convert.input_range=[-1,1] convert.weight_bounds=[-1,0.5] simulate.time_noise=1",
        "energy.add=[[32,0]] energy.multiply=0 energy.memory=[[null,0,0]] energy.time_levels=2 energy.weight_bits=1",
    ],
    "exact_fc_percentile": ["convert.q=1.0", "convert.q=1 convert.zeros=false"],
    "stbp_resnet19_narrow": [
        "simulate.steps=1 model.steps=1 model.mean=null model.std=null trainer.precision=16-mixed"
    ],
    "digits_cnn": [
        "data.dataset.scale=[1,1] data.dataset.stroke=[0,0] data.dataset.test_fonts=[stix,cm] model.pool_stride=null"
    ],
}


@pytest.mark.parametrize(("experiment", "typed"), [(name, typed) for name in LEGAL for typed in LEGAL[name]])
def test_what_is_unusual_and_right_is_accepted(experiment, typed):
    check(experiment, shlex.split(typed))


class Net(nn.Module):
    """A person's own network."""

    def __init__(self, width: int, tau: float = 0.5, classes=10, **more):
        super().__init__()


class Folder(nn.Module):
    """One whose parameter is of types that have no words in an answer."""

    def __init__(self, folder: Path | PathLike = ".", layer: Callable | type[nn.Module] = nn.Linear):
        super().__init__()


def normalize(net, pixels, strength: float):
    """A conversion of a person's own."""


def test_what_code_of_ones_own_takes_is_accepted(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "theirs", SimpleNamespace(Folder=Folder, normalize=normalize))
    (tmp_path / "convert").mkdir()
    (tmp_path / "convert/theirs.yaml").write_text("_target_: theirs.normalize\n_partial_: true\nstrength: 2.0\n")
    own = ["paths.run=x", "name=x", "model=custom", "recipe=custom", "model._target_=theirs.Folder", "convert=theirs"]
    own.append(f"hydra.searchpath=[file://{tmp_path}]")
    compose_run([*own, "+model.folder=/tmp"])
    with pytest.raises(InputError, match="the run gives pixels to normalize itself; leave it out"):
        compose_run([*own, "+convert.pixels=3"])


def test_what_hydra_reads_may_be_added():
    compose_run(["paths.run=x", "+part=a", "hydra.run.dir=outputs/${part}", "+hydra.job.env_set.A=1"])


def test_options_on_a_search_path_of_ones_own_are_accepted(tmp_path):
    for group, option in (("neuron", "diehl"), ("convert", "mmse")):
        (tmp_path / group).mkdir()
        (tmp_path / group / "mine.yaml").write_text((CONF / group / f"{option}.yaml").read_text())
    own = ["paths.run=x", f"hydra.searchpath=[file://{tmp_path}]"]
    assert compose_run([*own, "neuron=mine", "convert=mine"]).convert.steps
    with pytest.raises(InputError, match="neuron=mine: method=ttfs takes no neuron="):
        compose_run([*own, "experiment=exact_fc", "neuron=mine"])


class Strict(nn.Module):
    """One that takes nothing but a width."""

    def __init__(self, width: int):
        super().__init__()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("+model.width=3 +model.tau=2 +model.steps=no", None),  # steps is theirs, not ours
        ("+model.width=wide", "+model.width=wide: a whole number is needed by Net"),
        ("model.tau=3", "model.tau=3: not in the config of model, but a parameter of {net}; type +model.tau=3"),
        ("", "width is missing; type +model.width=VALUE"),
    ],
)
def test_a_network_of_ones_own_is_checked_against_its_signature(monkeypatch, typed, said):
    monkeypatch.setitem(sys.modules, "theirs", SimpleNamespace(Net=Net, Strict=Strict))
    overrides = ["paths.run=x", "name=x", "model=custom", "recipe=custom", "model._target_=theirs.Net", *typed.split()]
    if said is None:
        assert compose_run(overrides).model.tau == 2
        return
    with pytest.raises(InputError) as caught:
        compose_run(overrides)
    assert said.format(net="theirs.Net") in str(caught.value)


COMMANDS = [
    ("train=maybe", "true or false"),
    ("encode.maxrate=3", "type encode.max_rate=3"),
    ("encode=poison", "one of current, rate, threshold"),
    ("diehl_fcc", "type experiment=diehl_fc"),
    ("model.sizes=[784,10", "type 'model.sizes=[784,10]'"),
    ("seed=1,2", "-m for a sweep"),
    ("-m seed=-1,x hydra.sweeper.max_batch_size=0", "hydra.sweeper.max_batch_size=0: a whole number from 1 up"),
    ("-m encode.maxrate=3,4", "type encode.max_rate=3,4"),
    ("hydra.launcher.njobs=2", "hydra/launcher=joblib has it, named n_jobs"),
    ("+hydra.job.nane=x", "type hydra.job.name=x"),
    ("hydra.sweep.dirr=x", "type hydra.sweep.dir=x"),
    ("-m search=accuracy_at_latency hydra.sweeper.ntrials=2", "type hydra.sweeper.n_trials=2"),
    (
        "-m sweep=weight_noise",
        "sweep=weight_noise: varies simulate.weight_noise, which experiment=diehl_fc does not have",
    ),
    ("-m convert=dat_norm,non", "convert=dat_norm,non: convert has no option dat_norm; type data_norm"),
    ("-m search=accuracy_at_latency convert=none,dat_norm", "convert has no option dat_norm; type data_norm"),
    ("-m hydra/launcher=slurm seed=1,2", "joblib, submitit"),
    ("-m hydra/launcher=joblib hydra.launcher.n_jobs=0 seed=1,2", "hydra.launcher.n_jobs=0"),
    ("name=../../elsewhere", "without .."),
    ("paths.outputs=", "a text that is not empty"),
    ("paths.outputs=file/x", "the folder of the run cannot be made"),
    ("--config-name=foo", "--config-name=foo: there is no such config"),
    ("recipe.loss._target_=torch.nn.functional.mse_loss", "mse_loss gives no loss"),
    ("recipe.loss._target_=builtins.print", "it returns NoneType"),
    ("trainer.devices=[0,0]", "trainer.devices=[0,0]: "),
    ("+trainer.strategy=foo", "+trainer.strategy=foo: "),
    ("ckpt_path=missing.pt train=false", "no such file"),
    ("ckpt_path=.", "a folder"),
    ("trainer.accelerator=tpu", "this machine has none"),
]


@pytest.mark.parametrize(("typed", "said"), COMMANDS)
def test_the_command_line_ends_with_that_line_and_status_1(tmp_path, monkeypatch, capsys, typed, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(sys, "argv", ["respike.train", *typed.split(), "experiment=diehl_fc", "logger=none"])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 1 and error.count("\n") == 1 and error.startswith("respike: ") and said in error
    assert not list(tmp_path.rglob("metrics.json"))


def test_places_are_checked_before_hydra_makes_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for typed in ("paths.outputs=null", "paths.outputs=", "hydra.run.dir=", "hydra.sweep.dir=", "paths.run=null"):
        with pytest.raises(InputError, match="not empty"):
            check_typed([typed])


def test_the_folder_of_a_person_is_not_a_folder_named_with_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for typed in ("paths.outputs=~/out", 'paths.outputs="~/out"', 'paths.stages="~/out"', 'hydra.run.dir="~/out"'):
        with pytest.raises(InputError, match=f"type '?{typed.partition('=')[0]}=/home/me/out"):
            check_typed([typed])


def test_a_number_that_is_too_large_for_its_range_is_not_told_two_limits():
    with pytest.raises(InputError) as raised:
        check("diehl_fc", ["seed=4294967296"])
    assert "at most" not in str(raised.value)


def test_the_flag_of_a_sweep_may_stand_between_the_overrides(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["respike.train", "experiment=diehl_fc", "-m", "seed=0"])
    with pytest.raises(SystemExit):
        main()
    assert "a sweep needs something to vary" in capsys.readouterr().err


def test_hydra_shows_everything_if_it_is_asked_to(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["respike.train", "encode.maxrate=3"])
    with pytest.raises(HydraException, match="Could not override"):
        main()


OTHERS = [
    (reproduce.main, "nope", "paper, quick"),
    (reproduce.main, "quick seed=1 logger", "KEY=VALUE"),
    (reproduce.main, "quick --seeds 0", "from 1 up"),
    (reproduce.main, "quick ~data", "type data=OPTION"),
    (report, "nowhere", "nowhere"),
    (report, ". --compare --latency soon", ""),
    (offline, "sync nowhere", "nowhere"),
    (offline, "dashboard .", "no offline run"),
]


@pytest.mark.parametrize(("command", "typed", "said"), OTHERS)
def test_the_other_command_lines_answer_in_one_line_too(tmp_path, monkeypatch, capsys, command, typed, said):
    monkeypatch.chdir(tmp_path)
    assert command(typed.split()) in (1, 2)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error


ARGUMENTS = [
    (report, ""),
    (offline, "upload"),
    (bench, "--images 0"),
    (bench, "--images many"),
    (reproduce.main, "--sedes 3"),
]


@pytest.mark.parametrize(("command", "typed"), ARGUMENTS)
def test_wrong_arguments_are_answered_with_the_usage(capsys, command, typed):
    with pytest.raises(SystemExit) as ended:
        command(typed.split())
    assert ended.value.code == 2 and "error: " in capsys.readouterr().err.splitlines()[-1]


def test_as_many_were_tried(record_property):
    """Records the numbers for the end of the session; the tests above are those that fail."""
    if ANSWERED.keys() != {name for name, _, _ in table()}:
        pytest.skip("only a part of this module is run")
    well, tried = (sum(column) for column in zip(*ANSWERED.values(), strict=True))
    more = len(COMMANDS) + len(OTHERS) + len(ARGUMENTS)
    record_property(
        "summary", f"wrong options: {tried} settings and {more} command lines tried, {well + more} answered well"
    )
    assert tried >= 300 and well == tried
