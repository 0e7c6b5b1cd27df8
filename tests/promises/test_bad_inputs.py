"""What cannot be is refused at the border: by this class of exception, saying what was expected and what came."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import labkit
from labkit.data.imageset import Provenance
from labkit.episodes.preprocessing import Preprocessing
from labkit.evaluation.feature_set import FeatureSet
from labkit.models.registry import METHODS
from labkit.training.settings import Experiment
from tests.helpers.places import GOLDEN as GOLDENS
from tests.helpers.tiny import TINY
from tests.helpers.toys import toy_images

IMAGES = toy_images(classes=7, per_class=12)
PIXELS, LABELS = np.zeros((6, 8, 8, 3), np.uint8), np.repeat([0, 1], 3)
WHERE = Provenance("toy", "train", "made", "8x8", "none", "x", {})
GREY = np.zeros((20, 20), np.uint8)
SUPPORT, QUERY = torch.zeros(1, 3, 2, 3, 24, 24), torch.zeros(1, 4, 3, 24, 24)
X_SUPP, X_Q = torch.zeros(1, 3, 8, 3, 3), torch.zeros(1, 4, 8, 3, 3)
POINTS = torch.zeros(1, 4, 3, 9, 2, 3, 3)
TARGETS = torch.zeros(1, 4, dtype=torch.long)
NAN, INF = float("nan"), float("inf")
LONG = 300 * "x"  # more letters than the name of a file may have
NOWHERE, GOLDEN = Path("no such folder"), GOLDENS


def sampler(*arguments: Any, **options: Any) -> labkit.EpisodeSampler:
    return labkit.EpisodeSampler(IMAGES, *arguments, **options)


def images(pixels: Any = PIXELS, labels: Any = LABELS, names: Any = ("a", "b"), **rest: Any) -> Any:
    return labkit.ImageSet(pixels, labels, names, None, WHERE, **rest)


def maps(labels: Any) -> Any:
    return FeatureSet(PIXELS.astype(np.float32), labels, ("a", "b"), None, WHERE, picture_size=64)


def load(name: str = "glyphs-mini", split: str = "test", **options: Any) -> labkit.ImageSet:
    return labkit.load_images(name, split, **options)


def dmf(**options: Any) -> labkit.DMF:
    model = labkit.DMF(
        **{"backbone": "conv4", "groups": 4, "backbone_options": {"width": 8}, "alignment": "closed"} | options
    )
    model.preprocessing = Preprocessing(24, "none")
    return model.eval()


def forward(support: Any = SUPPORT, query: Any = QUERY, mask: Any = None) -> Tensor:
    return dmf()(support, query, mask)


def loss(labels: Tensor = TARGETS, base_labels: Tensor = TARGETS) -> Any:
    return dmf().loss(SUPPORT, QUERY, labels, base_labels)


def evaluate(model: Any = None, of: Any = IMAGES, way: Any = 3, shot: Any = 1, query: Any = 2, **options: Any) -> Any:
    return labkit.evaluate(model or dmf(), of, way, shot, query, **{"episodes": 2} | options)


def train(experiment: Any = TINY, base: Any = IMAGES, validation: Any = IMAGES, **options: Any) -> Any:
    return labkit.train(experiment, base, validation, NOWHERE, **options)


def quick(**changes: Any) -> Experiment:
    return labkit.experiment("quick", **changes)


def build(classes: Any = 5, seed: Any = 0, **changes: Any) -> Any:
    return labkit.build_model(labkit.experiment("quick", **changes), classes, seed)


def classify(query: Any = GREY, support: Any = None, model: Any = None, **options: Any) -> Any:
    return labkit.classify(model or dmf(), support or {"a": GREY, "b": GREY}, query, **options)


PICTURE = r"pixels must be uint8 \[h, w\], \[h, w, 3\] or \[h, w, 4\], got "
TABLE: list[tuple[Callable[[], Any], type[Exception], str]] = [
    # Episodes.
    (lambda: sampler(0), ValueError, "way must be at least 1, got 0"),
    (lambda: sampler(-1), ValueError, "way must be at least 1, got -1"),
    (lambda: sampler(2.5), TypeError, r"way must be a whole number, got 2\.5"),
    (lambda: sampler("5"), TypeError, "way must be a whole number, got '5'"),
    (lambda: sampler(True), TypeError, "way must be a whole number, got True"),
    (lambda: sampler(8), ValueError, "way=8, but .* has only 7 classes"),
    (lambda: sampler(5, 12, 1), ValueError, r"shot \+ query = 13 images .* class 'class 0' of .* has only 12"),
    (lambda: sampler(5, 0, 1), ValueError, "shot must be at least 1, got 0"),
    (lambda: sampler(5, 1, -3), ValueError, "query must be at least 1, got -3"),
    (lambda: sampler(5, 1, 2, -1), ValueError, "seed must be at least 0, got -1"),
    (lambda: sampler(5, 1, 2, NAN), TypeError, "seed must be a whole number, got nan"),
    (lambda: sampler(5, 1, 2, device="tpu"), ValueError, "device must be 'cpu', 'cuda' or 'cuda:1', got 'tpu'"),
    (lambda: sampler(5, 1, 2)[-1], IndexError, "episodes are numbered from 0, got -1"),
    (lambda: sampler(5, 1, 2)[1.5], TypeError, r"number of an episode must be a whole number, got 1\.5"),
    (lambda: sampler(5, 1, 2).batch([]), ValueError, "at least one episode, got none"),
    (lambda: sampler(5, 1, 2).batch(3), TypeError, r"episodes must be a series of their numbers, .*range\(4\), got 3"),
    (
        lambda: labkit.EpisodeSampler(PIXELS),
        TypeError,
        r"images must be an ImageSet, .* got ndarray uint8 \[6, 8, 8, 3\]",
    ),
    (lambda: labkit.EpisodeSampler(images(labels=0 * LABELS, names=("a",)), 2, 1, 1), ValueError, "has only 1 classes"),
    # Images.
    (lambda: images(PIXELS / 255), ValueError, r"must be uint8 \[n, h, w, 3\], got float64 \[6, 8, 8, 3\]"),
    (lambda: images(PIXELS[..., 0]), ValueError, r"must be uint8 \[n, h, w, 3\], got uint8 \[6, 8, 8\]"),
    (lambda: images(PIXELS.repeat(2, 3)), ValueError, r"must be uint8 \[n, h, w, 3\], got uint8 \[6, 8, 8, 6\]"),
    (lambda: images(PIXELS.transpose(0, 3, 1, 2)), ValueError, r"\[n, h, w, 3\], got uint8 \[6, 3, 8, 8\]"),
    (lambda: images(PIXELS[:, :7]), ValueError, r"images must be square, got \[6, 7, 8, 3\]"),
    (lambda: images(torch.from_numpy(PIXELS)), TypeError, "pixels must be a NumPy array, got Tensor uint8"),
    (lambda: images(PIXELS.tolist()), TypeError, "pixels must be a NumPy array, got a list of 6"),
    (lambda: images(labels=LABELS[:4]), ValueError, "6 images but 4 labels"),
    (lambda: images(labels=LABELS.tolist()), TypeError, "labels must be a NumPy array, got a list of 6"),
    (lambda: images(labels=LABELS / 1), ValueError, r"labels must be whole numbers \[n\], got float64 \[6\]"),
    (lambda: images(labels=LABELS - 1), ValueError, "labels must be from 0 to 1, got -1"),
    (lambda: images(labels=LABELS + 1), ValueError, "label 2 but only 2 class names"),
    (lambda: images(labels=LABELS + 2**40), ValueError, "label 1099511627777 but only 2 class names"),
    (lambda: images(names=(0, 1)), TypeError, "a class name must be a text, got 0"),
    (lambda: maps(LABELS - 1), ValueError, "labels must be from 0 to 1, got -1"),
    (
        lambda: maps(LABELS[:4]),
        ValueError,
        r"maps must be float16 or float32 \[4, h, w, c\], got float32 \[6, 8, 8, 3\]",
    ),
    (lambda: images(names=("a", "b", "c")), ValueError, "class 'c' holds no image"),
    (lambda: images(PIXELS[:0], LABELS[:0]), ValueError, "the train split of toy holds no image"),
    (lambda: images(packed_masks=PIXELS[..., :2]), ValueError, r"packed_masks must be \[6, 8, 1\].*got \[6, 8, 8, 2\]"),
    (lambda: images().masks(0), ValueError, r"toy \(made\) has no object masks"),
    # Data sets.
    (lambda: load("cifar"), ValueError, "no dataset 'cifar'; there are glyphs-mini, .*, folder"),
    (lambda: load(split="novel"), ValueError, "no split 'novel' in glyphs-mini: train, val, test"),
    (lambda: load(size=8), ValueError, "size must be from 16 to 1024, got 8"),
    (lambda: load(size="84"), TypeError, "size must be a whole number, got '84'"),
    (lambda: load(size=10**6), ValueError, "size must be from 1 to 1024, got 1000000"),
    (lambda: load(seed=-1), ValueError, "seed must be from 0 to 18446744073709551615, got -1"),
    (lambda: load(per_class=0), ValueError, "per_class must be at least 1, got 0"),
    (
        lambda: load(per_class=10**9),
        labkit.DataError,
        r"takes \d+ GB with per_class=1000000000 at 84 px, and .* \d+ GB are free: ask for fewer or smaller images",
    ),
    (lambda: load(per_class=1.5), TypeError, r"per_class must be a whole number, got 1\.5"),
    (
        lambda: load("miniimagenet", root=GOLDEN, per_class=200),
        TypeError,
        r'has no option \'per_class\', .*: leave it out, of an experiment with per_class=None, as JSON \{"per_class":',
    ),
    (lambda: load(difficulty="hard"), TypeError, r"must be a labkit\.data\.glyphs\.load\.Difficulty, got 'hard'"),
    (lambda: load(colour="red"), TypeError, "glyphs-mini has no option 'colour'; there are difficulty, .*split"),
    (lambda: load(root="."), ValueError, r"glyphs-mini is rendered here and read from no folder, got root='\.'"),
    (lambda: load("miniimagenet"), labkit.DataError, r"needs the folder its files lie in: pass root=\.\.\. or set"),
    (lambda: load("miniimagenet", root=5), TypeError, "root must be the path of a folder, got 5"),
    (
        lambda: load("miniimagenet", root=NOWHERE),
        labkit.DataError,
        "no such folder: expected a folder .* there is none",
    ),
    (lambda: load("miniimagenet", root=LONG), labkit.DataError, "xxx: expected a folder .* there is none"),
    (lambda: labkit.check_data(LONG), labkit.DataError, "xxx: expected a folder .* there is none"),
    (lambda: labkit.check_data(""), labkit.DataError, r"root is an empty text; expected a folder, '\.' for the one in"),
    (
        lambda: load("miniimagenet", root=GOLDEN, layout="zip"),
        ValueError,
        "layout must be one of 'pickle', .* got 'zip'",
    ),
    (lambda: load("tieredimagenet", root=GOLDEN), labkit.DataError, "no known layout .* looked for .*images_png"),
    (lambda: load("folder", root=GOLDEN, size=0), ValueError, "size must be from 1 to 1024, got 0"),
    # The model.
    (lambda: dmf(kernel=2), ValueError, "kernel must be odd, got 2"),
    (lambda: dmf(kernel=0), ValueError, "kernel must be at least 1, got 0"),
    (lambda: dmf(kernel=1.5), TypeError, r"kernel must be a whole number, got 1\.5"),
    (lambda: dmf(kernel=3), ValueError, "'closed' exists at kernel 1 only; use 'dopri5' or 'rk4'"),
    (lambda: dmf(groups=3), ValueError, r"groups must divide the backbone's 8 channels: one of \[1, 2, 4, 8\], got 3"),
    (lambda: dmf(groups=0), ValueError, "groups must be at least 1, got 0"),
    (lambda: dmf(groups=4.0), TypeError, r"groups must be a whole number, got 4\.0"),
    (lambda: dmf(rtol=0), ValueError, "rtol must be a finite number above 0, got 0"),
    (lambda: dmf(atol=NAN), ValueError, "atol must be a finite number above 0, got nan"),
    (lambda: dmf(rtol=INF), ValueError, "rtol must be a finite number above 0, got inf"),
    (lambda: dmf(rtol="1e-5"), TypeError, "rtol must be a number, got '1e-5'"),
    (
        lambda: dmf(alignment="ode"),
        ValueError,
        r"'ode' is not one of recurrent\(T\), .*, closed, with T from 1 to 1000",
    ),
    (lambda: dmf(alignment="euler(0)"), ValueError, r"'euler\(0\)' is not one of .* with T from 1 to 1000"),
    (lambda: dmf(alignment="euler(1000000000)"), ValueError, "with T from 1 to 1000"),
    (lambda: dmf(alignment=None), TypeError, r"alignment must be a name such as 'rk4' or 'euler\(2\)', got None"),
    (lambda: dmf(preset="ours"), ValueError, r"preset must be one of \['paper', 'released'\], got 'ours'"),
    (lambda: dmf(colour=1), ValueError, r"unknown choices \['colour'\]; there are \['alignment', "),
    (lambda: dmf(few_shot_loss="mse"), ValueError, r"few_shot_loss must be one of \('softmax', 'printed'\), got 'mse'"),
    (lambda: dmf(loss_weights=(1,)), ValueError, r"loss_weights must be two numbers, few-shot and global, got \(1,\)"),
    (lambda: dmf(loss_weights=(1, NAN)), ValueError, "a loss weight must be a finite number at least 0, got nan"),
    (lambda: dmf(loss_weights=0.5), TypeError, r"loss_weights must be two numbers, got 0\.5"),
    (lambda: dmf(score_scale=0), ValueError, "score_scale must be a finite number above 0, got 0"),
    (lambda: dmf(offset_scale=INF), ValueError, "offset_scale must be a finite number at least 0, got inf"),
    (lambda: dmf(sampling="no"), TypeError, "sampling must be True or False, got 'no'"),
    (lambda: dmf(start="match", sampling=False), ValueError, "'match' moves the sampled points, and sampling is off"),
    (lambda: dmf(classes=-1), ValueError, "classes must be at least 1, got -1"),
    (
        lambda: dmf(backbone="vgg"),
        ValueError,
        r"one of \['conv4', 'features', 'resnet12', 'wrn28'\] or a module, got 'vgg'",
    ),
    (
        lambda: dmf(backbone=nn.Flatten(), backbone_options={}),
        ValueError,
        r"feature maps \[B, c, h, w\]; this .* \[1, 21168\]",
    ),
    (lambda: dmf(backbone_options={"width": 0}), ValueError, "width must be at least 1, got 0"),
    (
        lambda: dmf(backbone_options={"depth": 3}),
        TypeError,
        "'conv4' has no option 'depth'; there are last_pool, width",
    ),
    (lambda: dmf(backbone="resnet12", backbone_options={"width": NAN}), ValueError, "finite number above 0, got nan"),
    (lambda: dmf().variant(kernel=3, alignment="rk4"), ValueError, "a kernel of 3 needs other weights than this .* 1"),
    # Its inputs.
    (
        lambda: forward(SUPPORT[0, 0], QUERY[0]),
        ValueError,
        r"\[E, N, K, 3, H, W\], .*, got Tensor float32 \[2, 3, 24, 24\]",
    ),
    (
        lambda: forward(SUPPORT[0], QUERY[0]),
        ValueError,
        r"support must be .* \[E, N, K, 3, H, W\].*\[3, 2, 3, 24, 24\]",
    ),
    (lambda: forward(SUPPORT, QUERY[0]), ValueError, r"query must be .* \[E, Q, 3, H, W\], .* \[4, 3, 24, 24\]"),
    (lambda: forward(SUPPORT, QUERY[:, :0]), ValueError, r"query must be .* \[1, 0, 3, 24, 24\]"),
    (
        lambda: forward(SUPPORT.byte(), QUERY.byte()),
        ValueError,
        "normalised images .*, floating point, got Tensor uint8",
    ),
    (lambda: forward(SUPPORT.numpy(), QUERY.numpy()), TypeError, "support must be a tensor .* got ndarray float32"),
    (lambda: forward(SUPPORT[:, :, :, :1], QUERY[:, :, :1]), ValueError, "images must have 3 channels, got 1"),
    (lambda: forward(SUPPORT.expand(2, -1, -1, -1, -1, -1)), ValueError, r"as many episodes .* \[2, 3.* query \[1, 4"),
    (lambda: forward(SUPPORT, QUERY[..., :20, :20]), ValueError, r"images of one shape, .* query \[1, 4, 3, 20, 20\]"),
    (lambda: forward(SUPPORT[..., :4, :4], QUERY[..., :4, :4]), ValueError, r"images must be of 8 px .* got \[4, 4\]"),
    (lambda: forward(mask=torch.ones(3, 2) > 0), ValueError, r"\[E, N, K\] = \[1, 3, 2\], got Tensor bool \[3, 2\]"),
    (
        lambda: forward(mask=torch.ones(1, 3, 3) > 0),
        ValueError,
        r"\[E, N, K\] = \[1, 3, 2\], got Tensor bool \[1, 3, 3\]",
    ),
    (lambda: forward(mask=torch.ones(1, 3, 2)), ValueError, r"support_mask must be bool .*, got Tensor float32"),
    (lambda: forward(mask=torch.zeros(1, 3, 2) > 0), ValueError, "every class at least one shot, got a class without"),
    (lambda: dmf().trace(SUPPORT, QUERY, torch.ones(3, 2) > 0), ValueError, r"support_mask must be bool \[E, N, K\]"),
    (
        lambda: dmf().trace(SUPPORT[0, 0], QUERY[0]),
        ValueError,
        r"support must be normalised images \[E, N, K, 3, H, W\]",
    ),
    (lambda: dmf().score(X_SUPP, X_Q), ValueError, r"with c = 8, got Tensor float32 \[1, 3, 8, 3, 3\] and "),
    (
        lambda: dmf().score(X_SUPP[:, :, None, :5], X_Q[:, :, :5]),
        ValueError,
        r"with c = 8, got Tensor float32 \[1, 3, 1, 5, 3, 3\]",
    ),
    (
        lambda: dmf().filters(X_SUPP, X_Q, POINTS * NAN),
        ValueError,
        r"finite \(y, x\) .*, got .* numbers that are not finite",
    ),
    (
        lambda: dmf().filters(X_SUPP, X_Q, POINTS + INF),
        ValueError,
        r"finite \(y, x\) .*, got .* numbers that are not finite",
    ),
    *(
        (
            lambda points=points: dmf().filters(X_SUPP, X_Q, points),
            ValueError,
            rf"= \[1, 4, 3, 9, 2, 3, 3\], got {came}",
        )
        for points, came in (
            (POINTS[0, 0, 0], r"\[9, 2, 3, 3\]"),
            (POINTS[:, :, :1], r"\[1, 4, 1, 9, 2, 3, 3\]"),
            (POINTS.transpose(1, 2), r"\[1, 3, 4, 9, 2, 3, 3\]"),
            (POINTS.expand(2, -1, -1, -1, -1, -1, -1), r"\[2, 4, 3, 9, 2, 3, 3\]"),
        )
    ),
    (
        lambda: dmf().filters(X_SUPP, X_Q, POINTS.numpy()),
        TypeError,
        r"points must be a tensor, .*, got ndarray float32",
    ),
    (lambda: dmf().filters(X_SUPP, X_Q, POINTS.tolist()), TypeError, r"points must be a tensor, .*, got a list of 1"),
    (lambda: dmf().filters(X_SUPP, X_Q, POINTS[:, :, :, :4]), ValueError, r"9, 2, 3, 3\], got \[1, 4, 3, 4, 2, 3, 3\]"),
    (lambda: loss(TARGETS + 3), ValueError, "labels must be from 0 to 2, got 3 to 3"),
    (lambda: loss(TARGETS - 1), ValueError, "labels must be from 0 to 2, got -1 to -1"),
    (lambda: loss(base_labels=TARGETS + 64), ValueError, "base_labels must be from 0 to 63, got 64 to 64"),
    (lambda: loss(TARGETS[:, :2]), ValueError, r"labels must be int64 \[E, Q\] = \[1, 4\], got Tensor int64 \[1, 2\]"),
    (
        lambda: loss(TARGETS.float()),
        ValueError,
        r"labels must be int64 \[E, Q\] = \[1, 4\], got Tensor float32 \[1, 4\]",
    ),
    # Evaluation.
    (lambda: evaluate(episodes=1), ValueError, "episodes, for an interval, must be at least 2, got 1"),
    (lambda: evaluate(episodes=2.5), TypeError, r"episodes, .* must be a whole number, got 2\.5"),
    (lambda: evaluate(chunk=-1), ValueError, "chunk must be at least 1, got -1"),
    (lambda: evaluate("quick"), TypeError, r"a module with embed and score, as labkit\.DMF is, got a str"),
    (lambda: evaluate(nn.Conv2d(3, 3, 3)), TypeError, "a module with embed and score, .* got a Conv2d"),
    (lambda: evaluate(of=PIXELS), TypeError, "images must be an ImageSet, .* got ndarray uint8"),
    (lambda: evaluate(of=images(), way=2, query=1), ValueError, "trained on 24 px images .* has 8 px .* load it with"),
    (lambda: evaluate(shot=12), ValueError, r"shot \+ query = 14 .* has only 12"),
    # Experiments and training.
    (lambda: labkit.experiment("fast"), ValueError, r"no experiment 'fast'; there are \['cifar-backbone-42', 'mini-"),
    (lambda: quick(colour=1), TypeError, "an experiment has no option 'colour'; there are augment, "),
    (lambda: quick(steps=-1), ValueError, "steps must be at least 1, got -1"),
    (lambda: quick(steps="many"), TypeError, "steps must be a whole number, got 'many'"),
    (lambda: quick(batch=0), ValueError, "batch must be at least 1, got 0"),
    (lambda: quick(validate_every=0), ValueError, "validate_every must be at least 1, got 0"),
    (lambda: quick(validation_episodes=1), ValueError, "validation_episodes must be at least 2, got 1"),
    (lambda: quick(learning_rate=NAN), ValueError, "learning_rate must be a finite number above 0, got nan"),
    (lambda: quick(momentum=1.5), ValueError, r"momentum must be a finite number above 0 and below 1, got 1\.5"),
    (lambda: quick(clip=0), ValueError, "clip must be a finite number above 0, got 0"),
    (lambda: quick(choices=3), TypeError, "choices must be a dict of options, got 3"),
    (lambda: build(method="gnn"), ValueError, r"there is no method 'gnn'; there are .*'dmf', "),
    (lambda: build(choices={"x": 1}), ValueError, r"unknown choices \['x'\]; there are"),
    (lambda: build(method="protonet", choices={"x": 1}), TypeError, "ProtoNet has no option .*'x'.*; there are"),
    (lambda: build(classes=0), ValueError, "classes must be at least 1, got 0"),
    (lambda: build(seed=-1), ValueError, "seed must be from 0 to .*, got -1"),
    (lambda: train("quick"), TypeError, r"experiment must be a labkit\.Experiment, .* got 'quick'"),
    (lambda: train(base=PIXELS), TypeError, "base must be an ImageSet, .* got ndarray uint8"),
    (lambda: train(validation=None), TypeError, "validation must be an ImageSet, .* got None"),
    (lambda: train(seed=-1), ValueError, "seed must be from 0 to .*, got -1"),
    (lambda: train(until=0), ValueError, "until must be at least 1, got 0"),
    (lambda: train(devices=0), ValueError, "devices must be at least 1, got 0"),
    (lambda: train(devices=3), ValueError, "2 episodes a step cannot be shared evenly by 3 x 1 devices"),
    (lambda: train(device="tpu"), ValueError, "device must be 'cpu', 'cuda' or 'cuda:1', got 'tpu'"),
    (lambda: train(device="cuda:7"), ValueError, "device 'cuda:7' was asked for, and PyTorch finds .* here: pass"),
    (
        lambda: train(compiler="nope"),
        ValueError,
        r"compiler must be 'auto', None, .*, 'inductor-loss' or one of \['a",
    ),
    (lambda: train(compiler=3), TypeError, "compiler must be a backend's name, 'auto' or None, got 3"),
    # Files.
    (lambda: labkit.load_model("gone"), FileNotFoundError, r"gone is neither a file nor one .* \['"),
    (lambda: labkit.load_model(LONG), FileNotFoundError, r"xxx is neither a file nor one .* \['"),
    (lambda: labkit.save_model(dmf(), f"{LONG}.safetensors"), OSError, "cannot be written: its name is longer than"),
    (lambda: labkit.load_model("quick", "tpu"), ValueError, "device must be 'cpu', 'cuda' or 'cuda:1', got 'tpu'"),
    (lambda: labkit.save_model(nn.ReLU(), "m.safetensors"), TypeError, "a method of labkit, .* got a ReLU"),
    (lambda: labkit.save_model(dmf(), "m.pt"), ValueError, r"path must end in \.safetensors, got 'm\.pt'"),
    (lambda: labkit.load_released("gone.pth.tar"), FileNotFoundError, r"there is no checkpoint gone\.pth\.tar"),
    (lambda: labkit.load_released(LONG), FileNotFoundError, "there is no checkpoint xxx"),
    (lambda: labkit.save_released(dmf(), "g.tar"), ValueError, r"alignment is 'closed' \(released: 'rk4'\); relu"),
    # Your images.
    (lambda: classify(support={"a": GREY}), ValueError, r"at least 2 classes, the support has \['a'\]"),
    (
        lambda: classify(support={"a": [], "b": GREY}),
        ValueError,
        "class 'a': there is no picture; give it at least one",
    ),
    (lambda: classify(support={"a": GREY, "b": GREY / 255}), ValueError, rf"class 'b': .*{PICTURE}float64 \[20, 20\]"),
    (lambda: classify(support=[GREY, GREY]), TypeError, "support must be pictures by class, .* got a list of 2"),
    (lambda: classify(support=NOWHERE), ValueError, "no such folder is no folder; expected one with a subfolder"),
    (lambda: classify(GREY.astype(float)), ValueError, rf"query: .*{PICTURE}float64 \[20, 20\]"),
    (lambda: classify(np.zeros((9, 9, 5), np.uint8)), ValueError, rf"query: .*{PICTURE}uint8 \[9, 9, 5\]"),
    (lambda: classify(np.zeros((0, 9, 3), np.uint8)), ValueError, rf"query: .*{PICTURE}uint8 \[0, 9, 3\]"),
    (lambda: classify(""), ValueError, r"query is an empty text; expected a path, '\.' for the folder in which Python"),
    (lambda: labkit.enrol(dmf(), ""), ValueError, "support is an empty text; expected a path"),
    (lambda: classify(LONG), ValueError, "query: not one of 1 pictures can be read .*xxx: not a file"),
    (lambda: labkit.enrol(dmf(), LONG), ValueError, "xxx is no folder; expected one with a subfolder of pictures"),
    (lambda: classify(5), TypeError, "query must be a picture or several: .* got 5"),
    (lambda: classify(fit="stretch"), ValueError, "fit must be 'letterbox' or 'crop', got 'stretch'"),
    (lambda: classify(model=3), TypeError, "model must be a method of labkit, .* got 3"),
    (
        lambda: classify(model=labkit.load_model("quick"), refuse=NAN),
        ValueError,
        r"refuse .* from 0\.01 to 0\.5, got nan",
    ),
    (lambda: classify(model=labkit.load_model("quick"), refuse=0.9), ValueError, r"from 0\.01 to 0\.5, got 0\.9"),
    (lambda: labkit.Calibration(()), ValueError, r"a fit for every way with every shot of a grid, got \[\]"),
]
assert len(TABLE) >= 60


@pytest.mark.filterwarnings("ignore:this model has no calibration")
@pytest.mark.parametrize(("call", "exception", "said"), TABLE, ids=[said for *_, said in TABLE])
def test_bad_inputs_are_refused_with_a_reason(call: Callable[[], Any], exception: type[Exception], said: str) -> None:
    with pytest.raises(exception, match=said) as error:
        call()
    assert type(error.value) is exception
    assert len(str(error.value)) < 800
    assert not NOWHERE.exists()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_refuses_a_mask_that_does_not_fit(method: str) -> None:
    own: dict[str, Any] = {"dmf": {"groups": 4}, "can": {"cells": 9}}.get(method, {})
    model = METHODS[method]("conv4", backbone_options={"width": 8}, **own).eval()
    with pytest.raises(ValueError, match=r"support_mask must be bool \[E, N, K\] = \[1, 3, 2\], got Tensor bool"):
        model(SUPPORT, QUERY, torch.ones(1, 3, 3) > 0)


@pytest.mark.parametrize("far", [1e9, -1e9, 1e30])
def test_points_far_outside_read_zeros(far: float) -> None:
    """Which is what bilinear sampling with zeros outside gives: sigma(0)."""
    torch.manual_seed(0)
    filters = dmf().filters(torch.randn_like(X_SUPP), X_Q, POINTS + far)
    assert torch.equal(filters, torch.full_like(filters, 0.5))


def test_a_validation_split_that_is_too_small_is_refused_before_the_training(tmp_path: Path) -> None:
    few = toy_images(classes=3, per_class=5, split="val")
    with pytest.raises(ValueError, match=r"shot \+ query = 6 .* 'val'.* has only 5"):
        labkit.train(TINY, IMAGES, few, tmp_path, progress=False)
    assert not (tmp_path / "last.pt").exists()
