"""A whole training in the time that is left: it measures its own step, fixes its schedule, and can be cut off.

The number of steps is fixed before the first one and kept in a file, so that a call that was cut off goes on with the
same schedule; the training's state is saved every minute.
"""

import glob
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from labkit.common.files import read_json, write_json
from labkit.common.timing import about
from labkit.data.imageset import ImageSet
from labkit.episodes.preprocessing import Preprocessing
from labkit.evaluation.protocol import Result, evaluate
from labkit.models.checkpoints import load_model, read_header
from labkit.studies.gpu.estimate import BANDWIDTH, REACHED, parts_of_a_step
from labkit.studies.gpu.parts import save_parts
from labkit.studies.gpu.works import PUBLISHED
from labkit.training.authors import shortened
from labkit.training.loop import build_model, train
from labkit.training.run import GROUP
from labkit.training.settings import Experiment
from labkit.training.step import LOSS_ALONE, seconds_of_steps, trial

VALIDATIONS = 8  # of a training; each embeds all 9,600 pictures of the validation classes
SAVED_EVERY = 60.0  # seconds
NOTED_EVERY = 5.0  # seconds
SAVING = 5.0  # seconds kept back for writing weights
SPARE = 0.15  # of the time for steps, kept back: on an H200 those of a training took 13 % longer than those measured
LEAST_STEPS = 100  # a shorter training says nothing


@dataclass(frozen=True)
class Schedule:
    """The lengths of a training, fixed before it begins; seconds as they were measured then.

    Attributes:
        steps, of: how many are done, and how many the setting asks for.
        step, validation, test: seconds of one step, of one validation, and of the test on the novel classes.
        compiler: of `labkit.training.step.Step`.
    """

    steps: int
    of: int
    step: float
    validation: float
    test: float
    compiler: str | None = "auto"

    @property
    def seconds(self) -> float:
        """Seconds that the steps, the validations and the test take together."""
        return self.steps * self.step + VALIDATIONS * self.validation + self.test

    def applied_to(self, e: Experiment) -> Experiment:
        """The experiment with this many steps, its warm-up shortened in proportion."""
        save_every = max(1, round(SAVED_EVERY / self.step))
        if e.phases:
            phases = shortened(e.phases, self.steps / e.steps)
        else:
            warmup, validate = round(e.warmup * self.steps / e.steps), max(1, math.ceil(self.steps / VALIDATIONS))
            phases = (replace(e.plan[0], steps=self.steps, warmup=warmup, validate_every=validate),)
        phases = tuple(replace(phase, save_every=save_every) for phase in phases)
        return replace(e, steps=sum(phase.steps for phase in phases), phases=phases)

    def __str__(self) -> str:
        return (
            f"{self.steps} of {self.of} steps at {1000 * self.step:.2f} ms, {VALIDATIONS} validations of "
            f"{self.validation:.1f} s, test {self.test:.1f} s: {self.seconds / 60:.1f} minutes"
        )


def fitting(of: int, step: float, validation: float, test: float, seconds_left: float) -> Schedule | None:
    """The longest schedule that fits into the time left, all steps at most; None where hardly any fits."""
    free = (seconds_left - VALIDATIONS * validation - test) * (1 - SPARE)
    steps = int(min(of, free / step)) if free > 0 else 0
    return Schedule(steps, of, step, validation, test) if steps >= min(of, LEAST_STEPS) else None


