"""The fast form against the literal one, side by side, in one run; ``dmf-lab speed OUT.json`` measures all of it.

Ratios of medians, the two forms alternating, random weights, the paper's sizes: ResNet-12, images of 84 px, 5-way
1-shot, 15 queries a class (6 in training), 64 groups, 11 x 11 maps. The parts are a sweep, one after another, each in a
process of its own: what is measured already is not measured again. On a CPU all parts take some twenty minutes.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from labkit.common.checks import check_int
from labkit.common.files import read_json, write_json
from labkit.common.timing import about
from labkit.studies.speed import head, whole
from labkit.studies.speed.setting import Setting
from labkit.sweeps.sweep import refuse_failed, sweep

PAPER = Setting()
VERSION = 1  # of what the parts measure
THREADS = 2  # with which the committed numbers were measured
PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "head": head.head,
    "memory": head.memory,
    "sampling": head.sampling,
    "step": whole.step,
    "agreement": whole.agreement,
    "growth": head.growth,
    "largest": head.largest,
    "test": whole.test,
}


def run_part(parameters: dict[str, Any], _: Path) -> dict[str, Any]:
    """Measure one of `PARTS` as a run of a sweep: its name and the `Setting` as a dictionary."""
    setting = Setting(**parameters["setting"])
    return PARTS[parameters["part"]](setting) | {"setting": asdict(setting), "made": about(setting.device)}


def run(
    out: Path, parts: Sequence[str] = tuple(PARTS), setting: Setting = PAPER, threads: int = THREADS
) -> dict[str, Any]:
    """Measure what is not measured yet, and add it to a JSON file; what that file holds then.

    Finished parts are kept beside the file `out`, in a folder of its name. What is measured with another number of
    threads takes the place of what the file held.

    Raises:
        ValueError: a name that does not end in ``.json``, less than one thread, or a kept part of another number of
            threads.
        FailedRunsError: at the end, if parts failed.
    """
    if out.suffix != ".json":  # the folder beside it has the name without the ending
        raise ValueError(f"{out} must be the name of a file that ends in .json")
    threads = check_int("threads", threads)
    # THREADS is not in the key: parts that were kept before others could be told apart are still found.
    of_threads = {} if threads == THREADS else {"threads": threads}
    runs = [{"part": part, "setting": asdict(setting), **of_threads} for part in parts]
    gpus = 1.0 if setting.device == "cuda" else 0.0
    done = sweep(run_part, runs, folder=out.with_suffix(""), version=VERSION, cpus=threads, gpus=gpus, workers=1)
    for row in done.rows:
        if (before := row["result"]["made"]["threads"]) != threads:  # an older lab kept any number under this key
            file = out.with_suffix("") / f"{row['key']}.json"
            raise ValueError(f"{file} was measured with {before} threads, not {threads}: delete it to measure anew")
    content: dict[str, Any] = read_json(out) if out.exists() else {}
    content |= {row["parameters"]["part"]: row["result"] for row in done.rows}
    write_json(out, content)
    refuse_failed(done.failed)
    return content
