"""Your own method: twenty lines are trained, compared and told about in words; a broken head gets a sentence."""

import linecache
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.methods.losses import Losses
from labkit.methods.protonet import ProtoNet
from labkit.models.registry import METHODS
from labkit.studies.ideas import Contrast
from labkit.studies.own_head import registered, source_of
from labkit.studies.your_method import Tried, looks_at, try_head
from labkit.training.heads import on_pictures
from tests.helpers.toy_maps import PICTURES, backbone, toy_maps

MAPS = toy_maps()
QUICKLY: dict[str, Any] = {"steps": 10, "seeds": (0, 1), "episodes": 8, "validation_episodes": 8}


class Mine(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Parameter(torch.ones(channels))

    def score(self, support: Tensor, query: Tensor) -> Tensor:
        means = F.normalize(support.mean((2, -2, -1)), dim=-1)
        return 10 * F.normalize(query.mean((-2, -1)) * self.weigh, dim=-1) @ means.transpose(1, 2)


@pytest.mark.integration
def test_a_head_is_trained_compared_and_told_about(tmp_path: Path) -> None:
    first = try_head(Mine, MAPS, tmp_path, **QUICKLY)
    assert first.looks == looks_at(tmp_path) == 0
    assert "on validation classes, 2 seeds" in first.verdict
    assert "Novel classes: never." in first.verdict
    assert "No system is stored" in first.verdict
    assert all(run.novel == {} for run in first.runs)
    worse = [replace(r, system="DMF", name="DMF: as the paper", validation=1.0 + r.seed / 10) for r in first.runs]
    with_novel = try_head(Mine, MAPS, tmp_path, look=True, **QUICKLY)
    assert [r.validation for r in with_novel.runs] == [r.validation for r in first.runs]
    stored = [
        replace(w, novel=r.novel | {"accuracy": 1.0 + r.seed / 10}) for w, r in zip(worse, with_novel.runs, strict=True)
    ]
    again = try_head(Mine, MAPS, tmp_path, look=True, against=stored, **QUICKLY)
    assert again.looks == 2
    assert "Novel classes were looked at 2 times" in again.verdict
    assert "Against DMF: +" in again.verdict
    assert list(again.against.index) == ["DMF"]
    renamed = [replace(run, system="Before", name="Before") for run in first.runs]
    renamed += [replace(run, system="align", name="align 1") for run in first.runs]  # a cell of Table 2, and no system
    beside = try_head(Mine, MAPS, tmp_path, against=[*renamed, *stored], **QUICKLY)
    assert list(beside.against.index) == ["DMF", "Before"]  # a head of one's own is compared with another as well
    assert not any(name.startswith("yours") for name in METHODS)
    model = on_pictures(again.model(1), backbone())
    pictures = torch.rand(1, 3, 1, 3, 24, 24), torch.rand(1, 4, 3, 24, 24)
    assert model(*pictures).shape == (1, 4, 3)
    assert PICTURES[0].size == 24


class WithLoss(Mine):
    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Tensor:
        raise AssertionError("never called")


def test_a_plain_module_with_a_loss_of_its_own_is_refused_since_it_would_not_be_called(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"WithLoss is a plain module.*labkit.methods.base.Method with loss\(support"):
        try_head(WithLoss, MAPS, tmp_path, **QUICKLY)


def test_it_says_how_far_it_is_and_uses_one_thread_meanwhile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, seen = torch.get_num_threads(), []
    monkeypatch.setattr("labkit.studies.your_method.check_head", lambda *_: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        tried = try_head(Mine, MAPS, tmp_path, **QUICKLY | {"seeds": (0,)})
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(threads)
    assert "seed 0 (1 of 1): step 10 of 10, " in capsys.readouterr().out
    assert "nan" not in tried.verdict


def test_an_idea_of_the_lab_is_tried_in_the_same_way(tmp_path: Path) -> None:
    tried = try_head(Contrast, MAPS, tmp_path, **QUICKLY | {"seeds": (0,)})
    assert tried.runs[0].weights > 1000
    assert tried.runs[0].steps == 10


class NothingToTrain(nn.Module):
    def score(self, support: Tensor, query: Tensor) -> Tensor:
        return -torch.cdist(query.flatten(2), support.mean(2).flatten(2))


@pytest.mark.integration
def test_a_head_without_weights_or_constructor_is_measured_as_it_is(tmp_path: Path) -> None:
    tried = try_head(NothingToTrain, MAPS, tmp_path, **QUICKLY)
    assert [run.weights for run in tried.runs] == [0, 0]
    assert tried.card(tmp_path / "card.json").is_file()


def test_a_head_of_a_notebook_is_known_by_its_lines() -> None:
    """A class of a cell has no file that `inspect.getsource` would read; its methods know theirs."""
    lines = "class Cell:\n    scale = 2\n\n    def score(self):\n        return 3\n"
    name = "<a cell of a notebook>"
    linecache.cache[name] = (len(lines), None, lines.splitlines(keepends=True), name)
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(lines, name, "exec"), space)
    assert source_of(space["Cell"]) == lines
    with pytest.raises(ValueError, match="the source of Bare cannot be read"):
        source_of(type("Bare", (), {}))


class WrongShape(Mine):
    def score(self, support: Tensor, query: Tensor) -> Tensor:
        return super().score(support, query).transpose(1, 2)


class Fails(Mine):
    def score(self, support: Tensor, query: Tensor) -> Tensor:
        return query.mean((-2, -1)) @ support.mean((-2, -1))


class NotANumber(Mine):
    def score(self, support: Tensor, query: Tensor) -> Tensor:
        return super().score(support, query) / 0 * 0


class NoTensor(Mine):
    def score(self, support: Tensor, query: Tensor) -> Tensor:
        return [1.0]  # type: ignore[return-value]


class NoGradient(Mine):
    def score(self, support: Tensor, query: Tensor) -> Tensor:
        return super().score(support, query).detach()


class WantsMore(ProtoNet):
    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor, boxes: Tensor) -> Losses:  # type: ignore[override]
        raise AssertionError


