"""What all tests share: settings, and the one browser, of which Playwright allows no second in a process."""

import os
from collections.abc import Iterator

# Before torch is imported, here and in what tests start: with tensors as small as these, threads wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from tests.helpers.browser import chromium

# The same examples every time: a test that fails only on some days teaches nobody anything. Those that a day's work can
# wait for; `pytest --hypothesis-profile=thorough` tries many more.
settings.register_profile("lab", max_examples=40, derandomize=True, deadline=None, database=None)
settings.register_profile("thorough", settings.get_profile("lab"), max_examples=700)
settings.load_profile("lab")


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    with chromium() as found:
        yield found
