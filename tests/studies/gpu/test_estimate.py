"""Counted work against numbers that are known otherwise."""

import pytest

from labkit.studies.gpu.estimate import lines, parts_of_a_step
from labkit.studies.gpu.works import tiny, works
from labkit.studies.training_cost import operations


def test_the_backbone_s_operations_are_those_of_the_forecast() -> None:
    e = tiny("mini-1shot", works()["mini-1shot"])
    parts = {part.name: part for part in parts_of_a_step(e)}
    assert parts["backbone"].flops * e.steps == pytest.approx(operations(e))
    assert all(part.flops > 0 and part.bytes > 0 for part in parts.values())


@pytest.mark.integration
def test_the_paper_s_schedule_is_nine_times_ten_to_the_sixteen_operations() -> None:
    """Worked out by hand before any of this was written; two minutes at 790 TFLOP/s."""
    e = works()["mini-1shot"]
    backbone = next(part for part in parts_of_a_step(e) if part.name == "backbone")
    assert e.steps * backbone.flops == pytest.approx(8.9e16, rel=0.01)
    assert e.steps * backbone.computing / 60 == pytest.approx(1.9, rel=0.03)


def test_it_says_that_it_is_an_estimate() -> None:
    said = lines(tiny("mini-1shot", works()["mini-1shot"]))
    assert said[0].startswith("Estimate, not measured: ")
    assert len(said) == 6
