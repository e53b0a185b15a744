"""Makes `import torchvision` work with a build of torch that torchvision was not compiled for. Import this module first.

Package indexes offer one torchvision wheel per platform, compiled for the CUDA build of torch. With the CPU build of torch
its library `_C` cannot be loaded, and `import torchvision` (which pytorch_lightning also runs) fails with "operator
torchvision::nms does not exist": it registers shape functions for two operators that only that library declares.
This module declares the two operators. Data sets and transforms then work; calling the operators still fails.
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
    """Whether torchvision's compiled library can be loaded. Loading it a second time costs nothing."""
    package = importlib.util.find_spec("torchvision")  # does not import the package
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
    """Declare the operators that importing torchvision needs; None if they are declared already.

    The declarations last as long as the returned object.
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
