"""Notebooks made for a test."""

from pathlib import Path
from typing import Any

import nbformat


def write_notebook(path: Path, *lines: str) -> None:
    cells = [nbformat.v4.new_code_cell("runs = None", metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(line) for line in lines]
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=spec), path)


def write_cells(notebook: Path, until: str, out: Path, parameters: str = "") -> None:
    """A notebook without outputs, up to the cell that holds `until`, with lines added to its parameters."""
    content: Any = nbformat.read(notebook, as_version=4)
    next(c for c in content.cells if "parameters" in c.metadata.get("tags", [])).source += parameters
    content.cells = content.cells[: 1 + next(i for i, c in enumerate(content.cells) if until in c.source)]
    for cell in content.cells:
        if cell.cell_type == "code":
            cell["outputs"] = []
    nbformat.write(content, out)
