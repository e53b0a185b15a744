"""Names that have changed: the new name for each old one, in one table.

`check_words` raises an error for old names in overrides, before Hydra composes. `new_key` and `new_target` translate the
settings of run folders that were written under the old names.
"""

from collections.abc import Iterable

from respike.errors import InputError
from respike.runs.conf import names

# Old override -> what to type instead. A key without a value matches every value.
OPTIONS = {
    "simulate=default": "simulate=rate, or method=rate, which selects it",
    "callbacks=default": "callbacks=rate, or method=rate, which selects it",
    "callbacks=exact": "method=ttfs",
    "callbacks=base": "method=rate",
    "lit=spiking": "method=direct",
    "convert=direct": "method=direct",
    "encode=direct": "method=direct",
    "encode=none": "method=ttfs",
    "simulate.first_crossing=true": "simulate.first_crossing=exact",
    "recipe=own": "recipe=custom",
    "model=own": "model=custom",
    "recipe=authors": "recipe=*_authors",
    "recipe=ours": "recipe=*_ours",
    "schedule@recipe.scheduler": "recipe/scheduler",
    "model/surrogate": "neuron/surrogate",
}

# Old key -> new key, for the key itself and every key below it.
KEYS = {
    "simulate.threshold": "neuron.threshold",
    "simulate.reset": "neuron.reset",
    "simulate.start": "neuron.start",
    "simulate.strict": "neuron.fire_above",
    "simulate.t_ref": "neuron.t_ref",
    "model.v_th": "neuron.v_th",
    "model.tau": "neuron.tau",
    "model.reset": "neuron.reset",
    "model.detach_reset": "neuron.detach_reset",
    "model.surrogate": "neuron.surrogate",
    "callbacks.simulate.keep_network": "keep_networks",
}

# Old module -> new module, in `_target_`.
MODULES = {
    "respike.convert.exact_map": "respike.convert.exact.mapping",
    "respike.convert.normalize": "respike.convert.rate.normalize",
    "respike.lit.classifier": "respike.training.classifier",
    "respike.lit.losses": "respike.training.losses",
    "respike.lit.optimizers": "respike.training.optimizers",
    "respike.lit.schedules": "respike.training.schedules",
    "respike.data.cifar": "respike.data.datasets",
    "respike.networks.published": "respike.networks.matlab_files",
    "respike.networks.published_keras": "respike.networks.keras_files",
    "respike.networks.nir_files": "respike.nir.read",
    "respike.simulate.rate.nir": "respike.nir.write",
    "respike.networks.vgg16": "respike.networks.torchvision_vgg16",
    "respike.simulate.clock": "respike.simulate.rate.layerwise",
    "respike.simulate.direct": "respike.simulate.direct.evaluate",
}
# Old callable -> new callable, for a new name, or a new module where the others of the module did not move with it.
CALLABLES = {
    "respike.callbacks.inference.Inference": "respike.callbacks.simulate_direct.SimulateDirect",
    "respike.callbacks.simulate.Simulate": "respike.callbacks.simulate_rate.SimulateRate",
    "respike.convert.exact.training.SpikeTimeClassifier": "respike.training.spike_time_classifier.SpikeTimeClassifier",
    "respike.data.datasets.image_folder": "respike.data.image_folder.image_folder",
    "respike.lit.relu.ReLUModule": "respike.training.classifier.Classifier",
    "respike.report.direct_run_figures.DirectRunFigures": "respike.figures.direct_run.DirectFigures",
    "respike.report.run_figures.RunFigures": "respike.figures.rate_run.RateFigures",
    "respike.report.ttfs_run_figures.TTFSRunFigures": "respike.figures.ttfs_run.TTFSFigures",
}


def new_key(key: str) -> str:
    """The present name of a dotted setting: "simulate.threshold" -> "neuron.threshold". Other keys are returned as given.

    For configs of run folders without a `neuron` block: only these were written under the old names.
    """
    for old, new in KEYS.items():
        if key == old or key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return key


def new_target(target: str) -> str:
    """The present import path of a callable: respike.simulate.clock.simulate is respike.simulate.rate.layerwise.simulate."""
    module, _, name = target.rpartition(".")
    if target in CALLABLES:
        return CALLABLES[target]
    return f"{MODULES[module]}.{name}" if module in MODULES else target


def check_words(overrides: Iterable[str]) -> None:
    """Raises InputError for the first override that uses an old name."""
    overrides = list(overrides)
    own = any(override.startswith(("model=custom", "model._target_=")) for override in overrides)
    for override in overrides:
        typed, _, value = override.partition("=")
        if typed.startswith("+model.") or (own and typed.startswith("model.")):  # a parameter of a user's network
            continue
        key = typed.lstrip("+~")
        for option in value.split(","):
            if answer := OPTIONS.get(f"{key}={option}"):
                raise InputError(f"{override}: {_advice(answer)}")
        renamed = OPTIONS.get(key) or new_key(key)
        if renamed != key:
            advice = f"{renamed}={value}" if value else typed.replace(key, renamed)
            raise InputError(f"{override}: {key} is now {renamed}; type {advice}")
        if value.startswith("respike.") and new_target(value) != value:
            raise InputError(f"{override}: the code has moved; type {key}={new_target(value)}")


def _advice(answer: str) -> str:
    """What to type instead of an old option."""
    if answer.startswith("method="):
        return f"this option is now part of {answer}; type {answer}, or nothing with an experiment of that method"
    if answer.startswith("recipe=*"):
        recipes = [name for name in names("recipe") if name.endswith(answer.removeprefix("recipe=*"))]
        return f"each recipe now has its own name; type one of {', '.join(f'recipe={name}' for name in recipes)}"
    return f"this option has a new name; type {answer}"
