"""Matching Networks (Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.methods.base import Losses, Method

MAX_STEPS = 100  # a model's file says how many, and must not keep its reader busy for ever


class MatchingNet(Method):
    """A query's label is the mean of the support's labels, weighed by a softmax of cosines (Eq. 1).

    Args:
        backbone, classes, backbone_options: see `Method`; it has no global classifier, so `classes` is ignored.
        scale: multiplies the cosines before the softmax; the paper's 1 leaves it nearly flat.
        steps: of the attention LSTM with which queries look at the support ("full context embeddings", section 2.1.2
            and its appendix); 0 leaves features as the backbone gives them. With them the support is a sequence,
            in the order of its classes, for a bidirectional LSTM, and the answer depends on that order.
    """

    scale: float = 1.0
    steps: int = 0

    def build(self) -> None:
        """See `Method.build`."""
        if not 0 <= self.steps <= MAX_STEPS:
            raise ValueError(f"steps must be from 0 to {MAX_STEPS}, got {self.steps}")
        if self.steps:
            self.of_support = nn.LSTM(self.channels, self.channels, bidirectional=True, batch_first=True)
            self.of_query = nn.LSTMCell(2 * self.channels, self.channels)

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Logarithms of the label's probabilities; see `Method.score`."""
        with torch.autocast(support.device.type, enabled=False):
            n, k = support.shape[1:3]
            s, q = support.mean((-2, -1)).flatten(1, 2), query.mean((-2, -1))  # [E, N K, c], [E, Q, c]
            missing = None if support_mask is None else ~support_mask.flatten(1, 2)
            if self.steps:
                s, q = self._in_context(s, q, missing)
            cosines = self.scale * torch.einsum("eqc,esc->eqs", F.normalize(q, dim=-1), F.normalize(s, dim=-1))
            if missing is not None:
                cosines = cosines.masked_fill(missing.unsqueeze(1), float("-inf"))
            return cosines.log_softmax(-1).view(*cosines.shape[:2], n, k).logsumexp(-1)

    def _in_context(self, s: Tensor, q: Tensor, missing: Tensor | None) -> tuple[Tensor, Tensor]:
        """g(x_i, S) and f(x, S): each support picture in view of the others, each query in view of the support."""
        both = self.of_support(s)[0]
        s = s + both[..., : self.channels] + both[..., self.channels :]
        e, count, c = q.shape
        start, rows = q.reshape(-1, c), s.repeat_interleave(count, 0)  # [E Q, c], [E Q, N K, c]
        hidden, cell = start, torch.zeros_like(start)
        read = rows.mean(1)
        for _ in range(self.steps):
            out, cell = self.of_query(torch.cat([start, read], -1), (hidden, cell))
            hidden = out + start
            weights = torch.einsum("bc,bsc->bs", hidden, rows)
            if missing is not None:
                weights = weights.masked_fill(missing.repeat_interleave(count, 0), float("-inf"))
            read = torch.einsum("bs,bsc->bc", weights.softmax(-1), rows)
        return s, hidden.view(e, count, c)

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Negative log-likelihood of the queries' labels (Eq. 6); there is no global loss."""
        scores = self.score(*self.embed_together(support, query))
        few_shot = F.nll_loss(scores.flatten(0, 1), labels.flatten())
        return Losses(few_shot, few_shot, torch.zeros_like(few_shot), scores)
