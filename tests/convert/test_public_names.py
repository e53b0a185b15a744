"""`from respike.convert import name` gives a function or a class, never a module that happens to have the name."""

import pkgutil
from types import ModuleType

import respike.convert


def test_every_public_name_is_a_function_or_a_class():
    for name in respike.convert.__all__:
        assert callable(getattr(respike.convert, name)) and not isinstance(getattr(respike.convert, name), ModuleType)


def test_no_module_has_the_name_of_something_exported_beside_it():
    modules = [respike.convert]
    for found in pkgutil.walk_packages(respike.convert.__path__, "respike.convert."):
        modules.append(__import__(found.name, fromlist=["_"]))
    for package in (module for module in modules if hasattr(module, "__path__")):
        beside = {found.name for found in pkgutil.iter_modules(package.__path__)}
        assert not beside & set(getattr(package, "__all__", ()))
    names = {module.__name__.rpartition(".")[2] for module in modules}
    assert not names & set(respike.convert.__all__)
