"""What ``dmf-lab gpu`` does, one after another; what is finished lies in the folder, and another call goes on."""

import statistics
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

from labkit.common.checks import check_seed, finite, several
from labkit.common.devices import memory_explained
from labkit.common.files import make_folder, read_json, write_json
from labkit.common.timing import about, alternate
from labkit.data import load_images
from labkit.data.folders import real_root
from labkit.data.imageset import ImageSet
from labkit.studies.gpu import estimate
from labkit.studies.gpu.checks import BEFORE_TRAINING, run_checks
from labkit.studies.gpu.flagship import flagship
from labkit.studies.gpu.step_time import compilers, profiled
from labkit.studies.gpu.works import SpeedSetting, tiny, tiny_pictures, works
from labkit.studies.speed.measure import PARTS
from labkit.studies.speed.setting import Setting
from labkit.sweeps.sweep import refuse_failed
from labkit.training.settings import Experiment
from labkit.training.step import check_compiler

CHECK_SECONDS, SPEED_SECONDS = 60.0, 90.0  # at most
# Those that need no shipped model, measured after the first training: what is lent for minutes is for training first.
# `profile` and `compilers` are measured once this call has finished a training, since compiling took 84 s on an H200,
# and what the training has compiled is not compiled again.
SPEED_PARTS = ("product", "head", "step", "test", "memory", "largest", "growth")
WITHOUT_PICTURES = ("head", "growth", "memory", "largest")
LEAST_SECONDS = 180.0  # nothing that compiles is begun with less
PROFILE_SECONDS = 60.0  # nor the profile, whose step is compiled already
EPISODES = 2000
SPLITS = ("train", "val", "test")
SMALL_SPEED: dict[str, Any] = {"way": 3, "query": 2, "groups": 4, "width": 0.05, "size": 24, "episodes": 4}


def run(
    root: Path | str | None,
    folder: Path,
    seconds: float,
    device: str = "cuda",
    *,
    small: bool = False,
    command: Sequence[str] = (),
    seed: int = 0,
    names: Sequence[str] | None = None,
    compiler: str | None = None,
    whole: bool = False,
) -> dict[str, Any]:
    """What a training stands on is checked, then the first is trained; then all checks, the speed table, and as many
    trainings as fit.

    Args:
        root: where miniImageNet lies.
        folder: receives small JSON files, the weights in halves (`labkit.studies.gpu.parts`), and unfinished trainings.
        seconds: of this call, loading included.
        device: ``"cuda"``, or ``"cpu"`` for a rehearsal.
        small: sizes for a rehearsal, on pictures that are made on the spot.
        names: of `works` to train; all, in their order, unless told otherwise.
        compiler: of `labkit.training.step.Step`, for trainings that begin; the fastest that an earlier call measured,
            or inductor, unless told otherwise.
        whole: no training is shortened to the time that is left; each goes on in the calls that follow.

    Returns:
        what is finished, by the name of its training. One that fails is written down (``NAME.error.json``), and the
        next one begins.

    Raises:
        ValueError: the folder was begun on another device or as a rehearsal, or a file in it is damaged; there are no
            seconds, the seed is none, or there is no such compiler or training.
        DataError: there are no pictures at `root`.
        FailedRunsError: at the end, if trainings failed.
    """
    seconds, seed = finite("seconds", seconds, above=0), check_seed(seed)
    check_compiler(compiler)
    names = list(works()) if names is None else several("names", names, "names of trainings")
    if unknown := sorted(set(names) - works().keys()):
        raise ValueError(f"there is no training {', '.join(unknown)}; there are {', '.join(works())}")
    end = time.monotonic() + seconds
    make_folder(folder)
    _bind(folder, {"device": device, "tiny": small})
    if not small:
        real_root(root or "")  # said now, and not after the checks
    settings = {name: tiny(name, e) if small else e for name, e in works().items()}
    first: Experiment = next(iter(settings.values()))
    write_json(folder / "made.json", {"command": list(command), "seconds": seconds, **about(device)})
    print("\n".join(estimate.lines(first)), flush=True)
    pool = ThreadPoolExecutor(1)  # pictures are decoded while the GPU is checked
    loading = pool.submit(_pictures, root, first.size, small)
    checked = partial(_check, folder / "checks.json", device)
    checked(time.monotonic() + min(CHECK_SECONDS, seconds / 4), BEFORE_TRAINING)
    pictures = loading.result()
    pool.shutdown()
    table = partial(speed_table, folder / "speed.json", pictures, device, small, first)

    def measure_the_rest() -> None:
        checked(min(time.monotonic() + CHECK_SECONDS, end))
        table(SPEED_PARTS, min(time.monotonic() + SPEED_SECONDS, end))

    # None is measured, if every compiler failed: none is used.
    measured = _read(folder / "speed.json").get("compilers", {}).get("fastest", "auto")
    finished: dict[str, Any] = {}
    broken: list[dict[str, Any]] = []
    suffix = f"-seed{seed}" if seed else ""
    for name in names:
        file = folder / f"{name}{suffix}.json"
        trained = not file.exists() and (small or end - time.monotonic() > LEAST_SECONDS)
        if trained:
            options: dict[str, Any] = {"episodes": 8, "count": 25} if small else {"episodes": EPISODES}
            training = f"{name}{suffix}", settings[name], pictures, folder, device, end
            try:
                with memory_explained("batch or query of labkit.studies.gpu.works"):
                    flagship(*training, seed=seed, compiler=compiler or measured, whole=whole, **options)
            except (Exception, SystemExit) as error:  # what fails must not cost the trainings that come after it
                failed_as = {"error": f"{type(error).__name__}: {f'{error}':.2000}", "trace": traceback.format_exc()}
                write_json(folder / f"{name}{suffix}.error.json", failed_as | {"made": about(device)})
                print(f"{name} failed: {failed_as['error']}", flush=True)
                broken.append({"parameters": f"{name}{suffix}", "error": failed_as["error"]})
                continue
        if not file.exists():
            if not trained:
                left = end - time.monotonic()
                print(f"{name}: not gone on with, {left:.0f} s are left and {LEAST_SECONDS:.0f} are needed", flush=True)
            break
        (folder / f"{name}{suffix}.error.json").unlink(missing_ok=True)
        finished[name] = _read(file)
        done = finished[name].get("schedule")
        if whole and done and done["steps"] < done["of"]:
            print(f"{name}: finished before, with {done['steps']} of {done['of']} steps; for all give another folder")
        if trained:  # not in a call that finds it finished: they would compile anew before the next one
            table(("profile",), end - PROFILE_SECONDS)
            table(("compilers",), end - LEAST_SECONDS)
        measure_the_rest()
    if not finished:
        measure_the_rest()
    refuse_failed(broken)
    return finished


