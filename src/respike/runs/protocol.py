"""How a run departs from the published one: a verdict is held against a paper only for its protocol on its data.

The settings that the run resolved to are compared with those that its experiment alone composes to, and the images and the
file of the network by their content. What was typed to get there plays no part.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from respike.data.datasets import CHECKSUMS, ImageSet
from respike.runs.compose import compose_run
from respike.runs.conf import CONF, names

# Keys, and everything below them, that leave the measured numbers as they are. Sizes of the data set are named as
# reductions; images and network files are judged by their content, in `departures`.
NEUTRAL = (
    "experiment", "name", "seed", "sweep_name", "budget_min", "threads", "keep_networks", "logger", "paths", "paper.title",
    "data.root", "data.eval_batch_size", "data.train_size", "data.test_size", "data.dataset.train_files",
    "data.dataset.test_files", "model.path", "callbacks.figures", "callbacks.train_accuracy", "callbacks.convert.stages",
    "callbacks.convert.calibration_seed", "callbacks.convert.keep_networks", "callbacks.simulate.keep_networks",
    "simulate.backend", "simulate.chunk",
    "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.use_distributed_sampler",
    "trainer.default_root_dir", "trainer.enable_checkpointing", "trainer.enable_model_summary",
    "trainer.enable_progress_bar", "trainer.log_every_n_steps", "trainer.num_sanity_val_steps",
)  # fmt: skip
DATA_SET = "data.dataset."
MOST_NAMED = 4  # settings of one block that are written out


def departures(cfg: DictConfig, images: ImageSet) -> dict[str, str]:
    """The facts `experiment`, `differs`, `other_data` and `other_recipe` of metrics.json; "" where nothing departs.

    differs: the settings other than the experiment's, "key=value; key=value". other_data: the data set, if it is not the one
    on which the published number was measured. other_recipe: the recipe, if the published network was not trained by it.
    """
    experiment = cfg.get("experiment")
    if not experiment:  # published numbers that no experiment gives
        typed = sorted(key for key, value in _leaves(cfg) if key.startswith("paper.") and value is not None)
        return _facts("", [key for key in typed if key != "paper.title"])
    if experiment not in names("experiment"):  # a file of one's own, found by hydra.searchpath
        return _facts(experiment, [f"paper: experiment={experiment} is not one of respike's"])
    protocol = described(experiment).protocol
    nearest, differing = _nearest(cfg, experiment, protocol.recipes)
    # The option of a published data set is named as its function; CIFAR's files are checked as they are read.
    same_set = cfg.data.dataset._target_.rpartition(".")[2] == protocol.data
    published = same_set and CHECKSUMS.get(images.name, images.sha256) == images.sha256
    return _facts(
        experiment,
        _texts(differing, cfg) + _file(cfg, protocol),
        "" if published else images.name,
        _recipe(nearest.recipe.name, protocol),
    )


def _nearest(cfg: DictConfig, experiment: str, recipes: Sequence[str]) -> tuple[DictConfig, dict[str, Any]]:
    """What the experiment composes to, with that of its recipes which differs least, and the differences."""
    nearest = described(experiment)
    found = differences(cfg, nearest)
    for recipe in recipes if found else ():
        other = described(experiment, f"recipe={recipe}")
        if len(differing := differences(cfg, other)) < len(found):
            nearest, found = other, differing
    return nearest, found


def differences(cfg: DictConfig, other: DictConfig) -> dict[str, Any]:
    """The settings, except neutral ones, whose values differ from those of another config: key -> value in `cfg`.

    A setting that both take from the same other setting (an interpolation) is not listed, only that other one.
    """
    other = other.copy()
    other.seed = cfg.seed
    ours, theirs = dict(_leaves(cfg)), dict(_leaves(other))
    found = {}
    for key in dict.fromkeys([*ours, *theirs]):
        if _is_neutral(key) or (key in ours and key in theirs and ours[key] == theirs[key]):
            continue
        value = OmegaConf.select(cfg, key)
        if value != OmegaConf.select(other, key):
            found[key] = value
    return found


@lru_cache(maxsize=64)
def described(experiment: str, *choices: str) -> DictConfig:
    """The config that an experiment composes to, with choices such as "recipe=diehl_cnn_authors". Do not change it."""
    return compose_run([f"experiment={experiment}", *choices, f"name={experiment}", "paths.run=."])


def departures_of_old(settings: Mapping[str, Any], data: str, sha256: str, changed: str) -> dict[str, str]:
    """`departures` of a run whose metrics.json was written before these facts were, as far as its files tell.

    settings: of its config, by dotted key. data, sha256: of its images. changed: the overrides that were typed.
    """
    name = str(settings.get("name", ""))
    experiment = max((known for known in names("experiment") if name.startswith(known)), key=len, default="")
    if not experiment:
        return _facts("", ["paper"] if any(key.startswith("paper.published") for key in settings) else [])
    protocol = described(experiment).protocol
    pinned = {key.removeprefix("protocol."): value for key, value in settings.items() if key.startswith("protocol.")}
    differing = [
        f"{block}.{key}={settings[f'{block}.{key}']}"
        for block in ("convert", "encode")
        for key, value in pinned.items()
        if settings.get(f"{block}.{key}", value) != value
    ]
    published = protocol.data is not None and CHECKSUMS.get(data) == sha256
    recipe = _recipe(settings.get("recipe.name"), protocol)
    return _facts(experiment, differing + ([changed] if changed else []), "" if published else data, recipe)


def _facts(experiment: str, differs: list[str], other_data: str = "", other_recipe: str = "") -> dict[str, str]:
    return {
        "experiment": experiment,
        "differs": "; ".join(differs),
        "other_data": other_data,
        "other_recipe": other_recipe,
    }


def _recipe(name: str | None, protocol: DictConfig) -> str:
    """What to say of a recipe, by the key `name` of its file, which did not train the published network."""
    if name in {OmegaConf.load(CONF / "recipe" / f"{recipe}.yaml").name for recipe in protocol.authors_recipes}:
        return ""
    return f"recipe {name}" if name != "authors" else "the authors' example recipe; the published one is not known"


def _file(cfg: DictConfig, protocol: DictConfig) -> list[str]:
    """Whether the weights come from another file than the published one."""
    path = cfg.model.get("path")
    if path is None or (protocol.model_file and git_blob(Path(path)) == protocol.model_file):
        return []
    return [f"model.path={Path(path).name}, {'not' if protocol.model_file else 'not known to be'} the published file"]


def git_blob(path: Path) -> str:
    """The name under which git keeps the content of a file: SHA-1 of its length and its bytes."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _texts(differing: Mapping[str, Any], cfg: DictConfig) -> list[str]:
    """The differing settings as texts, "convert=no_norm"; of a block with many of them, how many there are.

    The data set is left out: `other_data` names it.
    """
    blocks: dict[str, list[str]] = {}
    for key, value in differing.items():
        block, of = key.partition(".")[0], key.rpartition(".")[0]
        if key.startswith(DATA_SET) or (value is None and f"{of}._target_" in differing):  # a key of the other callable
            continue
        text = f"{of}={str(value).rpartition('.')[2]}" if key.endswith("._target_") else f"{key}={value}"
        blocks.setdefault(block, []).append(text)
    many = {"recipe": f"recipe={cfg.recipe.name}"}
    return [
        part
        for block, found in blocks.items()
        for part in (found if len(found) <= MOST_NAMED else [many.get(block, f"{block}: {len(found)} settings")])
    ]


def _is_neutral(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in NEUTRAL)


def _leaves(cfg: DictConfig) -> Iterator[tuple[str, Any]]:
    """Every setting under its dotted key, as it is written: an interpolation is its text."""

    def below(value: Any, key: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                yield from below(inner, f"{key}.{name}" if key else str(name))
        else:
            yield key, value

    yield from below(OmegaConf.to_container(cfg), "")
