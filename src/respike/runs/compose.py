"""The config of a run: how it is composed, the check of its choices, and the lists of options in --help."""

import inspect
import logging
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

import respike.system.precision  # noqa: F401  registers ${fastest_precision:...}
from respike.errors import InputError
from respike.nir.read import simulated
from respike.runs import job_folder  # noqa: F401  registers ${job_folder:...}
from respike.runs.calls import resolved_target
from respike.runs.check import check_settings
from respike.runs.conf import CONF, names, options
from respike.runs.kinds import said_as
from respike.runs.overrides import check_typed, explained
from respike.simulate.rate.settings import steps_of

log = logging.getLogger(__name__)
BLOCKS = ("method", "protocol", "data", "recipe", "model", "trainer", "paths", "lit", "simulate", "callbacks")

Choices = Mapping[str, str | None]  # config group -> chosen option


def compose_run(overrides: Sequence[str]) -> DictConfig:
    """The config that `python -m respike.train OVERRIDES` composes, checked. paths.run must be given: it depends on the run.

    Raises InputError for overrides that do not compose, for choices that do not go together and for wrong values.
    """
    check_typed(overrides)
    try:
        cfg, choices = _composed(overrides)
    except Exception as error:
        line = override_error(error, overrides)
        if line is None:
            raise
        raise InputError(line) from error
    take_from_file(cfg, overrides)
    check_run(cfg, choices, overrides)
    return cfg


def override_error(error: BaseException, overrides: Sequence[str]) -> str | None:
    """The line for an error that Hydra raised for these overrides; None for other errors."""
    return explained(error, overrides, lambda known: _composed(["paths.run=x", *known], with_hydra=True)[0])


def _composed(overrides: Sequence[str], with_hydra: bool = False) -> tuple[DictConfig, Choices]:
    GlobalHydra.instance().clear()  # a @hydra.main that ran earlier in this process leaves its state there
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=list(overrides), return_hydra_config=True)
    choices = cfg.hydra.runtime.choices
    with open_dict(cfg):
        if not with_hydra:
            del cfg["hydra"]
        cfg.experiment = choices.get("experiment")
    return cfg, choices


def take_from_file(cfg: DictConfig, typed: Sequence[str]) -> None:
    """The settings with which a NIR file of respike says it was simulated, in place of those of the config that are not typed.

    Does nothing for another network, and for a file that says nothing or cannot be read.
    """
    network = OmegaConf.select(cfg, "model._target_", throw_on_missing=False)
    if network != "respike.nir.read.nir_network" or not isinstance(cfg.get("simulate"), DictConfig):
        return
    said, taken = simulated(cfg.model.get("path")), list[str]()
    keys = [line.lstrip("+~").partition("=")[0] for line in typed]
    encoders = {str(path.stem): OmegaConf.load(path) for path in options("encode")}
    coding = next(
        (name for name, one in encoders.items() if one._target_.rpartition(".")[2] == said.get("encode")), None
    )
    if coding and not any(key.split(".")[0] == "encode" for key in keys):
        cfg.encode = encoders[coding]
        taken.append(f"encode={coding}")
        for name in set(encoders[coding]) - {"_target_"}:
            cfg.encode[name] = said.get(f"encode.{name}", cfg.encode[name])
            taken.append(f"encode.{name}={said_as(cfg.encode[name])}")
    for name in said:
        if name != "encode" and name in cfg.simulate and f"simulate.{name}" not in keys:
            cfg.simulate[name] = said[name]
            taken.append(f"simulate.{name}={said_as(said[name])}")
    if taken:
        log.info("%s says how it was simulated; so it is here, unless typed: %s", cfg.model.path, " ".join(taken))


def check_run(cfg: DictConfig, choices: Choices, typed: Sequence[str] = ()) -> None:
    """Raise InputError for choices that do not go together, and for settings of the wrong type or out of range.

    typed: the overrides of the command line.
    """
    if cfg.get("lit") is None and cfg.get("method"):  # method=ttfs chooses it by convert=
        check_choices(cfg, choices, typed)
    for block in BLOCKS:
        if not isinstance(cfg.get(block), DictConfig):
            raise InputError(
                f"{block}={said_as(cfg.get(block))}: a run needs this block of settings; leave {block}= out"
            )
    check_choices(cfg, choices, typed)
    check_settings(cfg, typed)


