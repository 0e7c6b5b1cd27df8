"""What notebook 12 begins with: one's own folders, the drawings that come with the lab, or a task of a data set."""

import io
from pathlib import Path

from PIL import Image

from labkit import plotting
from labkit.common.places import PACKAGE
from labkit.data import load_images
from labkit.data.imageset import ImageSet
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation.chosen import PHOTOGRAPHS
from labkit.evaluation.features import preprocessing_of
from labkit.methods.base import Method
from labkit.models.checkpoints import load_model
from labkit.own_images.classify import SIGNS, default_weights
from labkit.own_images.drop import Files, YourImages, classes_of, files_of
from labkit.own_images.pictures import Fit

EXAMPLES = PACKAGE / "own_images" / "examples"
WAY, SHOT, ASKED = 5, 3, 7


def begin(
    weights: Path | str | None = None,
    support: Path | str | None = None,
    query: Path | str | None = None,
    dataset: str | None = None,
    data_root: Path | str | None = None,
    refuse: float | None = None,
    fit: Fit = "letterbox",
) -> YourImages:
    """The widget, with pictures by class, pictures to be classified, and the model that answers.

    Args:
        weights: a shipped model or a file; None takes `default_weights`: for photographs if there is a folder or a
            data set, for drawn signs while the drawings are shown. What is dropped on the drawings is taken for
            photographs, and a person may choose.
        support: a folder with a subfolder a class.
        query: a folder of pictures.
        dataset, data_root: of `labkit.load_images`: five of its novel classes, where no folders are given. A data
            root alone is miniImageNet's.
        refuse, fit: of `YourImages`.

    Raises:
        ValueError: one folder without the other.
    """
    if (support is None) != (query is None):
        raise ValueError("give both support, a folder with a subfolder a class, and query, a folder of pictures")
    dataset = PHOTOGRAPHS if dataset is None and data_root is not None else dataset
    given = support is not None or dataset is not None
    name, of_own = str(weights or default_weights(photographs=given)), default_weights()
    model: Method = load_model(name)
    if support is not None and query is not None:
        classes, pictures = classes_of(support), files_of(query)
    elif dataset is None:
        classes, pictures = classes_of(EXAMPLES / "support"), files_of(EXAMPLES / "query")
    else:
        size = preprocessing_of(model).size
        classes, pictures = task_of(load_images(dataset, "test", root=data_root, size=size, progress=False))
    networks = {of_own: f"{of_own}, trained on photographs", SIGNS: f"{SIGNS}, trained on printed characters"}
    if weights is not None:  # who names a network has chosen
        networks, of_own = {name: name} | networks, ""
    return YourImages(model, classes, pictures, refuse, fit, name, networks, of_own, examples=support is None)


def task_of(images: ImageSet, seed: int = 0) -> tuple[dict[str, Files], Files]:
    """Five classes of `SHOT` pictures, `ASKED` queries of theirs, and one query of a sixth class, as image files."""
    sampler = EpisodeSampler(images, WAY + 1, SHOT, 2, seed)
    classes, support, query, labels = sampler.indices(0)
    names = [plotting.readable(images.class_names[c]) for c in classes]
    shown = {
        names[n]: {f"{names[n]} {k}.png": _file(images, int(number)) for k, number in enumerate(support[n], 1)}
        for n in range(WAY)
    }
    inside = [q for q, label in enumerate(labels) if label < WAY][:ASKED]
    outside = [q for q, label in enumerate(labels) if label == WAY][:1]
    asked: Files = {}
    for q in [*inside, *outside]:
        of_none = " (no class)" if labels[q] == WAY else ""
        asked[f"{names[labels[q]]}{of_none}, {len(asked) + 1}.png"] = _file(images, int(query[q]))
    return shown, asked


def _file(images: ImageSet, number: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(images.pixels[number]).save(content, "PNG")
    return content.getvalue()
