"""A GPU computes what the processor computes: ``pytest -m gpu``. Skipped where there is none."""

import pytest
import torch

from labkit.studies.gpu.checks import CHECKS, full_precision
from labkit.training.loop import build_model
from labkit.training.step import GRAPHS, LOSS_ALONE, trial
from tests.helpers.tiny import BASE, TINY

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]


@pytest.mark.parametrize("name", CHECKS)
def test_a_gpu_agrees_with_the_processor(name: str) -> None:
    CHECKS[name]("cuda")


@pytest.mark.parametrize("compiler", ["inductor", GRAPHS, LOSS_ALONE])
def test_a_compiled_step_is_the_same_step(compiler: str) -> None:
    losses = {}
    for name in (None, compiler):
        with full_precision(), trial(build_model(TINY, 6, 0), TINY, BASE, "cuda", name) as step:
            losses[name] = torch.stack([step()[:3] for _ in range(6)])
    torch.testing.assert_close(losses[compiler], losses[None], atol=2e-4, rtol=2e-3)
