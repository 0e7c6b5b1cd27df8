"""Which pictures and which trained networks: what notebooks and commands take as `dataset`, `data_root`, `weights`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from labkit.common import parameters
from labkit.data import load_images
from labkit.data.glyphs.load import DATASETS
from labkit.data.imageset import ImageSet
from labkit.dmf.model import DMF
from labkit.evaluation import provenance
from labkit.evaluation.features import preprocessing_of
from labkit.methods.base import Method
from labkit.models.checkpoints import WEIGHTS, load_model

GLYPHS, PHOTOGRAPHS = "glyphs-mini", "miniimagenet"
SHIPPED_FOR = {PHOTOGRAPHS: "mini", "tinyimagenet": "mini"}  # of other data sets it is "quick"
PER_CLASS = 200  # rendered pictures of a class that studies look at


def dataset_of(dataset: str | None, data_root: Path | str | None) -> str:
    """The data set that is asked for: photographs where a folder is given and no name, rendered characters if none."""
    return dataset or (PHOTOGRAPHS if data_root else GLYPHS)


def weights_of(weights: Any, dataset: str) -> list[Any]:
    """Names or files of networks, as a list; None: what is shipped for a data set."""
    return parameters.several("weights", SHIPPED_FOR.get(dataset, "quick") if weights is None else weights)


def images_for(model: Method, dataset: str, data_root: Path | str | None = None, split: str = "test") -> ImageSet:
    """The pictures of a data set in the size that a network reads; of rendered ones `PER_CLASS` of each class.

    Raises:
        ValueError, DataError: as `load_images`, or the network does not say how its pictures were prepared.
    """
    options: dict[str, Any] = {"per_class": PER_CLASS} if dataset in DATASETS else {"root": data_root}
    options |= {"root": data_root} if data_root else {}  # which rendered pictures refuse
    return load_images(dataset, split, size=preprocessing_of(model).size, progress=False, **options)


def load_by_name(weights: Sequence[Path | str]) -> dict[str, Any]:
    """Networks by `names_of` their files."""
    return dict(zip(names_of(weights), map(load_model, weights), strict=True))


def load_by_kind(weights: Sequence[Path | str]) -> dict[str, Method]:
    """Networks by what they do: "no alignment", "DMF", "DMF without dynamic sampling", or the name of the method.

    Those that do the same are told apart by the names of their files, their folders, and numbers.
    """
    found: dict[str, Method] = {}
    for number, own in enumerate(weights, 1):
        model = load_model(own)
        kind, file = kind_of(model), Path(own)
        names = (kind, f"{kind} ({file.stem})", f"{kind} ({file.parent.name}/{file.stem})", f"{kind} ({number})")
        found[next(name for name in names if name not in found)] = model
    return found


def names_of(weights: Sequence[Path | str]) -> list[str]:
    """A name for each network: of its file, of its folder and file where another has that, or numbered.

    Every training leaves a ``best.safetensors``.
    """
    found: list[str] = []
    for number, own in enumerate(map(Path, weights), 1):
        inside = [f"{own.parent.name}/{own.stem}"] if own.parent.name else []
        names = (own.stem, *inside, f"{own.stem} {number}")
        found.append(next(name for name in names if name not in found))
    return found


def opened(
    weights: Sequence[Path | str] | None, dataset: str, data_root: Path | str | None = None
) -> tuple[list[Any], dict[str, Method], ImageSet]:
    """Names or files of networks, the networks by what they do, and pictures of novel classes; prints which."""
    own = weights_of(weights, dataset)
    models = load_by_kind(own)
    images = images_for(next(iter(models.values())), dataset, data_root)
    print(provenance.said(own, models, images))
    return own, models, images


def figure_name(figure: str, dataset: str, weights: Sequence[Path | str] | None) -> str:
    """What a figure's files are called; where another network than what is shipped is drawn, they end in its name.

    Of a file which is none of the shipped ones, in that of its folder too: every training leaves ``best.safetensors``.
    """
    first = Path(weights_of(weights, dataset)[0])
    if not first.suffix or first.resolve().parent == WEIGHTS.resolve():
        return f"{figure}_{dataset}" + ("" if [first.stem] == weights_of(None, dataset) else f"_{first.stem}")
    return f"{figure}_{dataset}_{first.resolve().parent.name}_{first.stem}"


def kind_of(model: Method) -> str:
    """What a network does, in the words of the studies."""
    if not isinstance(model, DMF):
        return type(model).__name__
    if model.rule.name == "none":
        return "no alignment"
    if not model.choices.sampling:
        return "DMF without dynamic sampling"
    return "DMF" if model.choices.start == "same" else "DMF from the best match"


def untrained(model: Method) -> Any:
    """The same network as its training began with seed 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = type(model).from_recipe(model.recipe()).eval()
    fresh.preprocessing = model.preprocessing
    return fresh
