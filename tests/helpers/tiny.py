"""The smallest training there is, and its images."""

from labkit.training.settings import Experiment
from tests.helpers.toys import toy_images

TINY = Experiment(
    "tiny",
    "toy",
    way=3,
    query=3,
    backbone="conv4",
    backbone_options={"width": 16},
    groups=4,
    choices={"alignment": "closed"},
    steps=12,
    batch=2,
    warmup=4,
    learning_rate=0.05,
    validate_every=6,
    validation_episodes=20,
    test_query=5,
)
BASE, VALIDATION = toy_images(), toy_images(seed=1, split="val")
