"""Ideas: each is a head that scores, whose own weights get a gradient, and that is DMF where it begins as DMF."""

import pytest
import torch

from labkit.dmf.model import DMF
from labkit.studies.ideas import IDEAS, CentredCosine, FiltersOfBoth, HiddenChannels, Idea, LearnedMetric
from tests.helpers.features import Features

SUPPORT, QUERY = torch.rand(2, 3, 2, 16, 4, 4), torch.rand(2, 5, 16, 4, 4)
LABELS = torch.tensor([[0, 1, 2, 0, 1], [2, 1, 0, 0, 1]])


def test_there_are_a_dozen_ideas_each_with_two_lines_of_words() -> None:
    assert len(IDEAS) == 12
    assert all(len((idea.__doc__ or "").strip().splitlines()) == 3 for idea in IDEAS)  # a sentence, a blank, a reason


@pytest.mark.parametrize("idea", IDEAS)
def test_an_idea_scores_every_query_alone_and_all_its_weights_learn(idea: type[Idea]) -> None:
    torch.manual_seed(0)
    model = idea(Features(16), classes=4)
    scores = model.score(SUPPORT, QUERY)
    assert scores.shape == (2, 5, 3)
    assert scores.isfinite().all()
    torch.testing.assert_close(model.score(SUPPORT, QUERY[:, 1:2]), scores[:, 1:2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.score(SUPPORT[1:], QUERY[1:]), scores[1:], atol=1e-5, rtol=1e-5)
    model.loss(SUPPORT, QUERY, LABELS, LABELS).total.backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert missing == []


def test_what_starts_at_zero_starts_as_dmf() -> None:
    torch.manual_seed(0)
    model = FiltersOfBoth(Features(16))
    plain = DMF(Features(16), 16, alignment="closed", score_scale=0.08)
    plain.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(model.score(SUPPORT, QUERY), plain.score(SUPPORT, QUERY), atol=1e-5, rtol=1e-5)


def test_a_cosine_is_blind_to_lengths_and_a_metric_starts_as_none() -> None:
    torch.manual_seed(0)
    model = CentredCosine(Features(16))
    scores = model.score(SUPPORT, QUERY)
    filters = model.filters(SUPPORT.mean(2), QUERY)
    maps = model.score_maps(SUPPORT.mean(2), QUERY, filters)
    longer = model.score_maps(SUPPORT.mean(2), 3 * QUERY, filters)
    torch.testing.assert_close(maps, longer)
    assert scores.abs().max() <= 10.0001
    other = LearnedMetric(Features(16))
    other.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(other.score(SUPPORT, QUERY), scores)


def test_channels_are_hidden_in_training_alone_and_alike_in_support_and_query() -> None:
    model = HiddenChannels(Features(16))
    model.backbone.forward = lambda x: x  # type: ignore[method-assign]
    support, query = model.embed_together(SUPPORT + 1, QUERY + 1)
    gone = query.sum((1, 3, 4)) == 0
    assert gone.any()
    assert not gone.all()
    assert (gone == (support.sum((1, 2, 4, 5)) == 0)).all()
    kept = model.eval().embed_together(SUPPORT, QUERY)[1]
    torch.testing.assert_close(kept, QUERY)


def test_groups_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="groups must divide"):
        Idea(Features(16), 5)
