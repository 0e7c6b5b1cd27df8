"""The trained networks that studies look at: shipped weights, and what is changed in them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from labkit.evaluation.chosen import untrained
from labkit.models.checkpoints import load_model


class Network(NamedTuple):
    """A network of a study.

    Attributes:
        weights: what `load_model` takes; None for a network as training of the quick setting begins, with seed 0.
        changes: of `DMF.variant`: what is switched in a network that was trained without the change.
    """

    weights: str | None
    changes: Mapping[str, Any] = {}

    def load(self, folder: Path | None = None) -> Any:
        """The network, in eval mode; from ``WEIGHTS.safetensors`` in `folder` if it lies there.

        Raises:
            FileNotFoundError: the weights are neither there nor shipped.
        """
        if self.weights is None:
            return untrained(load_model("quick"))
        own = folder and folder / f"{self.weights}.safetensors"
        model: Any = load_model(own if own and own.exists() else self.weights)
        return model.variant(**self.changes) if self.changes else model

    def about(self) -> dict[str, Any]:
        """What is recorded of the network beside results."""
        return {"weights": self.weights, **self.changes}
