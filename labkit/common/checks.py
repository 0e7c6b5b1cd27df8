"""What a public function asks of its arguments, said in one form: what was expected, and what was given.

A wrong kind of thing is a TypeError, a wrong value of the right kind a ValueError. The functions that return something
return the argument as a plain Python value: NumPy's numbers pass, and are converted here, where they enter.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor


def check_int(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number from `least` to `most`."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    number = int(value)
    if number < least or (most is not None and number > most):
        limit = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {limit}, got {number}")
    return number


def check_seed(value: Any) -> int:
    """A seed: a whole number from 0 to 2**64 - 1, the largest that torch takes."""
    return check_int("seed", value, least=0, most=2**64 - 1)


def finite(
    name: str,
    value: Any,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> float:
    """A number that is neither NaN nor infinite: above `above`, at least `least`, below `below` and at most `most`."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = float(value)
    if not (math.isfinite(number) and above < number < below and least <= number <= most):
        limits = {"above": above, "at least": least, "below": below, "at most": most}
        said = " and ".join(f"{words} {limit:g}" for words, limit in limits.items() if math.isfinite(limit))
        raise ValueError(f"{name} must be a finite number{f' {said}' if said else ''}, got {value}")
    return number


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {_described(value)}")
    return bool(value)


def text(name: str, value: Any, expected: str = "a text") -> str:
    """A string, described in `expected`."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be {expected}, got {_described(value)}")
    return str(value)


def path(name: str, value: Any, expected: str = "the path of a file or folder") -> Path:
    """A path, with ``~`` at its start replaced by the home folder."""
    if not isinstance(value, str | Path):
        raise TypeError(f"{name} must be {expected}, got {_described(value)}")
    try:
        return Path(value).expanduser()
    except RuntimeError:  # "~$notes.png" is a name like any other where nobody is called so
        return Path(value)


def several(name: str, value: Any, expected: str, least: int = 1) -> list[Any]:
    """A list or another series, of `least` things at least; a text is none, since it would be read letter by letter."""
    single = isinstance(value, str | bytes | Mapping) or getattr(value, "ndim", 1) == 0  # of an array of one number
    if single or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be {expected}, got {_described(value)}")
    found = list(value)
    if len(found) < least:
        raise ValueError(f"{name} must be {expected}, got {found or 'none'}")
    return found


def plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's own, in lists, tuples and dictionaries too; all else as it is."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {plain(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(plain(v) for v in value)
    return value


def kind(name: str, value: Any, kinds: type | tuple[type, ...], expected: str) -> None:
    """Something of a kind, described in `expected`."""
    if not isinstance(value, kinds):
        raise TypeError(f"{name} must be {expected}, got {_described(value)}")


def options(what: str, function: Callable[..., Any], given: Iterable[str]) -> None:
    """Keyword arguments that `function` has."""
    there = [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    unknown = sorted(set(given) - set(there))
    if unknown:
        raise TypeError(f"{what} has no option {', '.join(map(repr, unknown))}; there are {', '.join(sorted(there))}")


def literals(owner: type, values: Mapping[str, Any]) -> None:
    """Check that every value whose attribute `owner` annotates with a `Literal` is one of the words listed there.

    Raises:
        ValueError: it is none of them.
    """
    for name, hint in get_type_hints(owner).items():
        if name in values and get_origin(hint) is Literal and values[name] not in get_args(hint):
            raise ValueError(f"{name} must be one of {get_args(hint)}, got {values[name]!r}")


class Between(NamedTuple):
    """The smallest and the largest number that an annotated attribute may be, and those that it must lie between."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf


Share = Annotated[float, Between(0, 1)]
Rate = Annotated[float, Between(least=0, below=1)]  # of dropout: what is left is divided by 1 - rate
Positive = Annotated[float, Between(above=0)]
Size = Annotated[int, Between(1, 10**6)]  # of a layer or a map
# How often something is done or made. A model's file says it, and must not make its reader hang.
Times = Annotated[int, Between(0, 1000)]
OnceOrMore = Annotated[int, Between(1, 1000)]


