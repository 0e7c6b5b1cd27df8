"""Studies that compute on one thread give the others back, however they end: a notebook goes on with them."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("module", "first"),
    [
        ("figure3_sampling", "load_images"),
        ("figure3_without_masks", "chosen.opened"),
        ("figure4_heat", "load_images"),
        ("figure4_without_masks", "chosen.opened"),
        ("displacement.shifted", "chosen.opened"),
        ("solvers", "load_model"),
    ],
)
def test_threads_are_given_back(module: str, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def interrupted(*_: Any, **__: Any) -> None:
        seen.append(torch.get_num_threads())
        raise KeyboardInterrupt

    monkeypatch.setattr(f"labkit.studies.{module}.{first}", interrupted)
    run = importlib.import_module(f"labkit.studies.{module}").run
    with pytest.raises(KeyboardInterrupt):
        run(*(["toy"] if first == "chosen.opened" else []))
    assert (seen, torch.get_num_threads()) == ([1], 2)