def check_choices(cfg: DictConfig, choices: Choices, typed: Sequence[str] = ()) -> None:
    """Raise InputError for a network, an experiment or a part that does not go with the method, before anything is built.

    The message says what was given, what is allowed and what to type. typed: the overrides of the command line.
    """
    _check_network(cfg, choices)
    _check_file(choices, typed)
    _check_experiment(cfg, choices)
    _check_parts(cfg, choices)
    _check_recipe(cfg, choices, typed)
    _check_surrogate(cfg, choices)
    _check_pixels(cfg, choices)


def _check_network(cfg: DictConfig, choices: Choices) -> None:
    """A network of spiking neurons goes with method=direct only, and the other way round."""
    given, method = f"model={choices.get('model')}", cfg.method.name
    target = OmegaConf.select(cfg, "model._target_", throw_on_missing=False)
    if target is None:
        raise InputError(f"{given}: no network is named; type model._target_=package.Class")
    network = resolved_target("model", target)
    spikes = hasattr(network, "spiking_layers")
    name = target.rpartition(".")[2]
    if spikes and method != "direct":
        raise InputError(
            f"{given} ({name}) is a network of spiking neurons, which goes with method=direct, not with method={method}; "
            "type method=direct"
        )
    if not spikes and method == "direct":
        other = "rate" if cfg.protocol.method in (None, "direct") else cfg.protocol.method
        raise InputError(
            f"{given} ({name}) is not a network of spiking neurons, which method=direct needs; "
            f"type method={other}, or another network, as in model=stbp_resnet19"
        )


def _check_file(choices: Choices, typed: Sequence[str]) -> None:
    """A spiking network of a file is simulated with its own neurons, unless others are typed."""
    neurons = choices.get("neuron") == "nir" or any(line.startswith("neuron=") for line in typed)
    if choices.get("model") == "nir" and not neurons:
        raise InputError(
            f"model=nir: the file holds a spiking network, and neuron={choices.get('neuron')} are not its neurons; type "
            "experiment=nir model.path=FILE, which simulates it as it is"
        )


def _check_experiment(cfg: DictConfig, choices: Choices) -> None:
    """An experiment is described for one method."""
    method, described = cfg.method.name, cfg.protocol.method
    if described not in (None, method):
        raise InputError(
            f"method={method}: experiment={choices['experiment']} is described for method={described}; leave method= out, "
            f"or type {_without_experiment(choices)} method={method} instead of the experiment"
        )


def _check_recipe(cfg: DictConfig, choices: Choices, typed: Sequence[str]) -> None:
    """A network that is typed without a recipe is not trained with the recipe of another network."""
    groups = {override.partition("=")[0] for override in typed}
    if "model" not in groups or "recipe" in groups:
        return
    recipe, model, networks = choices.get("recipe"), choices.get("model"), cfg.recipe.get("networks")
    if not networks or model in networks:
        return
    suited = [path.stem for path in options("recipe") if _is_for(path, model)] or ["custom"]
    raise InputError(
        f"model={model}: recipe={recipe} is the training of {', '.join(networks)}; "
        f"type {' or '.join(f'recipe={name}' for name in suited)} as well"
    )


def _is_for(recipe: Path, model: str | None) -> bool:
    """Whether a recipe's file names the network among those it was made for."""
    networks = OmegaConf.select(OmegaConf.load(recipe), "networks")
    return model in (networks or ())


