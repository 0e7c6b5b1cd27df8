"""A night's work that is killed, over and over: ``python -m tests.helpers.killed FOLDER [KILLS]``.

Every attempt is a process of its own, forked from one that has imported everything, and dies by SIGKILL at a moment of
its plan: at the n-th time something happens, at once or some milliseconds later, wherever it is by then.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import labkit
from labkit.data.cache import digest_of
from labkit.data.glyphs import load as glyphs
from labkit.data.imageset import read_arrays
from labkit.episodes.sampler import EpisodeSampler
from labkit.sweeps.task import Task
from labkit.sweeps.task import attempt as attempt_run
from labkit.training import loop, run
from labkit.training.checkpoints import load_state
from labkit.training.settings import TINY

NIGHT = replace(
    TINY,
    name="night",
    dataset="glyphs-mini",
    per_class=6,
    query=2,
    backbone_options={"width": 0.0625, "ramp": 20},  # dropout and DropBlock draw too
    preset="paper",
    choices={"alignment": "closed"},
    learning_rate=0.05,
    validate_every=3,
    test_query=2,
)
Moment = tuple[str, int, float]  # what happens, how many times, and seconds until the signal


def work(folder: Path, steps: int) -> None:
    """Render, train, evaluate as a run of a sweep: the same whether it begins or goes on."""
    night = replace(NIGHT, steps=steps)
    os.environ["LABKIT_CACHE"] = str(folder / "cache")
    source = {"size": NIGHT.size, "per_class": NIGHT.per_class, "progress": False}
    base, validation = (labkit.load_images(NIGHT.dataset, split, **source) for split in ("train", "val"))
    trained = loop.train(night, base, validation, folder / "run", progress=False)
    novel = labkit.load_images(NIGHT.dataset, "test", **source)
    task = Task("result", {}, folder / "sweep", 1, None)
    task.folder.mkdir(exist_ok=True)
    attempt_run(lambda *_: labkit.evaluate(trained.model, novel, 3, 1, 2, episodes=20).summary(), task)


def plan(kills: int, seed: int = 0) -> list[Moment]:
    """Where to die: in the cache, then in training, then in writing the result."""
    rng = random.Random(seed)
    cache: list[Moment] = [
        ("render", rng.randint(1, 300), 0),
        ("fsync pixels.npy", 1, 0),
        ("fsync recipe.json", 1, 0),
        ("before rename", 1, 0),
        ("after rename", 1, 0),
    ]
    steps: list[Moment] = [
        ("fsync last.pt", 1, 0),
        ("update", rng.randint(2, 90), 0),  # some parameters are new, some old
        ("fsync best.safetensors", 1, 0),
        ("after replace best.safetensors", 1, 0),
        ("before replace last.pt", 1, 0),
        ("append metrics.jsonl", 1, rng.uniform(0, 0.002)),
        ("after replace last.pt", 1, 0),
        ("before replace metrics.jsonl", 1, 0),
        ("validate", 1, rng.uniform(0, 0.02)),
    ]
    while len(steps) < 16:
        happens = rng.choice(("step", "backward", "start"))
        steps.append((happens, 1 if happens == "start" else rng.randint(1, 5), rng.uniform(0, 0.05)))
    end: list[Moment] = [
        ("render", rng.randint(1, 60), 0),
        ("fsync result.json", 1, 0),
        ("before replace result.json", 1, 0),
        ("after replace result.json", 1, 0),
    ]
    if kills < len(cache + steps + end):  # one of each sort
        return [cache[0], cache[1], steps[0], steps[1], steps[9], end[1]][:kills]
    return cache + steps + end


def arm(moment: Moment) -> Callable[[str], None]:
    """Make this process die at `moment`."""
    wanted, number, delay = moment
    seen: Counter[str] = Counter()

    def happens(event: str, file: str = "") -> None:
        seen[event] += 1
        if event != wanted or seen[event] != number:
            return
        me = os.getpid()
        if delay == 0:
            if file:  # half of it has reached the disk
                os.truncate(file, Path(file).stat().st_size // 2)
            os.kill(me, signal.SIGKILL)
        if os.fork() == 0:
            time.sleep(delay)
            if os.getppid() == me:
                os.kill(me, signal.SIGKILL)
            os._exit(0)

    def told(owner: Any, name: str, event: str) -> None:
        original = getattr(owner, name)

        def announced(*arguments: Any, **options: Any) -> Any:
            happens(event)
            return original(*arguments, **options)

        setattr(owner, name, announced)

    told(glyphs, "render", "render")
    told(EpisodeSampler, "batch", "step")
    told(torch.Tensor, "backward", "backward")
    told(torch.Tensor, "add_", "update")  # what SGD does with one parameter after the other
    told(run, "evaluate", "validate")
    fsync, put, rename = os.fsync, os.replace, os.rename

    def synced(fd: int) -> None:
        file = str(Path(f"/proc/self/fd/{fd}").readlink())
        happens(f"fsync {final_name(file)}", file)
        fsync(fd)

    def replaced(source: Any, target: Any) -> None:
        happens(f"before replace {Path(target).name}")
        put(source, target)
        happens(f"after replace {Path(target).name}")

    def renamed(source: Any, target: Any) -> None:
        happens("before rename")
        rename(source, target)
        happens("after rename")

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).endswith("metrics.jsonl") and "a" in str(arguments[1]):
            happens("append metrics.jsonl")

    os.fsync, os.replace, os.rename = synced, replaced, renamed  # type: ignore[assignment]
    sys.addaudithook(heard)
    return happens


def final_name(path: str) -> str:
    """The name that a scratch file is to have."""
    return re.sub(r"^\.(.*)-[^-]+$", r"\1", Path(path).name)


def attempt(folder: Path, steps: int, moment: Moment | None) -> int:
    """One process; gives the signal that ended it, or 0."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if moment:
                arm(moment)("start")
            work(folder, steps)
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"the attempt to be killed at {moment} failed by itself")
    return os.WTERMSIG(status)


