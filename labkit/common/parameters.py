"""Parameters of a notebook: what papermill and people give, as the cells below expect it.

``papermill -p NAME VALUE`` turns numbers, True, False and None into Python's, and hands everything else over as text.
"""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

from labkit.common import checks

NOTEBOOKS = "notebooks"  # the folder, in the repository, from which the notebooks' relative paths count


def several(name: str, value: Any, kind: type = str) -> list[Any]:
    """A list of text or numbers. A single one is a list of one, and ``"[1, 5]"`` is read as what it says.

    Raises:
        TypeError: something else, or a list of something else.
    """
    what = {str: "text", int: "whole numbers"}[kind]
    expected = f"a list of {what}, such as {['a', 'b'] if kind is str else [1, 5]}"
    if isinstance(value, str):
        value = _read(value) if value.lstrip().startswith("[") or kind is not str else value
    value = checks.plain(value)
    if isinstance(value, kind | Path) and not isinstance(value, bool):
        value = [value]
    found = checks.several(name, value, expected)
    if not all(isinstance(v, kind | Path) and not isinstance(v, bool) for v in found):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    return found


def options(name: str, value: Any) -> dict[str, Any]:
    """A dictionary of options; as text, ``"{steps: 3}"`` or ``'{"steps": 3}'``, it is read as what it says.

    Raises:
        TypeError: something else.
    """
    given = value
    if isinstance(value, str):
        value = _read(value)
    value = {} if value is None else value
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} must be a dictionary of options, such as {{'steps': 3000}}, got {given!r}")
    return value


def runs_folder(value: Any) -> Path:
    """Where a notebook writes. ``~`` is the home folder, and ``..`` counts from the folder of the notebooks.

    So the default, ``"../runs"``, is the same folder whether a notebook runs in its own folder or from the repository's
    root.

    Raises:
        TypeError: no path.
    """
    folder = checks.path("runs", value, "the path of a folder")
    if folder.parts[:1] == ("..",) and Path(NOTEBOOKS, "01_episodes.ipynb").is_file():
        folder = Path(os.path.normpath(Path(NOTEBOOKS, folder)))
    return folder


def _read(text: str) -> Any:
    """JSON, or YAML where its reader is installed, as papermill's is; text that is neither comes back as it is."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        yaml: Any = importlib.import_module("yaml")
        return yaml.safe_load(text)
    except Exception:  # not installed, or no YAML: then it is refused as the text it is
        return text