def annotated(owner: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` by name, each of the kind, and within the bounds, with which `owner` annotates its attribute.

    Whole numbers without bounds are at least 0. Other annotations than a `Literal`, ``bool``, ``int``, ``float``, one
    of these with `Between`, and these or None, are left alone.
    """
    literals(owner, values)
    found = dict(values)
    for name, hint in get_type_hints(owner, include_extras=True).items():
        if name not in values or (values[name] is None and type(None) in get_args(hint)):
            continue
        for choice in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
            bounds = next((b for b in getattr(choice, "__metadata__", ()) if isinstance(b, Between)), None)
            kind_of_value = choice if bounds is None else choice.__origin__
            if kind_of_value is bool:
                found[name] = flag(name, values[name])
            elif kind_of_value is float:
                found[name] = finite(name, values[name], **(bounds or Between())._asdict())
            elif kind_of_value is int:
                least, most = (0, None) if bounds is None else (int(bounds.least), int(bounds.most))
                found[name] = check_int(name, values[name], least, most)
    return found


def images(support: Tensor, query: Tensor, channels: int | None) -> None:
    """Images as `labkit.DMF` takes them: support [E, N, K, 3, H, W] and query [E, Q, 3, H, W], normalised."""
    for name, value, shape in (("support", support, "[E, N, K, 3, H, W]"), ("query", query, "[E, Q, 3, H, W]")):
        kind(name, value, Tensor, f"a tensor {shape} of normalised images")
        if value.ndim != shape.count(",") + 1 or not value.is_floating_point() or 0 in value.shape:
            raise ValueError(f"{name} must be normalised images {shape}, floating point, got {_described(value)}")
    if support.shape[0] != query.shape[0] or support.shape[-3:] != query.shape[-3:]:
        raise ValueError(
            f"support and query must have as many episodes E and images of one shape, got support "
            f"{list(support.shape)} and query {list(query.shape)}"
        )
    if channels is not None and query.shape[-3] != channels:
        raise ValueError(f"images must have {channels} channels, got {query.shape[-3]}: query {list(query.shape)}")


def features(support: Tensor, query: Tensor, channels: int | None) -> None:
    """Feature maps as `labkit.DMF.score` takes them: support [E, N, K, c, h, w] and query [E, Q, c, h, w]."""
    for name, value, shape in (("support", support, "[E, N, K, c, h, w]"), ("query", query, "[E, Q, c, h, w]")):
        kind(name, value, Tensor, f"a tensor {shape} of features")
    of_one_shape = (support.shape[:1], support.shape[3:]) == (query.shape[:1], query.shape[2:])
    well = support.ndim == 6 and of_one_shape and channels in (None, support.shape[3]) and 0 not in support.shape
    if not well or query.shape[1] == 0 or not (support.is_floating_point() and query.is_floating_point()):
        of = "" if channels is None else f" with c = {channels}"
        raise ValueError(
            f"features must be floating point, support [E, N, K, c, h, w] and query [E, Q, c, h, w]{of}, got "
            f"{_described(support)} and {_described(query)}"
        )


def points(value: Tensor, shape: tuple[int, ...]) -> None:
    """Points at which a filter reads, [E, Q, N, 9, 2, h, w] = `shape`; any finite number will do, since beyond the map
    there are zeros."""
    expected = f"finite (y, x) [E, Q, N, 9, 2, h, w] = {list(shape)}"
    kind("points", value, Tensor, f"a tensor, {expected}")
    well = not value.is_complex() and bool(value.isfinite().all())
    if value.shape != shape or not well:
        came = f"{list(value.shape)}{'' if well else ' with numbers that are not finite'}"
        raise ValueError(f"points must be {expected}, got {came}")


def mask(support_mask: Tensor | None, support: Tensor) -> None:
    """A mask of the shots that exist, bool [E, N, K], with at least one a class."""
    if support_mask is None:
        return
    kind("support_mask", support_mask, Tensor, "a bool tensor [E, N, K]")
    if support_mask.dtype != torch.bool or support_mask.shape != support.shape[:3]:
        expected = list(support.shape[:3])
        raise ValueError(f"support_mask must be bool [E, N, K] = {expected}, got {_described(support_mask)}")
    if torch.compiler.is_compiling():  # in a compiled graph a look at values is a break
        return
    if not support_mask.any(-1).all():
        raise ValueError("support_mask must leave every class at least one shot, got a class without any")


def labels(name: str, value: Tensor, shape: torch.Size, count: int) -> None:
    """Labels int64 [E, Q] from 0 to `count` - 1; on a GPU only their shape is looked at, since a look is a wait."""
    if value.dtype != torch.int64 or value.shape != shape:
        raise ValueError(f"{name} must be int64 [E, Q] = {list(shape)}, got {_described(value)}")
    if value.device.type != "cpu" or torch.compiler.is_compiling():  # in a compiled graph a look is a break
        return
    if int(value.min()) < 0 or int(value.max()) >= count:
        raise ValueError(f"{name} must be from 0 to {count - 1}, got {int(value.min())} to {int(value.max())}")


def _described(value: Any) -> str:
    if isinstance(value, Tensor) or hasattr(value, "dtype"):
        return f"{type(value).__name__} {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, str | int | float | bool | None):
        return repr(value)
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, list | tuple | Mapping) else "")