def check_whole(folder: Path) -> None:
    """Whatever has its name can be read, and holds all of what it should."""
    run = folder / "run"
    if (run / "last.pt").exists():
        assert "optimiser" in load_state(run / "last.pt")
    if (run / "best.safetensors").exists():
        labkit.load_model(run / "best.safetensors")
    for lines in run.glob("metrics.jsonl"):
        text = lines.read_text()
        assert text == "" or text.endswith("\n")
        assert all("step" in json.loads(line) for line in text.splitlines())
    for result in folder.glob("sweep/result.json"):
        assert "accuracy" in json.loads(result.read_text())["result"]
    for cached in folder.glob("cache/[!.]*/"):
        images = read_arrays(cached)
        assert images.provenance.digest == digest_of(cached / "pixels.npy")
        assert images.masks(slice(None)).any((1, 2)).all()


def content(folder: Path) -> dict[str, bytes]:
    """Every file that is left, by name; a state of tensors is compared tensor by tensor, as bytes.

    Of a sweep's run the result is compared; its record and its log tell the time.
    """
    files = {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}
    assert files.pop("sweep/result.log").endswith(b"\n")
    files["sweep/result.json"] = json.dumps(json.loads(files["sweep/result.json"])["result"]).encode()
    state = load_state(folder / "run" / "last.pt")
    momenta = {f"momentum {i}": s["momentum_buffer"] for i, s in state["optimiser"]["state"].items()}
    tensors = state["model"] | momenta | {"totals": state["totals"]}
    files |= {f"last.pt: {name}": tensor.numpy().tobytes() for name, tensor in tensors.items()}
    files["last.pt: rest"] = repr([state[k] for k in ("identity", "step", "best", "metrics")]).encode()
    del files["run/last.pt"]  # the zip file holds its own scratch names
    return files


def main(folder: Path, kills: int) -> None:
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    moments, steps = plan(kills), 15 if kills < 25 else 80
    killed = []
    for moment in moments:
        killed.append(attempt(folder / "killed", steps, moment) == signal.SIGKILL)
        check_whole(folder / "killed")
        print(f"{'killed' if killed[-1] else 'NOT KILLED'}: {moment}", flush=True)
    assert attempt(folder / "killed", steps, None) == attempt(folder / "whole", steps, None) == 0
    one, other = content(folder / "killed"), content(folder / "whole")
    different = [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]
    print(json.dumps({"kills": sum(killed), "tried": len(moments), "files": len(other), "different": different}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 25)
