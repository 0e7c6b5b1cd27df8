"""What every few-shot method here is: a backbone, a score of features, a loss on images (see `labkit.models.registry`).

Shapes use E episodes, N classes (way), K shots, Q queries (of all classes together), c channels, maps of h x w cells.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.common import checks
from labkit.episodes.preprocessing import Preprocessing
from labkit.methods.authors import Trainings
from labkit.methods.backbones import make_backbone
from labkit.methods.checked import checked_loss, checked_score, existing, weights_dtype
from labkit.methods.declared import annotated, refuse_taken
from labkit.methods.losses import Losses, at_every_position, pooled_global_loss
from labkit.methods.probe import channels_of, maps_of, stride_of


class Method(nn.Module):
    """A backbone and what is common to all that is built on one; a method adds `score` and, if it has its own, `loss`.

    A method declares its own options as annotated class attributes with defaults, such as ``scale: float = 1.0``. They
    are keyword arguments of its constructor, attributes of the model and part of its `recipe`; its docstring tells of
    them alone. Layers are made in `build`.

    Args:
        backbone: ``"resnet12"``, ``"conv4"``, ``"wrn28"``, ``"features"`` for maps computed before, or a module from
            [B, 3, h, w] to [B, c, h', w'].
        classes: base classes of its global classifier; ignored by a method without one.
        backbone_options: passed to a backbone given by name, for example ``{"width": 0.25}``.
        options: the method's own.

    Attributes:
        channels: c.
        options: the method's own, in JSON types.
        preprocessing: how its images were prepared; set by training.
        stride: pixels between the centres of neighbouring feature cells.
        auxiliary_name: what the second part of its loss is, in words for a curve's legend; empty where there is none.
        authors_training: by shots, how the method's authors trained it; empty where that is not known.
        options_before: of options that came after the first files were written, what those files meant (`from_recipe`).

    Raises:
        TypeError: an option that the method does not have, or one of another kind than it is annotated with.
        ValueError: an option annotated with a `Literal` that is none of its words, a whole number below 0, or a number
            outside the bounds of its annotation (`checks.Between`).
    """

    auxiliary_name: ClassVar[str] = ""
    authors_training: ClassVar[Trainings] = {}
    options_before: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, **more: Any) -> None:
        """Have every method's own `score` and `loss` check their arguments first, whoever writes them.

        Raises:
            TypeError: an option is called as something that every method has.
        """
        super().__init_subclass__(**more)
        refuse_taken(cls, Method)
        for name, checked in (("score", checked_score), ("loss", checked_loss)):
            if name in vars(cls):
                setattr(cls, name, checked(vars(cls)[name]))

    def __init__(
        self,
        backbone: str | nn.Module = "resnet12",
        *,
        classes: int = 64,
        backbone_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.backbone_name = backbone if isinstance(backbone, str) else None
        checks.kind("backbone_options", backbone_options or {}, Mapping, "a dict of options")
        self.backbone_options: dict[str, Any] = checks.plain(backbone_options or {})
        self.backbone = make_backbone(backbone, self.backbone_options)
        self.channels, self.classes = channels_of(self.backbone), checks.check_int("classes", classes)
        self._stride: float | None = None
        self.preprocessing: Preprocessing | None = None
        self.check_options(options)
        self.options: dict[str, Any] = checks.annotated(type(self), self.option_defaults() | checks.plain(options))
        for name, value in self.options.items():
            setattr(self, name, value)
        self.build()

    def build(self) -> None:
        """Check the options and make the layers that stand on the backbone."""

    @classmethod
    def option_defaults(cls) -> dict[str, Any]:
        """The method's own options and their defaults."""
        declared = [name for kind in reversed(cls.__mro__) if issubclass(kind, Method) for name in annotated(kind)]
        return {name: getattr(cls, name) for name in declared if hasattr(cls, name)}

    @classmethod
    def check_options(cls, given: Iterable[str]) -> None:
        """Raises:
        TypeError: an option that the method does not have.
        """
        there = {*cls.option_defaults(), "backbone", "classes", "backbone_options"}
        unknown = sorted(set(given) - there)
        if unknown:
            named = ", ".join(map(repr, unknown))
            raise TypeError(f"the method {cls.__name__} has no option {named}; there are {', '.join(sorted(there))}")

    def recipe(self) -> dict[str, Any]:
        """Keyword arguments, in JSON types, that build this model again without its weights.

        Raises:
            ValueError: the backbone was given as a module, which no file of ours can describe.
        """
        if self.backbone_name is None:
            raise ValueError("only a model whose backbone was given by name can be described in a file")
        common = {"backbone": self.backbone_name, "classes": self.classes, "backbone_options": self.backbone_options}
        found: dict[str, Any] = common | self.options
        return found

    @property
    def stride(self) -> float:
        """Pixels between the centres of neighbouring feature cells: the backbone's own `stride`, or found by trying."""
        if self._stride is None:
            self._stride = stride_of(self.backbone)
        return self._stride

    @property
    def channels_of_images(self) -> int | None:
        """Of the images that it takes: 3, or as many as maps computed before have; None where that is not known."""
        return None if self.backbone_name is None else getattr(self.backbone, "inputs", 3)

    @property
    def channels_of_maps(self) -> int | None:
        """Of what `embed` gives and `score` takes, c; None where that is not known."""
        return self.channels

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> Self:
        """The model that `recipe` describes; options that came after the recipe mean what was done before."""
        return cls(**{**cls.options_before, **recipe})

    def embed(self, images: Tensor) -> Tensor:
        """f_emb: normalised images [..., 3, H, W] to feature maps [..., c, h, w], in single precision at least.

        A method of other maps than its backbone's says so in `channels_of_maps`, by which `score` checks what it gets.

        Raises:
            ValueError: the backbone gives something else than feature maps of `channels` channels.
            TypeError: its weights are in half precision.
        """
        return maps_of(self.backbone, images, self.channels, weights_dtype(self))

    def score(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Similarity of every query to every class: features [E, N, K, c, h, w], [E, Q, c, h, w] to [E, Q, N].

        Features are cast to the type of the model's weights, and shots that `support_mask` leaves out are set to 0.

        Raises:
            ValueError: features or mask of another shape or type, or a class without a shot.
        """
        raise NotImplementedError

    @checked_loss
    def loss(self, support: Tensor, query: Tensor, labels: Tensor, base_labels: Tensor) -> Losses:
        """What training follows, on images as `forward` takes them.

        Unless a method has its own: cross-entropy of the queries and, where an option `global_weight` is above 0, so
        many times the cross-entropy of all base classes on the queries' pooled features (`global_classifier`).

        Args:
            labels: [E, Q], which of the N classes a query belongs to.
            base_labels: [E, Q], which of the base classes.

        Raises:
            ValueError: images or labels of another shape or type, or, on a CPU, labels that name no class.
        """
        of_support, of_query = self.embed_together(support, query)
        scores = self.score(of_support, of_query)
        few_shot = F.cross_entropy(scores.flatten(0, 1), labels.flatten())
        return self.with_global_loss(few_shot, scores, of_query, base_labels)

    def with_global_loss(self, few_shot: Tensor, scores: Tensor, of_query: Tensor, base_labels: Tensor) -> Losses:
        """A few-shot loss and `global_weight` times that of all base classes, of maps [E, Q, c, h, w] and labels."""
        weight = getattr(self, "global_weight", 0.0)
        if not weight:
            return Losses.of_queries(few_shot, scores)
        with torch.autocast(of_query.device.type, enabled=False):
            auxiliary = pooled_global_loss(self.global_classifier, of_query, base_labels)  # type: ignore[arg-type]
            return Losses(few_shot + weight * auxiliary, few_shot, auxiliary, scores)

    def classification_loss(self, images: Tensor, base_labels: Tensor, label_smoothing: float = 0.0) -> Losses:
        """Cross-entropy of base images among all base classes: pre-training, or a method's whole training.

        A batch is random images, not episodes. A global classifier that is a convolution answers at every position
        (dense), a linear one on the mean of the map.

        Args:
            images: normalised, [B, 3, H, W].
            base_labels: int64 [B].
            label_smoothing: share of the target that is spread over all classes.

        Returns:
            `Losses` whose total is the auxiliary one, with scores [B, classes].

        Raises:
            TypeError: the method has no global classifier as it was built.
        """
        classifier = getattr(self, "global_classifier", None)
        if not isinstance(classifier, nn.Module):
            raise TypeError(
                f"this {type(self).__name__} has no classifier of base classes to be trained on single images; "
                "some methods have one by an option, such as pretrain=True"
            )
        maps = self.embed(images)
        with torch.autocast(images.device.type, enabled=False):
            if isinstance(classifier, nn.Conv2d):
                logits = classifier(maps)
                target, scores = at_every_position(base_labels, logits), logits.mean((-2, -1))
            else:
                logits = scores = classifier(maps.mean((-2, -1)))
                target = base_labels
            loss = F.cross_entropy(logits, target, label_smoothing=label_smoothing)
        return Losses.of_classification(loss, scores)

    def take_base_mean(self, mean: Callable[[], Tensor]) -> None:
        """Take the mean feature of base pictures, [c], where it is used; training on feature maps can compute it."""

    def shows_mirrored(self, shots: int) -> bool:
        """Whether a class of so many shots is shown with their mirror images too (left and right exchanged).

        `embed_together` then embeds 2K pictures a class, the K mirror images after the K pictures, and `score` is
        given features [E, N, 2K, c, h, w]. Whoever embeds pictures beforehand asks this, and puts the features of the
        mirror images there in the same way.
        """
        return False

    def mirror(self, images: Tensor) -> Tensor:
        """Images [..., 3, H, W] with left and right exchanged; of maps computed before, those of the mirror images."""
        turn = getattr(self.backbone, "mirror", None)
        mirrored: Tensor = images.flip(-1) if turn is None else turn(images)
        return mirrored

    def forward(self, support: Tensor, query: Tensor, support_mask: Tensor | None = None) -> Tensor:
        """Scores [E, Q, N] of normalised images, support [E, N, K, 3, H, W] and query [E, Q, 3, H, W].

        `support_mask`, bool [E, N, K], marks the shots that exist where classes have unequal numbers.

        Raises:
            ValueError: images or mask of another shape or type, or a class without a shot.
        """
        if support_mask is None:
            return self.score(*self.embed_together(support, query))
        checks.images(support, query, self.channels_of_images)
        checks.mask(support_mask, support)
        embedded = self.embed_together(existing(support, support_mask), query)
        twice = self.shows_mirrored(support.shape[2])
        return self.score(*embedded, torch.cat([support_mask, support_mask], dim=2) if twice else support_mask)

    def embed_together(self, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """One pass for both, episode after episode, so that in training batch normalisation sees them together."""
        checks.images(support, query, self.channels_of_images)
        if self.shows_mirrored(support.shape[2]):
            support = torch.cat([support, self.mirror(support)], dim=2)
        n, k = support.shape[1:3]
        features = self.embed(torch.cat([support.flatten(1, 2), query], dim=1))
        of_support, of_query = features.split([n * k, query.shape[1]], dim=1)
        return of_support.unflatten(1, (n, k)), of_query


def mean_of_shots(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean over the shots that exist, X_supp of maps: [E, N, K, ...] to [E, N, ...], by a mask [E, N, K]."""
    if mask is None:
        return features.mean(2)
    weights = mask.to(features.dtype).view(*mask.shape, *[1] * (features.ndim - 3))
    return (features * weights).sum(2) / weights.sum(2)


def unit_length(x: Tensor) -> Tensor:
    """Vectors [..., d] by their length plus 1e-6, as some authors normalise."""
    unit: Tensor = x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-6)
    return unit


def read_out(maps: Tensor, read: str) -> Tensor:
    """Maps [..., c, h, w] as vectors: ``"map"``, flattened [..., c h w], or ``"mean"``, over cells [..., c].

    Raises:
        ValueError: another name.
    """
    if read == "map":
        return maps.flatten(-3)
    if read == "mean":
        return maps.mean((-2, -1))
    raise ValueError(f"read must be 'map' or 'mean', got {read!r}")
