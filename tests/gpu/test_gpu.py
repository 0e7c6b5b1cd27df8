"""A GPU computes what the processor computes: ``pytest -m gpu``. Skipped where there is none."""

import pytest
import torch

from labkit.studies.gpu.checks import CHECKS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]


@pytest.mark.parametrize("name", CHECKS)
def test_a_gpu_agrees_with_the_processor(name: str) -> None:
    CHECKS[name]("cuda")
