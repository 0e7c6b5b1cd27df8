"""SNAIL (Mishra et al., "A Simple Neural Attentive Meta-Learner", ICLR 2018).

An episode is a sequence: its supports, each with its label, and one query without a label at the end. Causal
convolutions and causal attention read it (its section 3), and what stands at the last place is the answer.

The authors released no code. The numbers this file is tested on come from an unofficial port, which takes the softmax
of its attention over the positions that ask; `softmax="queries"` is that form. The paper's, and the default, goes over
the positions that are looked at. The port's results on miniImageNet were never reported.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common import checks
from labkit.common.checks import Size
from labkit.methods.authors import AuthorsTraining, Trainings
from labkit.methods.base import Method
from labkit.methods.noise import Noise, uniform

# The port's training, from scratch, with a network of its own in front (384 numbers, dropout 0.9); the paper trains its
# own residual network with it, end to end. The port has one query in each of its 32 episodes a step, here every class
# has one.
_EPISODES = {"steps": 50_000, "size": 32, "way": 5, "query": 1, "schedule": "constant"}
_ADAM = {"optimiser": "adam", "learning_rate": 1e-4, "weight_decay": 0.0}
AUTHORS_TRAINING: Trainings = {
    shot: AuthorsTraining([_EPISODES | _ADAM | {"shot": shot}], {"way": 5, "shot": shot}, filled_in="the length")
    for shot in (1, 5)
}


class SNAIL(Method):
    """Attention, temporal convolution, attention, temporal convolution, attention, and a linear layer.

    The order of the supports is drawn for every episode in training, and one and the same in evaluation, where it must
    not depend on what else is in the batch. It carries no meaning, but the answer depends on it a little.

    Args:
        way, shot: N and K of all its episodes; its layers are made for sequences of N K + 1.
        keys, values: widths of the three attentions, each pair for one.
        filters: width of the temporal convolutions.
        softmax: over ``"keys"``, as in the paper, or over ``"queries"``, as in the port.

    Raises:
        ValueError: an episode of another way or shot, classes with unequal numbers of shots, or unknown names.
    """

    authors_training: ClassVar = AUTHORS_TRAINING
    way: Size = 5
    shot: Size = 1
    keys: Sequence[int] = (64, 256, 512)
    values: Sequence[int] = (32, 128, 256)
    filters: Size = 128
    softmax: Literal["keys", "queries"] = "keys"

    def build(self) -> None:
        for name in ("keys", "values"):
            sizes = checks.several(name, getattr(self, name), "three sizes of attention")
            setattr(self, name, [checks.check_int(f"each of {name}", size) for size in sizes])
        if len(self.keys) != len(self.values):
            raise ValueError(f"keys and values must be as many, got {len(self.keys)} and {len(self.values)}")
        self.options |= {"keys": self.keys, "values": self.values}  # lists, as a file of a model has them
        dilations = [2**i for i in range(1, math.ceil(math.log2(self.way * self.shot + 1)) + 1)]
        layers: list[nn.Module] = []
        width = self.channels + self.way
        for i, (key, value) in enumerate(zip(self.keys, self.values, strict=True)):
            layers.append(Attention(width, key, value, over_queries=self.softmax == "queries"))
            width += value
            if i < 2:
                layers.append(TemporalConvolution(width, dilations, self.filters))
                width += len(dilations) * self.filters
        self.layers = nn.Sequential(*layers, nn.Linear(width, self.way))
        self.shuffle = Noise()

    def answers(self, support: Tensor, labels: Tensor, query: Tensor) -> Tensor:
        """The network's output at every place: supports [B, T - 1, c], their labels [B, T - 1], queries [B, c].

        Returns:
            [B, T, N]; the last place is the query's.
        """
        known = torch.cat([support, F.one_hot(labels, self.way).to(support.dtype)], dim=-1)
        out: Tensor = self.layers(torch.cat([known, F.pad(query, (0, self.way)).unsqueeze(1)], dim=1))
        return out

    def last_answers(self, support: Tensor, labels: Tensor, query: Tensor) -> Tensor:
        """`answers` at the last place, of queries [E, Q, c] each after its episode's supports [E, T - 1, c]: [E, Q, N].

        No place looks ahead, so that what stands at the supports is the same for all queries, and is computed once an
        episode. With the softmax of the port it is not: there the last place has a share in the columns of all.
        """
        x = torch.cat([support, F.one_hot(labels, self.way).to(support.dtype)], dim=-1)
        last = F.pad(query, (0, self.way))
        *layers, read = self.layers
        for layer in layers:
            grown = layer(x)
            x, last = grown, cast("Attention | TemporalConvolution", layer).after(x, grown, last)
        out: Tensor = read(last)
        return out

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        e, n, k = support.shape[:3]
        if (n, k) != (self.way, self.shot):
            raise ValueError(
                f"this SNAIL reads episodes of {self.way} classes with {self.shot} shots each, and was given {n} "
                f"classes with {k}: train one with way={n}, shot={k}"
            )
        if support_mask is not None and not support_mask.all():
            raise ValueError("SNAIL reads a sequence of fixed length, in which no shot can be missing")
        with torch.autocast(support.device.type, enabled=False):
            if self.training:
                places = self.shuffle.draw(support, n * k)
            else:
                places = uniform(torch.zeros(1, dtype=torch.int32, device=support.device), n * k).expand(e, -1)
            order = places.argsort(-1)  # [E, N K]
            s, q = support.mean((-2, -1)).flatten(1, 2), query.mean((-2, -1))
            s, labels = s.gather(1, order.unsqueeze(-1).expand_as(s)), order // k
            if self.softmax == "keys":
                return self.last_answers(s, labels, q)
            s, labels = s.repeat_interleave(q.shape[1], 0), labels.repeat_interleave(q.shape[1], 0)
            return self.answers(s, labels, q.flatten(0, 1))[:, -1].view(e, -1, n)


class Attention(nn.Module):
    """Append to every place what it reads at itself and before (its attention block)."""

    def __init__(self, width: int, key: int, value: int, over_queries: bool) -> None:
        super().__init__()
        self.to_query, self.to_key, self.to_value = (nn.Linear(width, out) for out in (key, key, value))
        self.axis = 1 if over_queries else 2

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, width] to [B, T, width + value]."""
        logits = self.to_query(x) @ self.to_key(x).mT / self.to_key.out_features**0.5  # [B, who asks, who is asked]
        later = torch.ones(logits.shape[1:], dtype=torch.bool, device=x.device).triu(1)
        weights = logits.masked_fill(later, float("-inf")).softmax(self.axis)
        return torch.cat([x, weights @ self.to_value(x)], dim=-1)

    def after(self, x: Tensor, grown: Tensor, last: Tensor) -> Tensor:
        """`forward` at a last place after x [E, T - 1, width], for each of [E, Q, width] that may stand there.

        `grown` is what it makes of x.
        """
        asks, scale = self.to_query(last), self.to_key.out_features**0.5
        before, own = asks @ self.to_key(x).mT, (asks * self.to_key(last)).sum(-1, keepdim=True)
        of_before, of_own = (torch.cat([before, own], dim=-1) / scale).softmax(-1).split([x.shape[1], 1], dim=-1)
        return torch.cat([last, of_before @ self.to_value(x) + of_own * self.to_value(last)], dim=-1)


