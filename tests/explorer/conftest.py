"""One explorer and its exported page for all tests of this room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import labkit
from labkit.explorer.tasks import tasks_of
from labkit.explorer.widget import Explorer
from tests.helpers.explorer_page import opened


@pytest.fixture(scope="session")
def untrained() -> labkit.DMF:
    model = labkit.build_model(labkit.experiment("quick"), 64, 0)
    model.preprocessing = labkit.load_model("quick").preprocessing
    return model.eval()


@pytest.fixture(scope="session")
def explorer(untrained: labkit.DMF) -> Explorer:
    """Two networks; two episodes, each with one and five shots: what the page must show, computed here."""
    images = labkit.load_images("glyphs-mini", "test", size=40, per_class=200, progress=False)
    with torch.inference_mode():
        return Explorer(
            {"quick": labkit.load_model("quick"), "untrained": untrained}, tasks_of(images, [1, 2], 5, (1, 5))
        )


@pytest.fixture(scope="session")
def exported(explorer: Explorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "explorer.html"
    file.write_text(explorer.as_page(), encoding="utf-8")
    return file


@pytest.fixture
def page(browser: object, exported: Path) -> Iterator[object]:
    with opened(browser, exported) as found:  # type: ignore[arg-type]
        yield found
