"""The smallest training there is, and its images."""

from dataclasses import replace

from labkit.training import settings
from tests.helpers.toys import toy_images

TINY = replace(
    settings.TINY,
    dataset="toy",
    size=84,
    backbone="conv4",
    backbone_options={"width": 16},
    preset="paper",
    choices={"alignment": "closed"},
    learning_rate=0.05,
    validation_episodes=20,
    test_query=5,
)
BASE, VALIDATION = toy_images(), toy_images(seed=1, split="val")
