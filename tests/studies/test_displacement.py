"""The study of section 5.4: places are opposite, episodes are the same everywhere, differences are paired."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import Tensor

from labkit.data.glyphs.scene import DEFAULT, Difficulty
from labkit.dmf.model import DMF
from labkit.evaluation import intervals, provenance
from labkit.evaluation.play import Features
from labkit.studies.displacement import figures, levels, measure
from labkit.sweeps.sweep import key_of

PLAN = levels.Plan(split="val", per_class=4, query=2, episodes=24)


def sides(level: levels.Level) -> list[tuple[np.ndarray, np.ndarray]]:
    """Middles of the objects, shares of the side less 1/2, [n, 2] in support and in query, of every direction."""
    both = zip(level.support, level.query, strict=True)
    return [tuple(levels.boxes(PLAN, d).reshape(-1, 2, 2).mean(1) / PLAN.size - 0.5 for d in pair) for pair in both]


def test_apart_is_opposite_and_together_is_not() -> None:
    apart, together = levels.placed(1.0, True), levels.placed(1.0, False)
    for direction, (support, query) in zip(levels.DIRECTIONS, sides(apart), strict=True):
        for axis, towards in enumerate(direction):
            if towards == 0:
                assert np.abs([support[:, axis], query[:, axis]]).max() < 0.06
            else:
                assert (towards * support[:, axis]).min() > 0.15  # a long side leaves the least room: 0.25
                assert (towards * query[:, axis]).max() < -0.15
                np.testing.assert_allclose(support[:, axis], -query[:, axis], atol=0.08)
    for (support, query), (moved, _) in zip(sides(together), sides(apart), strict=True):
        np.testing.assert_array_equal(support, query)
        np.testing.assert_array_equal(support, moved)


def test_travel_grows_with_the_distance_from_none_to_more_than_half_the_image() -> None:
    travelled = [levels.travel(levels.placed(d, True), PLAN) for d in (0.0, 0.5, 1.0)]
    assert travelled[0] == 0
    assert travelled[1] == pytest.approx(travelled[2] / 2, abs=0.03)
    assert travelled[2] > 0.55
    assert levels.travel(levels.placed(1.0, False), PLAN) == 0


def test_every_study_changes_only_what_it_names() -> None:
    for level in levels.all_levels():
        for shown in (*level.support, *level.query):
            named = {"clutter", "contrast"} & {level.study} or {"position", "object_size"}
            assert {k for k, v in vars(shown).items() if v != getattr(DEFAULT, k)} <= named, level


class Toy(torch.nn.Module):
    """Knows every class, and takes the first one where support and query lie more than `reach` apart."""

    def __init__(self, reach: float) -> None:
        super().__init__()
        self.reach = reach
        self.seen: list[tuple[list[int], list[int]]] = []

    def features(self, difficulty: Difficulty) -> Features:
        """[n, 4]: number of the image, its class, and where its object lies."""
        number = torch.arange(len(PLAN.images(DEFAULT)))
        place = torch.tensor(difficulty.position or (0.5, 0.5)).expand(len(number), 2)
        return Features(torch.cat([number[:, None], number[:, None] // PLAN.per_class, place], 1))

    def score(self, support: Tensor, query: Tensor) -> Tensor:
        self.seen.append((support[..., 0].flatten().tolist(), query[..., 0].flatten().tolist()))
        shots = support[:, None, :, 0]  # [E, 1, N, 4]
        near = (shots[..., 2:] - query[:, :, None, 2:]).norm(dim=-1) <= self.reach
        first = torch.arange(support.shape[1]) == 0
        return torch.where(near, shots[..., 1] == query[:, :, None, 1], first).float()


def played(toy: Toy, wanted: list[levels.Level]) -> dict[levels.Level, np.ndarray]:
    return {level: measure.play(toy, level, toy.features, PLAN.draws()) for level in wanted}  # type: ignore[arg-type]


def test_a_method_of_known_reach_gives_the_known_curve_on_the_same_episodes_at_every_level() -> None:
    toy = Toy(reach=0.8)
    wanted = [levels.placed(d, apart) for apart in (True, False) for d in (0.0, 0.5, 1.0)]
    found = [values.mean() for values in played(toy, wanted).values()]
    # At distance 1 four directions of eight lead along an axis, 1 apart, and four along a diagonal, 1.41 apart; at
    # distance 0.5 it is half of that, all within reach.
    assert found == pytest.approx([100, 100, 20, 100, 100, 100])
    episodes = [toy.seen[k : k + PLAN.episodes] for k in range(0, len(toy.seen), PLAN.episodes)]
    assert len(episodes) == len(wanted)
    assert all(own == episodes[0] for own in episodes)
    assert len({str(one) for one in episodes[0]}) == PLAN.episodes
    assert played(Toy(reach=1.2), wanted[2:3])[wanted[2]].mean() == pytest.approx(60)  # the axes, not the diagonals
    axis, diagonal = played(Toy(reach=1.2), [wanted[2].only(8), wanted[2].only(1)]).values()
    assert (axis.mean(), diagonal.mean()) == pytest.approx((100, 20))


def test_differences_are_paired_by_episode() -> None:
    start, far, near = levels.placed(0.0, True), levels.placed(1.0, True), levels.placed(1.0, False)
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 10, 400)  # what all methods share of an episode cancels in a difference
    base = {start: 70 + hard, far: 40 + hard, near: 50 + hard}
    mine = {level: values + rng.normal(0, 0.1, 400) for level, values in base.items()}
    mine[far] = mine[far] - 5
    rows = measure.compare({measure.BASELINE: base, "mine": mine})
    row = next(r for r in rows if r["method"] == "mine" and (r["study"], r["level"]) == ("apart", 1.0))
    known = {"accuracy": 35, "gain": -5, "fall": -35, "fall beyond": -5, "apart": -15, "apart beyond": -5}
    for entry, value in known.items():
        assert row[entry] == pytest.approx(value, abs=1.5 if entry == "accuracy" else 0.05), entry
    assert row["gain ci95"] == pytest.approx(1.96 * np.std(mine[far] - base[far], ddof=1) / 20, abs=1e-3)
    assert row["accuracy ci95"] > 20 * row["gain ci95"]
    assert all(r["gain"] == r["fall beyond"] == 0 for r in rows if r["method"] == measure.BASELINE)
    assert "apart" not in next(r for r in rows if r["study"] == "together")
    assert figures.table(rows, "apart").loc[measure.BASELINE, 1.0] == "{:.1f} ± {:.1f}".format(
        *intervals.over_episodes(base[far])
    )
    with pytest.raises(KeyError, match="nobody"):
        measure.compare({"mine": mine}, baseline="nobody")


def test_the_regular_grid_lands_on_the_object_where_it_stays_and_misses_it_where_it_went() -> None:
    torch.manual_seed(0)
    grid = DMF("conv4", 4, sampling=False, backbone_options={"width": 8}).eval()
    draws, features = PLAN.draws()[:8], measure.embedder(grid, PLAN)
    shares = [measure.landing(grid, levels.placed(d, d > 0.5), PLAN, features, draws) for d in (0.0, 1.0)]
    assert shares[0] > 40  # of nine points around a cell some lie beside a box that is not much larger
    assert shares[1] < 10


def test_a_method_of_other_weights_is_another_run_and_json_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = DMF("conv4", 4, backbone_options={"width": 8}).eval()
    wanted = [levels.placed(0.0, True), levels.all_levels()[-1]]
    plan = dataclasses.replace(PLAN, episodes=4)
    played, landed = measure.study(model, wanted, plan)
    assert list(landed) == wanted[:1], "where contrast varies, no place is given"
    monkeypatch.setattr(measure, "all_levels", lambda: wanted)
    monkeypatch.setitem(measure.METHODS, "toy", SimpleNamespace(load=lambda _: model))  # type: ignore[arg-type]
    run = {"method": "toy", "digest": provenance.digest(model), "plan": dataclasses.asdict(plan)}
    again, also = measure.study_of(json.loads(json.dumps(measure.measure_method(run, Path()))))
    assert also == landed
    assert [again[level].tolist() for level in wanted] == [played[level].tolist() for level in wanted]
    with torch.no_grad():
        model.filter_conv.weight[0, 0, 0, 0] += 1e-3
    assert key_of(run | {"digest": provenance.digest(model)}, measure.VERSION) != key_of(run, measure.VERSION)


def test_the_committed_study_is_whole_and_its_figure_shows_every_method() -> None:
    study = json.loads(measure.RESULTS.read_text())
    assert study["plan"]["episodes"] >= 200
    assert study["plan"]["query"] == 15
    assert {measure.BASELINE, "DMF", "CAN"} <= set(study["methods"])
    digests = {name: about["digest"] for name, about in study["methods"].items()}
    assert digests == {name: provenance.digest(measure.METHODS[name].load()) for name in digests}, (
        "other weights are shipped"
    )
    found = {(r["study"], r["level"], r["method"]) for r in study["rows"]}
    assert found == {(level.study, level.value, m) for level in levels.all_levels() for m in digests}
    figure = figures.figure(study["rows"])
    _, names = figure.axes[0].get_legend_handles_labels()
    assert sorted(names) == sorted(digests)
    plt.close(figure)
