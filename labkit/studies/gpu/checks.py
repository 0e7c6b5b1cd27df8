"""Is what a GPU computes what the processor computes? Each check returns what it measured, or raises `CheckError`.

``dmf-lab gpu`` runs them all, ``pytest -m gpu`` one by one. On a machine without a GPU they compare the processor with
itself, which rehearses them.
"""

import copy
import tempfile
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labkit.episodes.augment import Augment
from labkit.episodes.sampler import EpisodeSampler
from labkit.methods.noise import set_keys
from labkit.models.registry import METHODS
from labkit.models.small import E, N, small_batch, small_model
from labkit.studies.gpu.works import tiny_pictures
from labkit.training.divergence import Watch
from labkit.training.feeds import EpisodeFeed
from labkit.training.loop import train
from labkit.training.optimisers import make_optimiser
from labkit.training.settings import TINY

TOLERANCE = 1e-4  # relative, in float32 without TF32


class CheckError(AssertionError):
    """A GPU's result differs from the processor's, or a step made the host wait."""


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 without TF32."""
    kept = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = kept


def method_agrees(name: str, device: str) -> dict[str, float]:
    """Scores, loss and gradient of a method, against the processor's in float32."""
    model = small_model(name)
    found = []
    with full_precision():
        for where in ("cpu", device):
            own = copy.deepcopy(model).to(where)
            support, query, *labels = (t.to(where) for t in small_batch())
            with torch.no_grad():
                scores = own(support, query)
            set_keys(own.train(), [(e,) for e in range(E)])
            own.backbone.eval()
            loss = own.loss(support, query, *labels).total
            loss.backward()
            gradient = torch.cat([p.grad.flatten() for p in own.parameters() if p.grad is not None])
            found.append({"scores": scores, "loss": loss.detach(), "gradient": gradient})
    return {what: _close(f"{name}: {what}", found[1][what], found[0][what]) for what in found[0]}


def bfloat16_agrees(device: str) -> dict[str, float]:
    """A backbone in bfloat16 strays from float32 at most twice as far as the processor's does."""
    model = small_model("dmf")
    images = small_batch()[1].flatten(0, 1)
    with torch.inference_mode():
        exact = model.embed(images)
        strays = []
        for where in ("cpu", device):
            own = copy.deepcopy(model).to(where)
            with torch.autocast(where, torch.bfloat16):
                rounded = own.embed(images.to(where)).float().cpu()
            strays.append(float((rounded - exact).norm() / exact.norm()))
    if not strays[1] <= 2 * strays[0]:
        raise CheckError(f"bfloat16 strays by {strays[1]:.2g} on {device}, and by {strays[0]:.2g} on the processor")
    return {"cpu": strays[0], "device": strays[1]}


def episodes_agree(device: str) -> dict[str, float]:
    """The sampler draws the same pictures, and augmentation makes the same of them."""
    images, worst = tiny_pictures("train"), 0.0
    for augment in (Augment(), Augment(crop="resized")):
        drawn = [
            EpisodeSampler(images, 3, 1, 2, device=where, augment=augment).batch(range(4)) for where in ("cpu", device)
        ]
        for name in (f.name for f in fields(drawn[0])):
            one, other = (getattr(d, name).cpu() for d in drawn)
            if not one.is_floating_point() and not torch.equal(one, other):
                raise CheckError(f"{name} of the episodes differ on {device}")
            if one.is_floating_point():
                worst = max(worst, _share_apart(one, other))
    return {"share_of_numbers_that_differ": _few(worst, f"augmentation differs on {device}")}


def compiled_preparation_agrees(device: str) -> dict[str, float]:
    """Pictures that compiled kernels have augmented are those that torch's own have."""
    images, worst = tiny_pictures("train"), 0.0
    for augment in (Augment(), Augment(crop="resized")):
        samplers = [EpisodeSampler(images, 3, 1, 2, device=device, augment=augment) for _ in range(2)]
        samplers[1].prepare.compile("inductor" if device == "cuda" else "aot_eager")
        one, other = (sampler.batch(range(4)) for sampler in samplers)
        for name in ("support", "query"):
            worst = max(worst, _share_apart(getattr(one, name), getattr(other, name)))
    return {"share_of_numbers_that_differ": _few(worst, "compiled augmentation differs")}


def step_waits_nowhere(device: str) -> dict[str, float]:
    """A whole training step with torch's synchronisation debugger set to raise."""
    where = torch.device(device)
    model = small_model("dmf").to(where).train()
    feed = EpisodeFeed(EpisodeSampler(tiny_pictures("train"), 3, 1, 2, device=where, augment=Augment()))
    phase = TINY.plan[0]
    optimiser, watch = make_optimiser(model, phase, where), Watch(model, phase.size, where)
    for step in range(2):
        with _no_synchronisation() if where.type == "cuda" and step else nullcontext():  # the first one warms up
            batch = feed.batch(range(step * phase.size, (step + 1) * phase.size))
            set_keys(model, batch.keys)
            with torch.autocast(where.type, torch.bfloat16):
                losses = model.loss(*batch.inputs)
            optimiser.zero_grad()
            losses.total.backward()
            watch.note(step + 1, losses.total, losses.scores)
            optimiser.step()
    return {"steps": 2.0}