def speed_table(
    file: Path,
    pictures: tuple[ImageSet, ...],
    device: str,
    small: bool,
    first: Experiment,
    parts: Sequence[str],
    deadline: float,
) -> dict[str, Any]:
    """The literal form against the lab's, a part at a time while there is time; parts that fail say why."""
    sizes: dict[str, Any] = {}
    if small:
        sizes = SMALL_SPEED | {"literal_episodes": 1, "runs": 1, "growth": 20}
    plain = Setting(**sizes, device=device)
    loaded = SpeedSetting(**sizes, device=device, pictures=pictures, experiment=first)
    own: dict[str, Callable[[], dict[str, Any]]] = {
        "product": lambda: product(plain),
        "compilers": lambda: compilers(loaded),
        "profile": lambda: profiled(loaded),
    }
    done = _read(file)
    for part in (p for p in parts if p not in done):
        if time.monotonic() > deadline or (small and part in ("growth", "memory", "largest")):
            continue
        started = time.perf_counter()
        try:
            found = own[part]() if part in own else PARTS[part](plain if part in WITHOUT_PICTURES else loaded)
        except Exception as error:  # a number that is missing must not cost the training that comes next
            found = {"error": f"{type(error).__name__}: {f'{error}':.500}"}
        done[part] = found | {"made": about(device), "took": round(time.perf_counter() - started, 2)}
        write_json(file, done)
        if device == "cuda":
            torch.cuda.empty_cache()
    print(f"speed: {', '.join(done)} measured", flush=True)
    return done


def product(setting: Setting) -> dict[str, Any]:
    """The rate that large matrix products reach in bfloat16: what a step is held against."""
    side = 8192 if setting.device == "cuda" else 256
    a = torch.randn(side, side, device=setting.device, dtype=torch.bfloat16)
    times = alternate({"product": lambda: a @ a}, 10, setting.device)["product"]
    return {"side": side, "seconds": times, "operations_a_second": 2 * side**3 / max(1e-9, statistics.median(times))}


def _check(file: Path, device: str, deadline: float, names: Collection[str] | None = None) -> None:
    """Run those of the checks that were not run yet, until the deadline, and say how all came out."""
    done = _read(file)
    run_checks(device, deadline, done, lambda found: write_json(file, found), names)
    failed = [name for name, said in done.items() if not said["passed"]]
    print(f"checks: {len(done) - len(failed)} passed, {len(failed)} failed {failed or ''}", flush=True)


def _bind(folder: Path, this: dict[str, Any]) -> None:
    """Refuse a folder that was begun on another kind of device, and never mix a rehearsal with the real thing."""
    file = folder / "belongs.json"
    if not file.exists():
        write_json(file, this)
    if (before := _read(file)) != this:
        raise ValueError(f"{folder} was begun with {before}, and this call has {this}: choose another folder")


def _pictures(root: Path | str | None, size: int, small: bool) -> tuple[ImageSet, ...]:
    if small:
        return tuple(tiny_pictures(split) for split in SPLITS)
    return tuple(load_images("miniimagenet", split, root=root, size=size) for split in SPLITS)


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(file) if file.exists() else {}
    return found
