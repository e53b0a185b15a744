"""Classification networks of torchvision.models by the names of their constructors, with weights of a file."""

import difflib
import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision import models

from respike.errors import InputError
from respike.networks.state_dicts import give_state_dict, read_checkpoint, state_dict_of

SOURCE = "save one by torch.save(net.state_dict(), FILE), or download one of those that torchvision lists"
AUXILIARY = ("googlenet", "inception_v3")  # have further classifiers, which only training uses
DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)$")  # names in torchvision's own files


def torchvision_model(
    name: str, num_classes: int | None = None, path: str | Path | None = None, **options: Any
) -> nn.Module:
    """The network `torchvision.models.<name>` for standardized RGB images, in training mode.

    num_classes: outputs, by default the constructor's (1000). path: a file of its weights, or None for initial ones.
    options: further arguments of the constructor. Raises InputError for an unknown name, arguments that the constructor
    refuses, and a file that is missing or of another network.
    """
    known = models.list_models(module=models)
    if name not in known:
        (near, *_) = [*difflib.get_close_matches(str(name).lower(), known, n=1), "resnet18"]
        raise InputError(f"model.name={name}: not a classification network of torchvision; type model.name={near}")
    if name in AUXILIARY:
        options = {"aux_logits": False, "init_weights": path is None, **options}
    if num_classes is not None:
        options["num_classes"] = num_classes
    try:
        net = models.get_model(name, weights=None, **options)
    except Exception as error:  # of any constructor
        given = " ".join(f"model.{key}={value}" for key, value in options.items())
        reason = " ".join(str(error).split())
        raise InputError(
            f"model.name={name} {given}: refused by torchvision ({reason}); leave the others out"
        ) from error
    if path is not None:
        line = f"model.path={path}"
        weights = state_dict_of(read_checkpoint(path, "model.path", SOURCE), line)
        give_state_dict(net, _as_now(weights, name), line)
    return net


def _as_now(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Weights under today's names, without auxiliary classifiers."""
    if name.startswith("densenet"):
        return {DENSENET.sub(r"\1\2", key): value for key, value in weights.items()}
    if name in AUXILIARY:
        return {key: value for key, value in weights.items() if not re.search(r"(^|\.)(aux|AuxLogits)", key)}
    return weights