def measure(
    e: Experiment,
    pictures: tuple[ImageSet, ...],
    device: str,
    seconds_left: float,
    episodes: int,
    count: int,
    compiler: str | None = "auto",
) -> Schedule | None:
    """Time the parts of a training on untrained weights, and fix its schedule; see `fitting`."""
    base, validation, novel = pictures
    started = time.perf_counter()
    step = _step(e, base, device, compiler, count)
    made: Any = build_model(e, len(base.class_names), 0)
    model = made.to(device, memory_format=torch.channels_last).eval()
    model.preprocessing = Preprocessing.of(base)

    def taken(images: ImageSet, number: int) -> float:
        before = time.perf_counter()
        evaluate(model, images, e.way, e.shot, e.test_query, number, bfloat16=True)
        return time.perf_counter() - before

    evaluations = taken(validation, e.validation_episodes), taken(novel, episodes)
    found = fitting(e.steps, step, *evaluations, seconds_left - (time.perf_counter() - started))
    return None if found is None else replace(found, compiler=compiler)


def _step(e: Experiment, base: ImageSet, device: str, compiler: str | None, count: int) -> float:
    """Seconds of a step, as the mean over phases.

    The training need not compile again what is compiled here: a graph depends on the code and the shapes alone.
    """
    of_all = 0.0
    for phase in e.plan:
        alone = replace(e, phases=(phase,), steps=phase.steps)
        with trial(build_model(e, len(base.class_names), 0), alone, base, device, compiler) as steps:
            step = statistics.median(seconds_of_steps(steps, count, GROUP))
        of_all += phase.steps * step
    return of_all / e.steps


def is_of_last_phase(step: int, e: Experiment) -> bool:
    """Whether weights of this step are of the last phase: those of an earlier one have an untrained head."""
    return step > sum(phase.steps for phase in e.plan[:-1])


def flagship(
    name: str,
    e: Experiment,
    pictures: tuple[ImageSet, ...],
    folder: Path,
    device: str,
    deadline: float,
    *,
    seed: int = 0,
    episodes: int = 2000,
    count: int = 4 * GROUP,
    compiler: str | None = "auto",
    whole: bool = False,
) -> dict[str, Any] | None:
    """Train, test and write ``<name>.json`` and the weights; goes on where an earlier call was cut off.

    Args:
        pictures: of base, validation and novel classes.
        device: ``"cuda"`` or ``"cpu"``.
        deadline: of `time.monotonic`, after which no step begins.
        compiler: of `labkit.training.step.Step`, where the schedule is not fixed yet.
        whole: do all steps that the setting asks for, in as many calls as that takes.

    Returns:
        what the file says, or None where the time did not suffice: the training, if it began, is saved.
    """
    base, validation, novel = pictures
    torch.compiler.reset()  # of many trainings in one process each has its graphs, of which torch keeps eight

    def measured(with_compiler: str | None) -> Schedule | None:
        left = math.inf if whole else deadline - time.monotonic()
        return measure(e, pictures, device, left, episodes, count, with_compiler)

    if compiler == "auto":
        compiler = "inductor" if device == "cuda" else None
    schedule = _schedule(name, folder, measured, compiler, whole)
    if schedule is None:
        print(f"{name}: needs more time than this call has left; call again with more --seconds", flush=True)
        return None
    print(f"{name}: {schedule}", flush=True)
    # After the last step come a validation, what is saved, and the test.
    planned, stop_at = schedule.applied_to(e), deadline - schedule.validation - schedule.test - SAVING
    how = {"schedule": asdict(schedule), "made": about(device)}
    spent = _Spent(folder / f"{name}.seconds.json")

    def too_late() -> bool:
        spent.note()
        return time.monotonic() > stop_at

    options: dict[str, Any] = {"seed": seed, "device": device, "compiler": schedule.compiler, "progress": False}
    try:
        trained = train(planned, base, validation, folder / name, until=too_late, **options)
    except FloatingPointError as error:  # the others are trained all the same
        diverged = {"diverged": f"{error}"} | how
        write_json(folder / f"{name}.json", diverged)
        print(f"{name} diverged: {error}", flush=True)
        return diverged
    finally:
        spent.note(now=True)

    file = folder / name / "best.safetensors"

    def tested(as_name: str) -> Result:
        model = load_model(file, device)
        save_parts(model, file, folder, as_name)
        return evaluate(model, novel, e.way, e.shot, e.test_query, episodes, bfloat16=True)

    if trained.step < planned.steps:
        print(f"{name}: stopped in time, after step {trained.step} of {planned.steps}, which is saved", flush=True)
        if file.exists() and is_of_last_phase(read_header(file)["about"]["step"], planned):
            result = tested(f"{name}.unfinished")
            write_json(folder / f"{name}.unfinished.json", {"novel": result.summary(), "schedule": asdict(schedule)})
            print(f"{name}, unfinished: {result.accuracy:.2f} ± {result.ci95:.2f} %", flush=True)
        return None
    result = tested(name)
    published = PUBLISHED.get(name.partition("-seed")[0]) if novel.provenance.dataset == "miniimagenet" else None
    content = {
        "experiment": planned.to_json(),
        "seed": seed,
        "minutes_of_training": round(spent.seconds / 60, 2),
        "novel": result.summary(),
        "published": published,
        "validation": trained.validation,
        "curve": trained.metrics,
    } | how
    write_json(folder / f"{name}.json", content)
    if e.method == "dmf":  # of DMF alone the operations are counted; what was trained is written already
        rate = sum(part.flops for part in parts_of_a_step(e)) / schedule.step
        content |= {"operations_a_second": rate, "share_of_an_h100_s_measured_rate": round(rate / REACHED, 4)}
        content["rates"] = {"operations": REACHED, "bytes": BANDWIDTH}
        write_json(folder / f"{name}.json", content)
    for unfinished in folder.glob(f"{glob.escape(name)}.unfinished.*"):
        unfinished.unlink()
    beside = f" (published: {published[0]} ± {published[1]})" if published else ""
    print(
        f"{name}: {result.accuracy:.2f} ± {result.ci95:.2f} % in {spent.seconds / 60:.1f} minutes{beside}", flush=True
    )
    return content


