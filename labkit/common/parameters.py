"""Parameters of a notebook: what papermill and people give, as the cells below expect it.

``papermill -p NAME VALUE`` turns numbers, True, False and None into Python's, and hands everything else over as text.
"""

import ast
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


def refuse_unknown() -> None:
    """Stop a notebook that papermill gave a parameter it does not have, which would be ignored without a word.

    papermill writes what it was given into a cell of its own, behind the notebook's cell of parameters. Outside a
    notebook nothing happens.

    Raises:
        TypeError: names a parameter that is not there, and those that are.
    """
    try:
        from IPython import get_ipython
    except ImportError:
        return
    shell = get_ipython()
    run = [cell for cell in shell.user_ns.get("In", []) if cell] if shell else []
    if len(run) < 2 or not run[1].startswith("# Parameters"):
        return
    known, given = (_assigned(cell) for cell in run[:2])
    unknown = [name for name in given if name not in known]
    if unknown:
        named = ", ".join(map(repr, unknown))
        raise TypeError(f"this notebook has no parameter {named}; there are {', '.join(sorted(known))}")


def _assigned(cell: str) -> list[str]:
    """Names that the lines of a cell assign."""
    lines = ast.parse(cell).body
    return [t.id for line in lines if isinstance(line, ast.Assign) for t in line.targets if isinstance(t, ast.Name)]
