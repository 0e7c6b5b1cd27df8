"""What is trained on one backbone: every system of the paper's Table 1 is there or says why not."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from labkit.models.registry import METHODS
from labkit.studies.tables.heads import (
    HEADS,
    LEFT_OUT,
    SYSTEMS,
    TABLE1_HEADS,
    heads_of_table2,
    options_on,
    pooled_once_more,
)
from labkit.studies.tables.table1 import PAPER
from labkit.training.heads import head_experiment
from labkit.training.loop import build_model
from tests.helpers.toy_maps import toy_maps

MAPS = toy_maps()


def test_every_published_system_is_there_or_says_why_not() -> None:
    there = {*SYSTEMS, *LEFT_OUT, "DMF (ours)", "DSN-MR"}
    assert set(pd.read_csv(PAPER)["model"]) <= there
    assert not set(SYSTEMS) & set(LEFT_OUT)
    assert all(len([h for h in TABLE1_HEADS if h.system == s]) == 2 for s in SYSTEMS)  # with equal care
    assert len(HEADS) == len(TABLE1_HEADS) + 15  # no name twice: 14 rows of Table 2 and the base


@pytest.mark.parametrize("head", HEADS.values(), ids=list(HEADS))
def test_every_head_is_a_method_with_its_options_and_trains_as_long_as_the_others(head) -> None:  # type: ignore[no-untyped-def]
    phases = head.phases(30)
    assert sum(p.steps for p in phases) == (30 if head.trained else 1)
    options = options_on(head, MAPS.base, 5, 1)
    if head.method == "dmf":
        options["groups"] = min(options["groups"], 16)  # of 16 channels, where the tables have 160
    model = build_model(head_experiment(head.method, options, MAPS.base, phases), 6, 0)
    assert type(model) is METHODS[head.method]


@pytest.mark.parametrize("shot", [1, 5])
def test_table_2_has_eleven_cells_of_which_one_reads_pooled_maps(shot: int) -> None:
    cells = heads_of_table2(shot)
    assert len(cells) == 11
    assert [h.name for h in cells if h.pooled] == ["last_pooling on"]
    assert [h.name for h in cells if not h.trained] == ["align 0"]


def test_pooled_maps_are_those_of_max_pooling_and_of_another_backbone() -> None:
    pooled = pooled_once_more(MAPS.novel)
    maps = torch.from_numpy(np.array(MAPS.novel.pixels)).movedim(-1, 1)
    assert maps.shape[-1] == 3  # an odd side: the last row is pooled alone
    wanted = F.max_pool2d(maps, 2, ceil_mode=True).movedim(1, -1).numpy()
    np.testing.assert_array_equal(pooled.pixels, wanted)
    assert pooled.backbone != MAPS.novel.backbone
