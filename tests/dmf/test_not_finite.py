"""dopri5 on what has no solution ends in the lab's own error, with what a reader needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import labkit
from labkit.dmf.alignment import integrate, parse_rule
from tests.helpers.tiny import TINY
from tests.helpers.toys import toy_images


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("kernel", [1, 3])
def test_evaluate_says_what_is_broken(bad: float, kernel: int) -> None:
    model = labkit.DMF("conv4", 4, backbone_options={"width": 8}, kernel=kernel, alignment="dopri5")
    torch.nn.init.constant_(model.backbone.layers[0].weight, bad)
    with pytest.raises(FloatingPointError, match=r"scores are not finite in episodes 0 to 0: the weights may hold NaN"):
        labkit.evaluate(model, toy_images(classes=5, per_class=6), 3, 1, 2, episodes=2)


@pytest.mark.filterwarnings("ignore:dopri5 cannot keep to")
@pytest.mark.parametrize("tolerance", [1e-30, 1e-25])
def test_a_tolerance_below_rounding_ends(tolerance: float) -> None:
    filters = torch.rand(40)
    with pytest.warns(UserWarning, match="cannot keep to rtol=.* allow a larger error"):
        end, _ = integrate(lambda x: filters * x, torch.ones(40), parse_rule("dopri5", tolerance, tolerance))
    assert end.isnan().all()


@pytest.mark.filterwarnings("ignore:dopri5 cannot keep to")
def test_training_names_step_episodes_layers_and_checkpoint(tmp_path: Path) -> None:
    images = toy_images(classes=7, per_class=12)
    changes: dict[str, Any] = {"alignment": "dopri5", "rtol": 1e-30, "atol": 1e-30}
    experiment = labkit.training.settings.replace(TINY, choices=TINY.choices | changes)
    with pytest.raises(FloatingPointError, match=r"step 1 \(seed 0, episodes .*Largest gradients.* checkpoint"):
        labkit.train(experiment, images, images, tmp_path, progress=False)
