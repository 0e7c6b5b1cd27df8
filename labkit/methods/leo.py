"""LEO (Rusu et al., "Meta-Learning with Latent Embedding Optimization", ICLR 2019).

A linear classifier of an episode's classes is decoded from a low-dimensional code of its support, and gradient descent
goes on in the space of codes; a few steps on the classifier itself follow (its section 2 and Algorithm 1). In training,
codes and classifiers are drawn from normal distributions whose means and deviations are computed; in the test they are
the means.

The gradients of those steps are written out (they are those of a linear classifier's cross-entropy), so nothing has to
be differentiated to score an episode, and autograd differentiates the steps themselves in training, to second order.

As in the released code: standard deviations are exp(u) - 1 for codes and exp(u) - 1 + sqrt(2 / (N + d)) for class
weights, and at least 1e-10; the inner loss is a sum over the support; rates of both kinds of steps are learned for
every dimension; codes and class weights are kept for every shot, and a class's logit is the mean over its shots'
copies. Features are normalised to length 1.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common.checks import Rate, Size, Times
from labkit.methods.authors import CLASSIFICATION, AuthorsTraining, Trainings
from labkit.methods.backbones import Dropout
from labkit.methods.base import Method, mean_of_shots
from labkit.methods.losses import Losses, pooled_global_loss
from labkit.methods.noise import Noise

SMALLEST = 1e-10  # of standard deviations

# A WRN-28-10 trained by classification, of which the authors published the features only; then it is frozen. They clip
# gradients at 0.1 by value and then each weight's to norm 0.1; a phase limits the norm of all together. For the
# published number they train on validation classes too.
_EPISODES = {"steps": 100_000, "size": 12, "way": 5, "query": 15, "clip_value": 0.1, "clip": 0.1}
_ADAM = {"optimiser": "adam", "learning_rate": 1e-4, "weight_decay": 0.0, "schedule": "constant"}
AUTHORS_TRAINING: Trainings = {
    shot: AuthorsTraining(
        [CLASSIFICATION, _EPISODES | _ADAM | {"shot": shot, "rates": {"backbone": 0.0}}],
        filled_in="all of the pre-training, queries of an episode",
    )
    for shot in (1, 5)
}


class Normals(NamedTuple):
    """Standard normal numbers of a training step, for the first draw and those after each step of the latents."""

    latents: Tensor  # [E, N, K, latents]
    weights: Tensor  # [E, 1 + steps, N, K, d]


@dataclass(frozen=True)
class Adapted:
    """What an episode's support leads to.

    Attributes:
        start: latents before the steps, [E, N, K, latents].
        end: latents after them.
        weights: of the classes at last, a copy for each shot, [E, N, K, d].
        divergence: of the latents' distribution from the standard normal one, at the sample; 0 in evaluation.
    """

    start: Tensor
    end: Tensor
    weights: Tensor
    divergence: Tensor


class LEO(Method):
    """A code of the support, a classifier decoded from it, and gradient steps on both.

    Args:
        latents: dimensions of a code.
        steps, fine_steps: of gradient descent on codes, then on class weights.
        rate, fine_rate: of those steps; learned, for every dimension, from these starts.
        drop: rate of dropout on the features.
        divergence_weight: of the latents' divergence (beta).
        encoder_weight: gamma, of the distance from the first codes to the last ones.
        l2_weight: of half the sum of squares of the five matrices.
        orthogonality_weight: of how far the decoder's rows are from orthogonal.
        global_weight: of a classification of the queries among all base classes. The authors' backbone is trained so
            beforehand; here both can be learned together, in one loop.
    """

    auxiliary_name = "penalties"
    authors_training: ClassVar = AUTHORS_TRAINING
    latents: Size = 64
    steps: Times = 5
    fine_steps: Times = 5
    rate: float = 1.0
    fine_rate: float = 0.001
    drop: Rate = 0.5
    divergence_weight: float = 0.001
    encoder_weight: float = 1e-9
    l2_weight: float = 1e-8
    orthogonality_weight: float = 0.001
    global_weight: float = 0.0

    def build(self) -> None:
        c, z = self.channels, self.latents
        self.encoder, self.decoder = nn.Linear(c, z, bias=False), nn.Linear(z, 2 * c, bias=False)
        self.relation = nn.Sequential(
            nn.Linear(2 * z, 2 * z, bias=False),
            nn.ReLU(),
            nn.Linear(2 * z, 2 * z, bias=False),
            nn.ReLU(),
            nn.Linear(2 * z, 2 * z, bias=False),
        )
        for matrix in self.matrices():
            nn.init.xavier_uniform_(matrix)
        self.rates = nn.Parameter(torch.full((z,), float(self.rate)))
        self.fine_rates = nn.Parameter(torch.full((c,), float(self.fine_rate)))
        self.normals = _Normals()
        # One for the encoder, one for each step, one for the queries: a layer draws the same whenever it is asked.
        self.drops = nn.ModuleList(Dropout(self.drop) for _ in range(2 + self.steps + self.fine_steps))
        self.global_classifier = nn.Linear(c, self.classes)  # only for the backbone's own training

    def matrices(self) -> list[Tensor]:
        """The five matrices of encoder, relation network and decoder."""
        layers = [self.encoder, *self.relation, self.decoder]
        return [layer.weight for layer in layers if isinstance(layer, nn.Linear)]

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        with torch.autocast(support.device.type, enabled=False):
            shots, queries = (F.normalize(x.mean((-2, -1)), dim=-1) for x in (support, query))
            return self.logits(queries, self.adapt(shots, support_mask).weights, support_mask)

    def logits(self, vectors: Tensor, weights: Tensor, mask: Tensor | None = None) -> Tensor:
        """Of features [E, Q, d], with class weights [E, N, K, d]: [E, Q, N]."""
        logits: Tensor = self.drops[-1](vectors) @ mean_of_shots(weights, mask).transpose(1, 2)
        return logits

    def adapt(self, shots: Tensor, mask: Tensor | None = None, normals: Normals | None = None) -> Adapted:
        """Codes and class weights of a support, and the gradient steps on both (Algorithm 1).

        Args:
            shots: normalised features, [E, N, K, d].
            mask: bool [E, N, K], shots that exist.
            normals: numbers to draw with, in training; by default this model's own.
        """
        e, n, k = shots.shape[:3]
        there = shots.new_ones(e, n, k) if mask is None else mask.to(shots)
        if self.training and normals is None:
            normals = Normals(*(drawn.to(shots) for drawn in self.normals(shots, self.latents, self.steps)))
        mean, deviation = self.encode(self.drops[0](shots), there)
        start = z = mean if normals is None else mean + deviation * normals.latents
        divergence = mean.new_zeros(()) if normals is None else _divergence(z, deviation, normals.latents)
        for step in range(self.steps):
            drawn = None if normals is None else normals.weights[:, step]
            slope = self.slope(shots, self.decode(z, drawn), there, step)
            z = z - self.rates * self.slope_of_codes(slope, z, drawn)
        weights = self.decode(z, None if normals is None else normals.weights[:, self.steps])
        for step in range(self.steps, self.steps + self.fine_steps):
            weights = weights - self.fine_rates * self.slope(shots, weights, there, step)
        return Adapted(start, z, weights, divergence)

    def encode(self, shots: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Means and deviations of the codes, [E, N, K, latents] both, equal for the shots of a class.

        The relation network sees all ordered pairs of shots; its answers are averaged over the second of a pair, then
        over the shots of a class.
        """
        n, k = there.shape[1:]
        codes = self.encoder(shots).flatten(1, 2)  # [E, M, latents]
        m = n * k
        pairs = torch.cat([codes.unsqueeze(2).expand(-1, -1, m, -1), codes.unsqueeze(1).expand(-1, m, -1, -1)], dim=-1)
        others = there.flatten(1)[:, None, :, None]  # [E, 1, M, 1]
        seen = (self.relation(pairs) * others).sum(2) / others.sum(2)
        of_class = (seen.unflatten(1, (n, k)) * there.unsqueeze(-1)).sum(2) / there.sum(2).unsqueeze(-1)
        mean, logarithm = of_class.unsqueeze(2).expand(-1, -1, k, -1).chunk(2, dim=-1)
        return mean, (logarithm.exp() - 1).clamp(min=SMALLEST)

    def decode(self, codes: Tensor, drawn: Tensor | None = None) -> Tensor:
        """Class weights [E, N, K, d] of codes [E, N, K, latents]: the means, or samples by what was `drawn`."""
        if drawn is None:
            return F.linear(codes, self.decoder.weight[: self.channels])
        mean, logarithm = F.linear(codes, self.decoder.weight).chunk(2, dim=-1)
        return mean + (logarithm.exp() - self._offset(codes)).clamp(min=SMALLEST) * drawn

    def slope(self, shots: Tensor, weights: Tensor, there: Tensor, step: int) -> Tensor:
        """The gradient of the support's summed cross-entropy by class weights [E, N, K, d]."""
        n, k = there.shape[1:]
        x = self.drops[1 + step](shots).flatten(1, 2)
        logits = x @ mean_of_shots(weights, there).transpose(1, 2)
        labels = torch.arange(n, device=shots.device).repeat_interleave(k)
        wrong = (logits.softmax(-1) - F.one_hot(labels, n)) * there.flatten(1).unsqueeze(-1)
        of_class = wrong.transpose(1, 2) @ x  # [E, N, d]
        share = there / there.sum(2, keepdim=True)  # a copy's part in its class's mean
        slope: Tensor = of_class.unsqueeze(2) * share.unsqueeze(-1)
        return slope

    def slope_of_codes(self, slope: Tensor, codes: Tensor, drawn: Tensor | None = None) -> Tensor:
        """The gradient by codes from that by the class weights decoded from them: `decode`, backwards."""
        matrix: Tensor = self.decoder.weight
        of_mean, of_deviation = matrix[: self.channels], matrix[self.channels :]
        if drawn is None:
            return slope @ of_mean
        grown = F.linear(codes, of_deviation).exp()
        free = grown - self._offset(codes) > SMALLEST
        return slope @ of_mean + (slope * drawn * grown * free) @ of_deviation

    def _offset(self, codes: Tensor) -> float:
        """What is taken from exp(u), so that a code of zero has the deviation sqrt(2 / (N + d))."""
        return 1 - math.sqrt(2 / (codes.shape[1] + self.channels))

    def penalties(self, adapted: Adapted) -> Tensor:
        """All terms beside the queries' cross-entropy; the distance of codes only in training."""
        columns = F.normalize(self.decoder.weight, dim=0)
        eye = torch.eye(self.latents, dtype=columns.dtype, device=columns.device)
        total = self.divergence_weight * adapted.divergence
        total = total + self.l2_weight / 2 * torch.stack([m.square().sum() for m in self.matrices()]).sum()
        total = total + self.orthogonality_weight * (columns.T @ columns - eye).square().mean()
        if self.training:
            total = total + self.encoder_weight * (adapted.end.detach() - adapted.start).square().mean()
        return total

    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """Cross-entropy of the queries with the adapted classifier, and penalties."""
        of_support, of_query = self.embed_together(support, query)
        with torch.autocast(query.device.type, enabled=False):
            shots, queries = (F.normalize(x.mean((-2, -1)), dim=-1) for x in (of_support, of_query))
            adapted = self.adapt(shots)
            scores = self.logits(queries, adapted.weights)
            few_shot = F.cross_entropy(scores.flatten(0, 1), labels.flatten())
            auxiliary = self.penalties(adapted)
            total = few_shot + auxiliary
            if self.global_weight:
                total = total + self.global_weight * pooled_global_loss(self.global_classifier, of_query, base_labels)
            return Losses(total, few_shot, auxiliary, scores)


def _divergence(z: Tensor, deviation: Tensor, drawn: Tensor) -> Tensor:
    """log N(z; mean, deviation) - log N(z; 0, 1) at z = mean + deviation drawn, the mean over entries."""
    return (z.square() / 2 - drawn.square() / 2 - deviation.log()).mean()


class _Normals(Noise):
    """Normal numbers for the draws of a training step."""

    def forward(self, shots: Tensor, latents: int, steps: int) -> Normals:
        n, k, d = shots.shape[1:]
        drawn = self.draw_normal(shots, n * k * (latents + (1 + steps) * d))
        codes, weights = drawn.split([n * k * latents, (1 + steps) * n * k * d], dim=1)
        return Normals(codes.unflatten(1, (n, k, latents)), weights.unflatten(1, (1 + steps, n, k, d)))