class PlainLoss(ProtoNet):
    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        return torch.zeros(())  # type: ignore[return-value]


class InfiniteLoss(ProtoNet):
    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        losses = super().loss(support, query, labels, base_labels)
        return replace(losses, total=losses.total * float("inf"))


@pytest.mark.parametrize(
    ("head", "kind", "sentence"),
    [
        (WrongShape, ValueError, r"scores \[E, Q, N\] = \[1, 30, 5\].*got \[1, 5, 30\]"),
        (Fails, RuntimeError, r"Fails.score failed on support \[E, N, K, c, h, w\]"),
        (NotANumber, FloatingPointError, "scores that are not finite before anything is trained"),
        (NoTensor, TypeError, "must give a tensor"),
        (NoGradient, ValueError, "does not depend on any of the head's weights"),
        (WantsMore, TypeError, "wants other things .*boxes"),
        (PlainLoss, TypeError, "must give labkit.methods.losses.Losses"),
        (InfiniteLoss, FloatingPointError, "InfiniteLoss.loss is inf"),
        (nn.Linear, TypeError, r"has no score\(support, query\)"),
        (3, TypeError, "head must be a class"),
    ],
)
def test_a_broken_head_gets_a_sentence(head: Any, kind: type[Exception], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=sentence):
        try_head(head, MAPS, tmp_path, look=True, **QUICKLY)
    assert looks_at(tmp_path) == 0  # nothing was looked at


class OtherDefaults(NothingToTrain):
    def __init__(self, temperature: float = 4.0, *, bias: float = 0.0) -> None:
        super().__init__()
        self.temperature = temperature


class ChannelsByDefault(NothingToTrain):
    def __init__(self, channels: int = 640, temperature: float = 4.0) -> None:
        super().__init__()
        self.channels, self.temperature = channels, temperature


class NeedsMore(Mine):
    def __init__(self, channels: int, width: int, *, depth: int) -> None:
        super().__init__(channels)


class NeedsByName(Mine):
    def __init__(self, *, width: int) -> None:
        super().__init__(width)


def test_a_plain_module_is_told_the_channels_where_it_asks_for_them() -> None:
    made = {}
    for head in (Mine, OtherDefaults, ChannelsByDefault):
        with registered(head) as name:
            made[head] = METHODS[name]("conv4", backbone_options={"width": 8}).head
    assert made[Mine].weigh.shape == (8,)
    assert made[OtherDefaults].temperature == made[ChannelsByDefault].temperature == 4.0
    assert made[ChannelsByDefault].channels == 8


@pytest.mark.parametrize(("head", "more"), [(NeedsMore, "width, depth"), (NeedsByName, "width")])
def test_a_plain_module_that_needs_more_is_refused(head: type[nn.Module], more: str, tmp_path: Path) -> None:
    own = head.__name__
    with pytest.raises(TypeError, match=rf"{own} is made as {own}\(channels\), and needs {more} besides: give defau"):
        try_head(head, MAPS, tmp_path, **QUICKLY)


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"look": "no"}, TypeError, "look must be True or False, got 'no'"),
        ({"look": 1}, TypeError, "look must be True or False, got 1"),
        ({"seeds": [0, 0]}, ValueError, r"seeds must be whole numbers, each once, got \[0, 0\]"),
        ({"seeds": [2**64]}, ValueError, "seed must be from 0 to"),
        ({"maps": None}, TypeError, "maps must be what labkit.studies.tables.head_runs.maps_of gives, got None"),
        ({"against": 5}, TypeError, "against must be a list of runs, .* got 5"),
        ({"against": [5]}, TypeError, "a run in against must be a labkit.studies.tables.runs.Run, got 5"),
        ({"options": ["start"]}, TypeError, "options must be a dict of a Method's options, got a list of 1"),
        ({"progress": "no"}, TypeError, "progress must be True or False, got 'no'"),
    ],
)
def test_arguments_that_cannot_be_are_refused_before_anything_is_looked_at(
    options: dict[str, Any], kind: type[Exception], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=sentence):
        try_head(**{"head": Mine, "maps": MAPS, "folder": tmp_path, "look": True} | QUICKLY | options)
    assert not list(tmp_path.iterdir())


def test_a_seed_that_was_not_trained_has_no_model() -> None:
    tried = Tried(Mine, [], "validation", pd.DataFrame(), 0, {0: Path("a"), 2: Path("b")})
    with pytest.raises(ValueError, match=r"seed must be one of \[0, 2\], with which it was trained, got 7"):
        tried.model(7)


def test_options_of_a_plain_module_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a plain module"):
        try_head(Mine, MAPS, tmp_path, options={"a": 1}, **QUICKLY)