def _schedule(
    name: str, folder: Path, measured: Callable[[str | None], Schedule | None], compiler: str | None, whole: bool
) -> Schedule | None:
    """The schedule that an earlier call wrote, or a new one, measured and written.

    Where compiling fails, the loss alone is compiled; where that fails too, nothing.

    Raises:
        ValueError: it is damaged, or of fewer steps where the `whole` is asked for.
    """
    plan = folder / f"{name}.schedule.json"
    if plan.exists():
        anew = f"delete it and the folder {folder / name}, and the training begins anew"  # which fits no other schedule
        fixed = Schedule(**read_json(plan, anew))
        if whole and fixed.steps < fixed.of:
            raise ValueError(f"{plan} is of {fixed.steps} of {fixed.of} steps, and all are asked for: {anew}")
        return fixed
    for trying in dict.fromkeys((compiler, LOSS_ALONE, None) if compiler else (None,)):
        try:
            schedule = measured(trying)
        except Exception as error:  # of a compiler there are many kinds
            if trying is None or isinstance(error, torch.OutOfMemoryError):
                raise
            print(f"{name}: {trying} fails, with {type(error).__name__}: {f'{error}':.300}", flush=True)
        else:
            break
    if schedule is not None:
        write_json(plan, asdict(schedule))
    return schedule


class _Spent:
    """The seconds that all calls have spent on a training, in a file, so that a killed call's count too."""

    def __init__(self, file: Path) -> None:
        self.file, self.started = file, time.perf_counter()
        without = "delete it, and the minutes of earlier calls are not counted"
        self.before: float = read_json(file, without)["seconds"] if file.exists() else 0.0
        self.seconds = self.written = self.before

    def note(self, now: bool = False) -> None:
        """Count up to here, and write it every few seconds, or `now`."""
        self.seconds = self.before + time.perf_counter() - self.started
        if now or self.seconds - self.written > NOTED_EVERY:
            self.written = self.seconds
            write_json(self.file, {"seconds": self.seconds})
