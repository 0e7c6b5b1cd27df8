"""Matching Networks (Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016).

The authors released no code; that of wyharveychen/CloserLookFewShot is followed. It multiplies the cosines by 100 and
cuts those below 0, where the paper's Eq. 1 has the bare cosine: `scale` 1 and `relu` False.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common.checks import Times
from labkit.methods.authors import AuthorsTraining, Trainings
from labkit.methods.base import Method, read_out
from labkit.methods.losses import Losses

# The training of that code, 600 epochs of 100 episodes at one shot and 400 at five; Conv4, or a ResNet whose map is
# pooled.
_EPISODES = {"size": 1, "way": 5, "query": 16, "schedule": "constant", "validate_every": 100}
_ADAM = {"optimiser": "adam", "learning_rate": 1e-3, "weight_decay": 0.0}
AUTHORS_TRAINING: Trainings = {
    shot: AuthorsTraining([_EPISODES | _ADAM | {"shot": shot, "steps": steps}])
    for shot, steps in ((1, 60_000), (5, 40_000))
}


class MatchingNet(Method):
    """A query's label is the mean of the support's labels, weighed by a softmax of cosines (Eq. 1).

    Args:
        read: ``"map"``, the flattened map, as the code does, or ``"mean"`` over its cells.
        scale: multiplies the cosines before the softmax.
        relu: cut cosines below 0.
        context: "full context embeddings" (section 2.1.2 and its appendix), with which the published 43.6 and 55.3 %
            were made. The support is a sequence, class by class, for a bidirectional LSTM, and the answer depends on
            that order. Off by default, since its weights grow with the square of what is read: 72 million for a Conv4
            map of 1600 numbers.
        steps: of the attention LSTM with which queries look at the support; None is one for every support picture.
        cells: h w of the map where `context` reads it flattened: the LSTMs' width depends on it.
    """

    authors_training: ClassVar = AUTHORS_TRAINING
    options_before: ClassVar = {"read": "mean", "relu": False}
    read: Literal["map", "mean"] = "map"
    scale: float = 100.0
    relu: bool = True
    context: bool = False
    steps: Times | None = None
    cells: int = 25

    def build(self) -> None:
        if self.context:
            self.width = self.channels * (self.cells if self.read == "map" else 1)
            self.context_of_support = nn.LSTM(self.width, self.width, bidirectional=True, batch_first=True)
            self.context_of_query = nn.LSTMCell(2 * self.width, self.width)

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Logarithms of the labels' probabilities, 1e-6 added; see `Method.score`.

        Raises:
            ValueError: with context, a map of another number of cells.
        """
        with torch.autocast(support.device.type, enabled=False):
            n, k = support.shape[1:3]
            s, q = read_out(support.flatten(1, 2), self.read), read_out(query, self.read)  # [E, N K, d], [E, Q, d]
            missing = None if support_mask is None else ~support_mask.flatten(1, 2)
            if self.context:
                s, q = self.in_context(s, q, missing)
            s, q = (x / (x.norm(dim=-1, keepdim=True) + 1e-5) for x in (s, q))
            cosines = torch.einsum("eqd,esd->eqs", q, s)
            cosines = self.scale * (cosines.relu() if self.relu else cosines)
            if missing is not None:
                cosines = cosines.masked_fill(missing.unsqueeze(1), float("-inf"))
            of_class: Tensor = cosines.softmax(-1).unflatten(-1, (n, k)).sum(-1)
            return (of_class + 1e-6).log()

    def in_context(self, s: Tensor, q: Tensor, missing: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """g(x_i, S) and f(x, S): each support picture in view of the others, each query in view of the support.

        Args:
            s, q: [E, N K, d] and [E, Q, d].
            missing: [E, N K], support pictures that queries do not look at.
        """
        if s.shape[-1] != self.width:
            raise ValueError(f"this MatchingNet reads vectors of {self.width} numbers, and was given {s.shape[-1]}")
        both = self.context_of_support(s)[0]
        s = s + both[..., : self.width] + both[..., self.width :]
        start = q.flatten(0, 1)  # [E Q, d]
        hidden, cell = start, torch.zeros_like(start)
        for _ in range(s.shape[1] if self.steps is None else self.steps):
            weights = torch.einsum("eqd,esd->eqs", hidden.view_as(q), s)
            if missing is not None:
                weights = weights.masked_fill(missing.unsqueeze(1), float("-inf"))
            read = (weights.softmax(-1) @ s).flatten(0, 1)
            out, cell = self.context_of_query(torch.cat([start, read], -1), (hidden, cell))
            hidden = out + start
        return s, hidden.view_as(q)

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Negative log-likelihood of the queries' labels (Eq. 6); there is no global loss."""
        scores = self.score(*self.embed_together(support, query))
        few_shot = F.nll_loss(scores.flatten(0, 1), labels.flatten())
        return Losses.of_queries(few_shot, scores)
