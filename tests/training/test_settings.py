"""Named settings, and what a change of one leaves of it."""

import pytest

from labkit.models.registry import METHODS
from labkit.training.loop import build_model
from labkit.training.settings import experiment


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"dmf"}))
def test_every_method_is_trained_from_a_preset_of_dmf_by_its_name_alone(method: str) -> None:
    e = experiment("quick", method=method)
    assert e.choices == {}
    assert isinstance(build_model(e, 5, 0), METHODS[method])


def test_choices_are_added_to_those_of_the_same_method_only() -> None:
    assert experiment("quick", method="can", choices={"cells": 25}).choices == {"cells": 25}
    kept = {"alignment": "closed", "score_scale": 0.08, "kernel": 1}
    assert experiment("quick", method="dmf", choices={"kernel": 1}).choices == kept
    assert build_model(experiment("quick-can", method="dmf"), 5, 0).choices.alignment == "dopri5"


def test_a_warm_up_ends_within_fewer_steps_unless_it_is_given() -> None:
    assert [experiment("quick", steps=n).warmup for n in (1, 6, 199, 200, 2400)] == [0, 3, 99, 100, 100]
    assert experiment("quick", steps=6, warmup=100).warmup == 100
    assert experiment("quick").warmup == 100