@contextmanager
def _no_synchronisation() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def training_goes_on(device: str) -> dict[str, float]:
    """A training that stops after half its steps and is called again ends where one without a pause ends."""
    base, validation = tiny_pictures("train"), tiny_pictures("val")
    with tempfile.TemporaryDirectory() as folder, full_precision():
        call = partial(train, TINY, base, validation, device=device, compiler=None, progress=False)
        whole = call(Path(folder) / "whole")
        call(Path(folder) / "halves", until=5)
        halves = call(Path(folder) / "halves")
    steps = [[line["step"] for line in t.metrics] for t in (whole, halves)]
    if steps[0] != steps[1]:
        raise CheckError(f"a resumed training wrote the steps {steps[1]}, and not {steps[0]}")
    states = [t.model.state_dict() for t in (halves, whole)]
    one, other = (torch.cat([v.float().flatten() for v in state.values()]) for state in states)
    # A GPU adds up in an order of its own, and training spreads what differs.
    return {"weights": _close("weights after a pause", one, other, 1e-2)}


def own_pictures_agree(device: str) -> dict[str, float]:
    """Probabilities of one's own pictures by a model on the device."""
    from labkit.own_images.classify import classify

    images = tiny_pictures("test")
    support = {name: list(images.pixels[images.labels == i][:2]) for i, name in enumerate(images.class_names[:N])}
    query = list(images.pixels[images.labels < N][3::4])
    model = small_model("dmf")
    with warnings.catch_warnings(), full_precision():
        warnings.simplefilter("ignore")  # no calibration, by intent
        one, other = (classify(copy.deepcopy(model).to(where), support, query) for where in ("cpu", device))
    return {"scores": _close("scores of own pictures", torch.tensor(other.scores), torch.tensor(one.scores))}


def explorer_agrees(device: str) -> dict[str, float]:
    """What the explorer draws, computed by a model on the device."""
    from labkit.explorer.precompute import effects, precompute
    from labkit.explorer.tasks import tasks_of

    tasks = tasks_of(tiny_pictures("test"), [0], way=N)
    model = small_model("dmf")
    with full_precision():
        told = []
        for where in ("cpu", device):
            own: Any = copy.deepcopy(model).to(where)
            header, buffer, _ = precompute([own], tasks)
            told.append((sorted(header), len(buffer), effects(own, tasks[0])))
    if told[0][:2] != told[1][:2]:
        raise CheckError(f"the explorer's arrays are others on {device}")
    one, other = (torch.tensor(list(t[2].values())) for t in told)
    return {"effects": _close("the explorer's effects", other, one, 1e-3)}


def memory_is_explained(device: str) -> dict[str, float]:
    """Asking a GPU for more than it has ends in one sentence that says what to lower."""
    from labkit.common.devices import memory_explained

    try:
        with memory_explained("batch"):
            if device == "cpu":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 PiB. GPU 0 has less.")
            torch.empty(2**50, dtype=torch.uint8, device=device)
    except SystemExit as ended:
        if "lower batch" not in f"{ended}" or "\n" in f"{ended}":
            raise CheckError(f"out of memory said {ended}") from None
        return {"sentences": 1.0}
    raise CheckError("a GPU gave a pebibyte")


CHECKS: dict[str, Callable[[str], dict[str, float]]] = {
    "released DMF and the rest of a step wait nowhere": step_waits_nowhere,
    "episodes and augmentation": episodes_agree,
    **{f"method {name}": partial(method_agrees, name) for name in METHODS},
    "bfloat16": bfloat16_agrees,
    "training goes on": training_goes_on,
    "own pictures": own_pictures_agree,
    "explorer": explorer_agrees,
    "out of memory": memory_is_explained,
    "compiled augmentation": compiled_preparation_agrees,
}


# What a training of DMF stands on.
BEFORE_TRAINING = frozenset({*list(CHECKS)[:2], "method dmf", "bfloat16"})


def run_checks(
    device: str,
    deadline: float,
    done: dict[str, Any],
    keep: Callable[[dict[str, Any]], object],
    names: Collection[str] | None = None,
) -> None:
    """Run those of `names`, or all, that are not in `done`, until `deadline` of `time.monotonic`.

    After each, `keep` is given all of `done`.
    """
    for name, check in CHECKS.items():
        if name in done or (names is not None and name not in names):
            continue
        if time.monotonic() > deadline:
            return
        started = time.perf_counter()
        try:
            said: dict[str, Any] = {"passed": True, "measured": check(device)}
        except Exception as error:  # the others are to be run all the same, and the error is what the file is for
            said = {"passed": False, "error": f"{type(error).__name__}: {f'{error}':.500}"}
        done[name] = said | {"seconds": round(time.perf_counter() - started, 2)}
        keep(done)


def _share_apart(one: Tensor, other: Tensor) -> float:
    """How many of the numbers differ, of one; what is no number agrees with nothing."""
    return float((~((one - other).abs() <= 1e-3)).float().mean())


def _few(share: float, what: str) -> float:
    """The share, at most a thousandth: a sample that falls between two pixels may round to the other.

    Raises:
        CheckError: it is more.
    """
    if not share <= 1e-3:
        raise CheckError(f"{what} in {share:.2%} of the numbers")
    return share


def _close(what: str, found: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> float:
    """Norm of the difference by the norm of what is expected.

    Raises:
        CheckError: it is above the tolerance.
    """
    expected = expected.double().cpu()
    apart = float((found.double().cpu() - expected).norm() / expected.norm().clamp(min=1e-12))
    if not apart <= tolerance:
        raise CheckError(f"{what}: differs by {apart:.2g} of its norm, and at most {tolerance:g} is allowed")
    return apart
