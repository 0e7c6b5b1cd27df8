"""A view of the explorer as a text that can be shared, and back; `restored` in views.js reads the same."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

from labkit.common import checks

# The traits that say what is looked at.
VIEW = (
    *("task", "checkpoint", "mode", "query", "support_class", "picture", "row", "column"),
    *("time", "overlay", "locked", "plain", "everywhere", "moves"),
)
OVERLAYS = ("none", "offset length", "score", "similarity", "filter norm")
TAPS = tuple("012345678")  # the nine points, as keys of moves


def written(values: Mapping[str, Any]) -> str:
    """The values of `VIEW` as a text."""
    texts = {k: json.dumps(v) if isinstance(v, bool | dict) else v for k, v in values.items()}
    return urlencode({k: v for k, v in texts.items() if v != "{}"})


def read(view: str | Mapping[str, Any]) -> dict[str, Any]:
    """Some values of `VIEW`, from a text or by name.

    Raises:
        ValueError: a name that no view has, or a text that is no value.
        TypeError: neither a text nor a mapping.
    """
    checks.kind("view", view, (str, Mapping), "a text that view() gave, or traits by name")
    changes: dict[str, Any] = {}
    for name, value in parse_qsl(view.lstrip("#?"), strict_parsing=True) if isinstance(view, str) else view.items():
        try:
            changes[name] = json.loads(value) if isinstance(view, str) and name != "overlay" else value
        except json.JSONDecodeError:
            raise ValueError(f"this is no view: {name} cannot be {value!r}") from None
    if unknown := sorted(set(changes) - set(VIEW)):
        raise ValueError(f"a view has no {', '.join(unknown)}; it has {', '.join(VIEW)}")
    return changes


def check_there(now: Mapping[str, Any], changes: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """A text copied from another explorer may name an episode or a position that this one has not.

    Args:
        now: the present values of `VIEW`; those that `changes` does not name are moved into range by the browser.
        header: of the explorer.

    Raises:
        ValueError: a number that is not there, no overlay, or moves of no points.
        TypeError: what should be a number is none.
    """
    checks.finite("time", changes.get("time", 1.0), least=0, most=1)
    if (overlay := changes.get("overlay", OVERLAYS[0])) not in OVERLAYS:
        raise ValueError(f"overlay must be one of {', '.join(OVERLAYS)}, got {overlay}")
    moves = changes.get("moves", {})
    if not isinstance(moves, Mapping) or not all(str(tap) in TAPS and _is_move(by) for tap, by in moves.items()):
        raise ValueError(f"moves must be points from 0 to 8, each with two numbers or null, got {moves}")

    def number(name: str, count: int) -> int:
        return checks.check_int(name, changes.get(name, min(now[name], count - 1)), 0, count - 1)

    which = number("task", len(header["tasks"]))
    task = header["tasks"][which]
    block = header["blocks"][which][number("checkpoint", len(header["checkpoints"]))]
    number("mode", len(header["modes"]))
    number("query", task["queries"])
    number("picture", task["shots"][number("support_class", len(task["names"]))])
    number("row", block["h"])
    number("column", block["w"])


def _is_move(by: Any) -> bool:
    """Whether a point is moved by this, (y, x) in pixels, or taken away, None."""
    if by is None:
        return True
    pair = isinstance(by, Sequence) and not isinstance(by, str) and len(by) == 2
    return pair and all(type(v) in (int, float) and math.isfinite(v) for v in by)
