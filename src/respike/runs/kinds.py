"""The kinds of values that a setting can have, read from type annotations: what is accepted, and how it is said.

A kind is a type annotation: int (a whole number, no boolean), float (a finite number), bool, str, None, Literal, list[...],
dict[str, ...], unions, Annotated with a `Range`, a `Length` or a `Text`, and `Block`. Any other annotation accepts everything.
"""

import difflib
import itertools
import math
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

LARGEST = 2**31 - 1  # of a whole number that counts something


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; without the ends that are `above` and `below`."""

    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high and self.above < value < self.below

    def __str__(self) -> str:
        if self.above == -math.inf and self.low == -math.inf:
            return f"below {self.below:g}" if self.high == math.inf else f"up to {self.high:.10g}"
        start = f"above {self.above:g}" if self.above > -math.inf else f"from {self.low:.10g}"
        if self.below < math.inf:
            return f"{start} and below {self.below:g}"
        if self.high < LARGEST or LARGEST < self.high < math.inf:
            return f"{start} {'and up ' if self.above > -math.inf else ''}to {self.high:.10g}"
        return start if self.above > -math.inf else f"{start} up"


@dataclass(frozen=True)
class Length:
    """Lists of so many values; rising: each at least as large as the one before."""

    least: int = 1
    most: float = math.inf
    rising: bool = False

    def __contains__(self, value: Sequence[Any]) -> bool:
        rises = not self.rising or all(a <= b for a, b in itertools.pairwise(value))
        return self.least <= len(value) <= self.most and rises

    def __str__(self) -> str:
        number = f"{self.least}" if self.least == self.most else f"{self.least} or more"
        return f"{number} rising" if self.rising else number


@dataclass(frozen=True)
class Text:
    """Texts that are not empty; inside: a relative path that does not lead out of its folder."""

    inside: bool = False

    def __contains__(self, value: Any) -> bool:
        text = str(value)
        parts = text.replace("\\", "/").split("/")
        return bool(text.strip()) and text.isprintable() and not (self.inside and (".." in parts or parts[0] == ""))

    def __str__(self) -> str:
        return "a name without .. and without / at the start" if self.inside else "a text that is not empty"


class Block:
    """A part of the config with a `_target_`, the callable that its other keys are the parameters of."""


Count = Annotated[int, Range(low=1, high=LARGEST)]
Whole = Annotated[int, Range(low=0, high=LARGEST)]
Positive = Annotated[float, Range(above=0)]
NotNegative = Annotated[float, Range(low=0)]
Share = Annotated[float, Range(low=0, high=1)]
ShareBelow1 = Annotated[float, Range(low=0, below=1)]
Seed = Annotated[int, Range(low=0, high=2**32 - 1)]


def accepts(kind: Any, value: Any) -> bool:
    """Whether a value of a config (a number, a text, None, a list or a dict) is of a kind."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        inner, *limits = arguments
        return accepts(inner, value) and all(
            value in limit for limit in limits if isinstance(limit, Range | Length | Text)
        )
    if origin in (Union, types.UnionType):
        return any(accepts(one, value) for one in arguments)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in arguments)
    if kind in (None, type(None)):
        return value is None
    if kind is bool or kind is str:
        return isinstance(value, kind)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is Block:
        return isinstance(value, Mapping) and "_target_" in value
    if origin is tuple and ... not in arguments:
        fits = isinstance(value, list | tuple) and len(value) == len(arguments)
        return fits and all(accepts(one, item) for one, item in zip(arguments, value, strict=True))
    if origin is dict:
        return isinstance(value, Mapping) and all(accepts(arguments[1], item) for item in value.values())
    if _is_list(kind):
        one = arguments[0] if arguments else Any
        return isinstance(value, list | tuple) and all(accepts(one, item) for item in value)
    return True


def allowed(kind: Any) -> str:
    """A kind in words, as in "a number above 0, or null"."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        inner, *limits = arguments
        said = [limit for limit in limits if isinstance(limit, Range | Length | Text)]
        if said and isinstance(said[0], Text):
            return str(said[0])
        if said and isinstance(said[0], Length):
            return allowed(inner).replace("a list of", f"a list of {said[0]}", 1)
        return " ".join([allowed(inner), *map(str, said)])
    if origin in (Union, types.UnionType):
        return _joined(dict.fromkeys(part for one in arguments if (part := allowed(one))))
    if origin is Literal:
        return _joined([said_as(one) for one in arguments])
    if origin is tuple and ... not in arguments:
        return f"a list of {', '.join(map(allowed, arguments))}"
    if origin is dict:
        inside = allowed(arguments[1])
        return f"a block {{NAME:VALUE}} with {inside} for each name" if inside else "a block {NAME:VALUE}"
    if _is_list(kind):
        inside = allowed(arguments[0]) if arguments else ""
        if not inside:
            return "a list"
        if inside.startswith("a list"):
            return f"a list of lists{inside.removeprefix('a list')}"
        return f"a list of {inside.removeprefix('a ')}".replace("whole number", "whole numbers").replace(
            "of number", "of numbers"
        )
    words: dict[Any, str] = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        type(None): "null",
    }
    words |= {None: "null", Block: "a block with a _target_"}
    return words.get(kind, "") if kind is None or isinstance(kind, type) else ""


def choices(kind: Any) -> list[str]:
    """The words among which a kind chooses; empty for one that does not."""
    if get_origin(kind) is Literal:
        return [said_as(one) for one in get_args(kind)]
    if kind is bool:
        return ["true", "false"]
    inside = get_args(kind) if get_origin(kind) in (Union, types.UnionType, Annotated) else ()
    return [word for one in inside for word in choices(one)]


def said_as(value: Any) -> str:
    """A value as it is typed: true, null, [1,2], 0.5."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(said_as, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{said_as(one)}' for key, one in value.items())}}}"
    return str(value)


def nearest(word: Any, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word that a mistyped one probably means, None if none is near. cutoff: of the likeness, 1 for the same word."""
    known = list(known)
    if found := difflib.get_close_matches(str(word), known, n=1, cutoff=max(cutoff, 0.8)):
        return found[0]
    by_lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(str(word).lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else None


def _is_list(kind: Any) -> bool:
    return (get_origin(kind) or kind) in (list, tuple, Sequence)


def _joined(parts: Collection[str]) -> str:
    """The words of a choice; none for kinds without words."""
    *first, last = parts or [""]
    return f"{', '.join(first)} or {last}" if first else last
