"""Presets are the strongest views of an effect, and the search over episodes finds them."""

import numpy as np
import pytest
import torch

import labkit
from labkit.explorer.precompute import embed, points_of, score
from labkit.explorer.presets import Found, find, margins, search, strongest, views_of
from labkit.explorer.tasks import tasks_of


@pytest.fixture(scope="module")
def images() -> labkit.ImageSet:
    return labkit.load_images("glyphs-mini", "test", size=40, per_class=200, progress=False)


@pytest.fixture(scope="module")
def model() -> labkit.DMF:
    found: labkit.DMF = labkit.load_model("quick")
    return found


def test_a_margin_is_the_lead_over_the_best_other_class_as_a_share_of_the_spread() -> None:
    scores, labels = torch.tensor([[3.0, 1.0, 2.5], [0.0, 4.0, 1.0]]), torch.tensor([0, 2])
    lead, rival = margins(scores, labels)
    assert lead.tolist() == [0.25, -0.75]
    assert rival.tolist() == [2, 1]
    grown, _ = margins(2 * scores + 1, labels)
    assert grown.tolist() == lead.tolist(), "what all scores have in common makes no lead"
    two, _ = margins(torch.tensor([[4.0, 3.0], [2.0, 2.0], [0.0, 0.0]]), torch.tensor([0, 1, 1]))
    assert two.tolist() == [0.25, 0, 0]


@torch.inference_mode()
def test_views_are_what_they_are_called(images: labkit.ImageSet, model: labkit.DMF) -> None:
    seen = set()
    for task in tasks_of(images, range(12)):
        features = embed(model, task)
        x_supp, x_q = features.x_supp, features.x_q
        labels = torch.tensor(task.labels)
        now, _ = margins(score(model, x_supp, x_q, points_of(model, "trained", x_supp, x_q)), labels)
        bare, _ = margins(score(model, x_supp, x_q), labels)
        for name, view in views_of(model, task, features).items():
            seen.add(name)
            q = view.state["query"]
            assert view.state["support_class"] == labels[q]
            assert view.strength > 0
            if name == "sure":
                assert bare[q] > 0
                assert now[q] == now[bare > 0].max() >= 0.5
            if name == "helped":
                assert bare[q] < 0 < now[q]
            if name == "harmed":
                assert now[q] < 0 < bare[q]
            if name == "hopeless":
                assert max(now[q], bare[q]) < 0
            if name == "far":
                cell = points_of(model, "trained", x_supp, x_q)[
                    0, q, labels[q], :, :, view.state["row"], view.state["column"]
                ]
                outside = ((cell < -0.5) | (cell > 4.5)).any(1).sum()
                assert f"{outside} of the 9 points" in view.why
                beyond = torch.maximum(-0.5 - cell, cell - 4.5).clamp(min=0).norm(dim=1).mean()
                assert beyond >= 1, "a cell and more, in the mean"
            elif name != "another class":
                assert view.why.startswith((f"'{task.names[labels[q]]}'", "Without alignment '"))
    assert {"sure", "helped", "hopeless", "far", "another class"} <= seen


@pytest.mark.integration
def test_the_search_keeps_the_tasks_of_the_strongest_views(images: labkit.ImageSet, model: labkit.DMF) -> None:
    tasks = tasks_of(images, range(8))
    strongest = find(model, tasks, {n: embed(model, task) for n, task in enumerate(tasks)})
    kept = search(model, images, range(8))
    assert {t.title for t in kept} == {tasks[p["state"]["task"]].title for p in strongest}
    again = find(model, kept, {n: embed(model, task) for n, task in enumerate(kept)})
    assert [(p["title"], p["why"]) for p in again] == [(p["title"], p["why"]) for p in strongest]

    few = search(model, images, range(8), most=2)
    assert [t.title for t in few] == [t.title for t in kept if t.title in {f.title for f in few}]
    assert len(few) == 2
    rare = find(model, few, {n: embed(model, task) for n, task in enumerate(few)})
    first = next(p for p in strongest if p["title"] != "A sure answer")
    assert first["why"] in {p["why"] for p in rare}


def test_no_view_is_shown_under_two_names() -> None:
    def view(strength: float, row: int) -> Found:
        return Found(strength, "", "", {"task": 0, "row": row})

    found = strongest([{"far": view(3, 1), "sure": view(9, 1)}, {"sure": view(2, 4)}, {"helped": view(1, 2)}])
    assert {name: (v.strength, v.state["row"]) for name, v in found.items()} == {
        "helped": (1, 2),
        "far": (3, 1),
        "sure": (2, 4),
    }
    assert set(strongest([{"far": view(3, 1), "sure": view(9, 1)}])) == {"far"}


@torch.inference_mode()
def test_filters_are_larger_where_the_support_is_strong_as_the_gain_stage_says(
    images: labkit.ImageSet, model: labkit.DMF
) -> None:
    def centred(values: torch.Tensor) -> torch.Tensor:
        found = values.movedim(2, -1).flatten(0, -2)
        return found - found.mean(1, keepdim=True)

    found = []
    for task in tasks_of(images, range(8)):
        features = embed(model, task)
        x_supp, x_q = features.x_supp, features.x_q
        filters = model.filters(x_supp, x_q, points_of(model, "trained", x_supp, x_q))[0, :, :, :, 0]  # [Q, N, g, h, w]
        of_class = model.class_weights(x_supp)[0].unflatten(1, (model.groups, -1)).mean(2)
        own = centred(of_class[None, :, :, None, None].expand_as(filters))
        found.append(torch.cosine_similarity(centred(filters), own).mean())
    assert 0.4 < torch.stack(found).mean() < 0.8  # by and large, not all of them


def test_without_labels_or_rivals_there_is_none(images: labkit.ImageSet, model: labkit.DMF) -> None:
    (task,) = tasks_of(images, [0], way=1)
    assert views_of(model, task, embed(model, task)) == {}
    (task,) = tasks_of(images, [0])
    nobody_knows = task.__class__(task.title, task.names, task.support, task.query, task.shots)
    assert views_of(model, nobody_knows, embed(model, nobody_knows)) == {}
    assert np.isfinite(embed(model, task).x_q.numpy()).all()