def _check_parts(cfg: DictConfig, choices: Choices) -> None:
    """The method names the options of each group that go with it."""
    method = cfg.method.name
    inside = [
        key for key in choices if "@" in key and key.partition("@")[0] in cfg.method.options
    ]  # as convert@convert.norm
    for group in (*cfg.method.options, *inside):
        listed = cfg.method.options[group.partition("@")[0]]
        chosen, allowed = choices.get(group), names(group.partition("@")[0]) if listed == "all" else listed
        if chosen in allowed or (chosen is None and not allowed):
            continue
        if chosen is not None and allowed and chosen not in names(group.partition("@")[0]):
            continue  # a part that the method's file chose, or an option of a user's own
        if chosen is None and "/" in group:  # the option of the group above may have no such part
            continue
        takes = _typed(group, allowed) if allowed else f"no {group}="
        advice = f"type {group}={allowed[0]}" if allowed else f"leave {group}= out"
        others = [] if method == "direct" else [name for name in _methods_with(group, chosen) if name != "direct"]
        if others:
            instead = f"{_without_experiment(choices)} method={others[0]} instead of the experiment"
            advice += f", or type {instead if cfg.protocol.method else f'method={others[0]}'}"
        raise InputError(f"{group}={'null' if chosen is None else chosen}: method={method} takes {takes}; {advice}")


def _check_surrogate(cfg: DictConfig, choices: Choices) -> None:
    """A surrogate goes with a neuron that takes one."""
    surrogate, target = choices.get("neuron/surrogate"), OmegaConf.select(cfg, "neuron._target_")
    if surrogate is None or target is None:
        return
    if "surrogate" not in inspect.signature(resolved_target("neuron", target)).parameters:
        advice = "leave neuron/surrogate= out"
        if cfg.method.name == "direct":
            advice = "type neuron=lif, or ~neuron/surrogate for a network that is not trained"
        raise InputError(f"neuron/surrogate={surrogate}: neuron={choices.get('neuron')} takes no surrogate; {advice}")


def _check_pixels(cfg: DictConfig, choices: Choices) -> None:
    """Pixels are standardized once: by data.mean and data.std in front of the network, or by the network itself."""
    mean = cfg.data.get("mean")
    if not isinstance(mean, ListConfig):  # null; anything else is refused by `check_settings`
        return
    given, off = f"data.mean={said_as(list(mean))}", "data.mean=null data.std=null"
    for key in ("model.mean", "model.preprocessing", "model.net.mean"):
        if OmegaConf.select(cfg, key) not in (None, "none"):
            raise InputError(
                f"{given}: model={choices.get('model')} standardizes the pixels itself, by {key}; type {off}"
            )
    if cfg.method.name == "direct":
        raise InputError(f"{given}: a network of spiking neurons takes model.mean and model.std; type {off}")


def _methods_with(group: str, option: str | None) -> list[str]:
    """The methods that go with an option of a group."""
    found = []
    for path in options("method"):
        allowed = OmegaConf.load(path).method.options.get(group, [])
        if allowed == "all" or option in allowed:
            found.append(path.stem)
    return found


def _typed(group: str, names: Sequence[str]) -> str:
    return ", ".join(f"{group}={name}" for name in names)


def _without_experiment(choices: Choices) -> str:
    """What to type for the network and training of an experiment without the experiment."""
    return " ".join(f"{group}={choices[group]}" for group in ("data", "model", "recipe"))


def _help_list(group: str) -> str:
    """The options of a group for --help, each with the first sentence of its file."""
    return "\n".join(f"  {path.stem:<25} {_first_sentence(path)}".rstrip() for path in options(group)).replace(
        "$", "$$"
    )


def _first_sentence(path: Path) -> str:
    """The first sentence of a config file's comment, in one line of at most 100 characters."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = " ".join(line[2:] for line in lines if line.startswith("# ") and not line.startswith("# @package"))
    sentence = re.split(r"(?<!al)\. ", comment)[0].rstrip(".")
    return textwrap.shorten(sentence, 100, placeholder=" ...")


def _help_names(group: str) -> str:
    """The options of a group for --help, names only."""
    return textwrap.fill(
        ", ".join(names(group)), 120, initial_indent=f"  {group:<25} ", subsequent_indent=" " * 28
    ).replace("$", "$$")


def register_resolvers() -> None:
    """Make ${help_list:GROUP} and ${help_names:GROUP}, which conf/hydra/help uses, and ${steps_of:...} known to OmegaConf."""
    OmegaConf.register_new_resolver("help_list", _help_list, replace=True)
    OmegaConf.register_new_resolver("help_names", _help_names, replace=True)
    OmegaConf.register_new_resolver("steps_of", steps_of, replace=True)


register_resolvers()
