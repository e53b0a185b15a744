"""mypy plugin: an attribute that a network's class does not declare has the type Any.

torch.nn.Module.__getattr__ is annotated `Tensor | Module`. Without this plugin mypy asks for a cast wherever a
submodule, a parameter or a buffer of another class is used. Declared attributes keep their types.
"""

from collections.abc import Callable

from mypy.plugin import AttributeContext, Plugin
from mypy.types import AnyType, Type, TypeOfAny, UnionType

MODULE = "torch.nn.modules.module.Module."


class TorchPlugin(Plugin):
    """Replaces the type `Tensor | Module` of undeclared attributes."""

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        """Called by mypy with "module.Class.attribute"."""
        return _undeclared if fullname.startswith(MODULE) else None


def _undeclared(context: AttributeContext) -> Type:
    found = context.default_attr_type
    return AnyType(TypeOfAny.special_form) if isinstance(found, UnionType) else found


def plugin(version: str) -> type[Plugin]:
    """Entry point of mypy."""
    return TorchPlugin