class TemporalConvolution(nn.Module):
    """Dense blocks of growing dilation: each appends gated features of two places (its dense and TC blocks)."""

    def __init__(self, width: int, dilations: list[int], filters: int) -> None:
        super().__init__()
        widths = [width + i * filters for i in range(len(dilations))]
        self.dilations = dilations
        self.filter = nn.ModuleList(
            nn.Conv1d(w, filters, 2, dilation=d) for w, d in zip(widths, dilations, strict=True)
        )
        self.gate = nn.ModuleList(nn.Conv1d(w, filters, 2, dilation=d) for w, d in zip(widths, dilations, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, width] to [B, T, width + filters * blocks]."""
        x = x.mT
        for dilation, to_filter, to_gate in zip(self.dilations, self.filter, self.gate, strict=True):
            past = F.pad(x, (dilation, 0))  # zeros before the start
            x = torch.cat([x, to_filter(past).tanh() * to_gate(past).sigmoid()], dim=1)
        return x.mT

    def after(self, x: Tensor, grown: Tensor, last: Tensor) -> Tensor:
        """See `Attention.after`."""
        for dilation, to_filter, to_gate in zip(self.dilations, self.filter, self.gate, strict=True):
            width = last.shape[-1]
            past = grown[:, -dilation, None, :width] if dilation <= x.shape[1] else x.new_zeros(len(x), 1, width)
            filtered, gate = (_at(cast(nn.Conv1d, part), past, last) for part in (to_filter, to_gate))
            last = torch.cat([last, filtered.tanh() * gate.sigmoid()], dim=-1)
        return last


def _at(convolution: nn.Conv1d, past: Tensor, now: Tensor) -> Tensor:
    """A convolution of two places, at one: [E, 1, width], [E, Q, width] to [E, Q, filters]."""
    before, own = convolution.weight.unbind(-1)
    return F.linear(now, own, convolution.bias) + F.linear(past, before)
