"""Lets torchvision be imported beside a torch it was not compiled for. Imported for its effect, before torchvision.

Package indexes carry one torchvision wheel per platform, compiled for the CUDA build of torch. Beside the CPU build its
library `_C` cannot be loaded, and `import torchvision` (which pytorch_lightning does as well) stops with "operator
torchvision::nms does not exist", because it registers shape functions for two operators only that library declares.
Declaring the two is enough for all that is used here, data sets and transforms; calling them still fails, as it should.
"""

import importlib.machinery
import importlib.util
import sys

import torch

LIBRARIES = ("_C_stable", "_C")  # from torchvision 0.29 on, and before
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def compiled_ops_load() -> bool:
    """Whether torchvision's own library loads into this torch. It may then be loaded again at no cost."""
    package = importlib.util.find_spec("torchvision")  # finds the folder without importing the package
    folders = list(package.submodule_search_locations or ()) if package else []
    for name in LIBRARIES:
        library = importlib.machinery.PathFinder.find_spec(name, folders)
        if library is not None and library.origin is not None:
            try:
                torch.ops.load_library(library.origin)
            except OSError:
                return False
            return True
    return False


def declare_missing_ops() -> torch.library.Library | None:
    """Declare the operators torchvision's import needs; None where that library has them, or something else has.

    The declarations live as long as the object returned.
    """
    if "torchvision" in sys.modules or compiled_ops_load():
        return None
    missing = [schema for schema in SCHEMAS if not hasattr(torch.ops.torchvision, schema.split("(")[0])]
    if not missing:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in missing:
        library.define(schema)
    return library


DECLARED = declare_missing_ops()
