"""Notebooks made for a test."""

from pathlib import Path

import nbformat


def write_notebook(path: Path, *lines: str) -> None:
    cells = [nbformat.v4.new_code_cell("runs = None", metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(line) for line in lines]
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=spec), path)
