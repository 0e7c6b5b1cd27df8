"""MatchingNet against the numbers of the code that it follows."""

import pytest
import torch

from labkit.methods.matchingnet import MatchingNet
from tests.helpers.features import Features
from tests.helpers.rival_episodes import check_episode
from tests.helpers.rival_golden import SCORES, check, golden, put_weights

GATES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
NAMES = {f"context_of_query.{g}": f"FCE.lstmcell.{g}" for g in GATES} | {
    f"context_of_support.{g}_l0{way}": f"G_encoder.{g}_l0{way}" for g in GATES for way in ("", "_reverse")
}


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("form", ["plain", "context"])
def test_it_is_the_code_it_follows(shots: int, form: str) -> None:
    arrays = golden("matchingnet")
    model = MatchingNet(Features(8), context=form == "context", cells=4).double()
    if form == "context":
        put_weights(model, arrays, "weights/", NAMES)
        s, q = arrays[f"k{shots}/support"].flatten(0, 1).flatten(1), arrays[f"k{shots}/query"].flatten(1)
        with torch.no_grad():
            found = model.in_context(s[None], q[None])
        for name, vectors in zip(("support", "query"), found, strict=True):
            check(f"{name} in context", vectors[0], arrays[f"k{shots}/context/{name}_in_context"], SCORES)
    check_episode(model, arrays, shots, f"{form}/")


def test_the_paper_has_the_bare_cosine() -> None:
    torch.manual_seed(0)
    support, query = torch.randn(1, 3, 2, 4, 1, 1).double(), torch.randn(1, 5, 4, 1, 1).double()
    scores = MatchingNet(Features(4), scale=1.0, relu=False).score(support, query)
    s, q = support[0].flatten(0, 1)[..., 0, 0], query[0, :, :, 0, 0]
    cosines = torch.cosine_similarity(q[:, None], s[None], dim=-1)
    torch.testing.assert_close(scores[0].exp(), cosines.softmax(-1).view(5, 3, 2).sum(-1), atol=1e-4, rtol=0)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="steps must be from 0 to 1000, got 1001"):
        MatchingNet(Features(4), steps=1001)
    with pytest.raises(ValueError, match="vectors of 16 numbers, and was given 8"):
        MatchingNet(Features(4), context=True, cells=4).score(torch.zeros(1, 2, 1, 4, 1, 2), torch.zeros(1, 1, 4, 1, 2))
