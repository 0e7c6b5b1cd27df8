"""A head of somebody's own: a module as a method, known to the lab meanwhile, and checked before it is trained."""

import ast
import inspect
import linecache
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.feature_set import FeatureSet
from labkit.methods.base import Method
from labkit.methods.losses import Losses
from labkit.methods.noise import set_keys
from labkit.models.registry import METHODS
from labkit.training.feeds import EpisodeFeed
from labkit.training.heads import head_experiment
from labkit.training.loop import build_model
from labkit.training.phases import Phase

LOSS = "loss(support, query, labels, base_labels)"


class OfModule(Method):
    """A module with ``score(support, query)`` as a method, trained by the cross-entropy of its scores.

    The module is made with the number of channels where the first argument of its constructor is called `channels` or
    has no default, and with nothing else.

    Raises:
        TypeError: its constructor needs more than the channels.
        ValueError: a class has fewer shots than others, which a module is not told of.
    """

    kind: ClassVar[type[nn.Module]]

    def build(self) -> None:
        any_number = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)  # nn.Module's own constructor
        wanted = [p for p in inspect.signature(self.kind).parameters.values() if p.kind not in any_number]
        needed = [p.name for p in wanted if p.default is p.empty]
        first = wanted[0].name if wanted and wanted[0].kind is not inspect.Parameter.KEYWORD_ONLY else None
        given = [self.channels] if first == "channels" or first in needed else []
        if missing := [name for name in needed if not (given and name == first)]:
            own = self.kind.__name__
            raise TypeError(f"{own} is made as {own}(channels), and needs {', '.join(missing)} besides: give defaults")
        self.head = self.kind(*given)

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        if support_mask is not None and not support_mask.all():
            raise ValueError("a head without support_mask needs as many shots of every class")
        with torch.autocast(support.device.type, enabled=False):
            found: Tensor = self.head.score(support, query)  # type: ignore[operator]
            return found


@contextmanager
def registered(head: type[nn.Module]) -> Iterator[str]:
    """A head among the lab's methods meanwhile, under the name that is given: `load_model` reads its files then.

    Raises:
        TypeError: it is no class of a module, has no `score`, or is a plain module with a `loss`.
    """
    if not (isinstance(head, type) and issubclass(head, nn.Module)):
        raise TypeError(f"head must be a class, a Method or an nn.Module with score(support, query), got {head!r:.80}")
    if not callable(getattr(head, "score", None)):
        raise TypeError(f"{head.__name__} has no score(support, query), which says how like every query is to a class")
    if not issubclass(head, Method) and hasattr(head, "loss"):
        raise TypeError(
            f"{head.__name__} is a plain module, trained by the cross-entropy of its scores, and its loss would never "
            f"be called: take it away, or make the head a labkit.methods.base.Method with {LOSS}"
        )
    method = head if issubclass(head, Method) else type(head.__name__, (OfModule,), {"kind": head})
    name = f"yours: {head.__name__}"
    before = METHODS.get(name)
    METHODS[name] = method
    try:
        yield name
    finally:
        if before is None:
            del METHODS[name]
        else:
            METHODS[name] = before


def source_of(kind: type) -> str:
    """The lines that define a class, those of a notebook's cell too, which `inspect.getsource` does not find.

    Raises:
        ValueError: there are none to be read.
    """
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        pass
    for member in vars(kind).values():
        code = getattr(inspect.unwrap(member) if callable(member) else None, "__code__", None)
        if code is None:
            continue
        lines = linecache.getlines(code.co_filename)
        for node in ast.walk(ast.parse("".join(lines))):
            if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                if first <= code.co_firstlineno <= (node.end_lineno or first):
                    return "".join(lines[first - 1 : node.end_lineno])
    raise ValueError(
        f"the source of {kind.__name__} cannot be read, and by it a finished training is known: define it in a file or "
        "in a notebook's cell, with a method of its own"
    )


def check_head(
    name: str, options: Mapping[str, Any], maps: FeatureSet, phases: tuple[Phase, ...], way: int = 5, shot: int = 1
) -> None:
    """Show a head, by its name in `METHODS`, one training episode: what is wrong is said at once, in a sentence.

    Raises:
        TypeError: the loss wants other things than it is given, or gives something else than `Losses`; the score is
            no tensor.
        ValueError: scores of another shape, or a loss that does not depend on the weights.
        FloatingPointError: scores or a loss that are not finite.
    """
    own = name.partition(": ")[2] or name
    experiment = head_experiment(name, options, maps, phases, way=way, shot=shot)
    model: Method = build_model(experiment, len(maps.class_names), 0)
    feed = EpisodeFeed(EpisodeSampler(maps, way, shot, experiment.query, 0))
    batch = feed.batch([0])
    support, query = batch.inputs[:2]
    set_keys(model, batch.keys)
    model.train()
    try:
        scores = model.score(*model.embed_together(support, query))
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        raise type(error)(
            f"{own}.score failed on support [E, N, K, c, h, w] = {list(support.shape)} and query [E, Q, c, h, w] = "
            f"{list(query.shape)}: {error}"
        ) from error
    wanted = [*query.shape[:2], support.shape[1]]
    if not isinstance(scores, Tensor):
        raise TypeError(f"{own}.score must give a tensor [E, Q, N] = {wanted}, got a {type(scores).__name__}")
    if list(scores.shape) != wanted:
        raise ValueError(
            f"{own}.score must give scores [E, Q, N] = {wanted}, a score of every query for every class, got "
            f"{list(scores.shape)}"
        )
    if not scores.isfinite().all():
        raise FloatingPointError(
            f"{own}.score gives {int((~scores.isfinite()).sum())} of {scores.numel()} scores that are not finite "
            "before anything is trained: look for a division by zero, a logarithm of zero or a root of it"
        )
    _check_loss(own, model, batch.inputs)


def _check_loss(own: str, model: Method, inputs: tuple[Tensor, ...]) -> None:
    try:
        inspect.signature(model.loss).bind(*inputs)
    except TypeError as error:
        raise TypeError(
            f"a loss is called as {LOSS}: the images, which of the N classes every query belongs to and which base "
            f"class that is; {own}.loss{inspect.signature(model.loss)} wants other things ({error}). What else it "
            "needs must be computed from these"
        ) from None
    losses = model.loss(*inputs)
    if not isinstance(losses, Losses):
        raise TypeError(
            f"{own}.loss must give labkit.methods.losses.Losses(total, few_shot, auxiliary, scores), got a "
            f"{type(losses).__name__}"
        )
    if not losses.total.isfinite().all():
        raise FloatingPointError(f"{own}.loss is {float(losses.total.detach()):g} before anything is trained")
    if any(p.requires_grad for p in model.parameters()) and not losses.total.requires_grad:
        raise ValueError(
            f"{own}.loss does not depend on any of the head's weights: is something detached, or in no_grad?"
        )
