"""Your own method: a head of a few lines, trained on one backbone's cached maps and compared with every stored system.

class Mine(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def score(self, support, query):                      # [E, N, K, c, h, w] and [E, Q, c, h, w] to [E, Q, N]
        means = F.normalize(support.mean((2, -2, -1)), dim=-1)
        return self.scale * F.normalize(query.mean((-2, -1)), dim=-1) @ means.transpose(1, 2)

maps = maps_of("mini-backbone-42", "miniimagenet", "/data/x")
try_head(Mine, maps, "../runs/mine")                      # on validation classes, as often as you like
try_head(Mine, maps, "../runs/mine", look=True)           # on novel classes, once, at the end
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from labkit.common import checks
from labkit.common.devices import one_thread
from labkit.common.files import append, expanded, make_folder
from labkit.evaluation import intervals
from labkit.evaluation.protocol import evaluate
from labkit.methods.base import Method
from labkit.models.checkpoints import load_model
from labkit.studies.own_head import check_head, registered, source_of
from labkit.studies.tables.agreement import compared
from labkit.studies.tables.cards import Card
from labkit.studies.tables.head_runs import EPISODES, QUERY, VALIDATION_EPISODES, WAY, Maps, train_and_measure
from labkit.studies.tables.heads import HEADS, RATE, STEPS, Head
from labkit.studies.tables.one_backbone import by_system, results
from labkit.studies.tables.runs import Run

LOOKS = "looks.jsonl"


@dataclass(frozen=True, repr=False)
class Tried:
    """What became of a head.

    Attributes:
        head: its class.
        runs: one for every seed.
        on: ``"validation"`` or ``"novel"`` classes.
        against: against each stored system: points, ± over seeds, ± over episodes, seeds, verdict; empty where none is
            stored for this backbone. On validation classes the interval over episodes is that of two separate ones.
        looks: how often novel classes were looked at from this folder, this time included.
        folders: of the runs, by seed.
    """

    head: type[nn.Module]
    runs: list[Run]
    on: str
    against: pd.DataFrame
    looks: int
    folders: dict[int, Path] = field(default_factory=dict)

    def model(self, seed: int = 0) -> Any:
        """The trained head of a seed, in evaluation mode; `labkit.training.heads.on_pictures` makes it whole.

        Raises:
            ValueError: it was not trained with that seed.
        """
        if seed not in self.folders:
            raise ValueError(f"seed must be one of {list(self.folders)}, with which it was trained, got {seed!r}")
        with registered(self.head):
            return load_model(self.folders[seed] / "best.safetensors")

    def __repr__(self) -> str:
        return self.verdict

    def card(self, file: Path | str) -> Path:
        """Keep the head's lines and its runs in a file that ``dmf-lab table 1 --show --cards FILE`` reads back."""
        return Card(self.head.__name__, source_of(self.head), self.looks, tuple(self.runs)).write(file)

    @property
    def verdict(self) -> str:
        """What the comparison says, in sentences."""
        values = [r.accuracy if self.on == "novel" else r.validation for r in self.runs if not r.diverged]
        failed = [f"Seed {r.seed} diverged: {r.diverged}." for r in self.runs if r.diverged]
        mean, half = intervals.over_seeds(values)
        interval = f" ± {half:.1f}" if half == half else ""
        said = [f"{self.head.__name__}: {mean:.1f}{interval} % on {self.on} classes, {len(values)} seeds.", *failed]
        if self.against.empty:
            said.append("No system is stored for this backbone and these shots: dmf-lab table 1 measures them.")
        for name in (n for n in ("DMF", "No alignment") if n in self.against.index):
            line = self.against.loc[name]
            around = "one seed: no interval over seeds"
            if line["seeds"] > 1:
                around = f"± {line['± over seeds']:.1f} over seeds"
            if line["± over episodes"] == line["± over episodes"]:  # NaN where it is not known
                around += f", ± {line['± over episodes']:.1f} over episodes"
            said.append(f"Against {name}: {line['points']:+.1f} points ({around}), {line['verdict']}.")
        if len(self.against):
            count = self.against["verdict"].value_counts()
            of = ", ".join(f"{word} {count.get(word, 0)}" for word in ("better", "not decidable", "worse"))
            said.append(f"Of {len(self.against)} stored systems: {of}.")
        times = "once" if self.looks == 1 else f"{self.looks} times"
        said.append(
            f"Novel classes were looked at {times} from this folder." if self.looks else "Novel classes: never."
        )
        if self.looks > 1:
            said.append("Whoever chooses by what they show no longer measures what new classes would show.")
        return " ".join(said)


def try_head(
    head: type[nn.Module],
    maps: Maps,
    folder: Path | str,
    *,
    shot: int = 1,
    seeds: Sequence[int] = (0, 1, 2),
    look: bool = False,
    options: Mapping[str, Any] | None = None,
    against: Sequence[Run] | None = None,
    steps: int = STEPS,
    rate: float = RATE,
    episodes: int = EPISODES,
    validation_episodes: int = VALIDATION_EPISODES,
    progress: bool = True,
) -> Tried:
    """Train a head with some seeds and compare it with every stored system, on the episodes that all share.

    A run is kept and found again as long as the head's own source, its options and the training stay what they are.

    Args:
        head: a `Method`, or a module with ``score(support, query)``.
        maps: of one backbone (`labkit.studies.tables.head_runs.maps_of`).
        folder: keeps the runs, and counts how often the novel classes were looked at.
        look: at the novel classes. Do it once, at the end; until then validation classes are compared.
        options: of a `Method`.
        against: runs of systems on the same maps; None means the stored ones.
        steps, rate: of Adam, four episodes a step.
        episodes, validation_episodes: that it is tested on; others than the usual ones compare with nothing stored.
        progress: print a line for every validation.

    Raises:
        TypeError: it is no head, or its loss or score wants what it is not given, or gives what it should not; another
            argument is of another kind.
        ValueError: scores of another shape, options for a module, or a seed that is given twice.
        FloatingPointError: scores or a loss that are not finite before training has begun.
    """
    folder, look = checks.path("folder", folder, "the path of a folder"), checks.flag("look", look)
    seeds = [checks.check_seed(seed) for seed in checks.several("seeds", seeds, "whole numbers, each once")]
    if len(set(seeds)) < len(seeds):  # its runs would be counted as several, and the interval be too small
        raise ValueError(f"seeds must be whole numbers, each once, got {seeds}")
    checks.kind("maps", maps, Maps, "what labkit.studies.tables.head_runs.maps_of gives")
    checks.kind("options", options, (Mapping, type(None)), "a dict of a Method's options")
    progress, own = checks.flag("progress", progress), options or {}
    if against is not None:
        against = checks.several("against", against, "a list of runs, as `Tried.runs` is", least=0)
        for run in against:
            checks.kind("a run in against", run, Run, "a labkit.studies.tables.runs.Run")
    with registered(head) as name, one_thread():
        if own and not issubclass(head, Method):
            raise ValueError(f"{head.__name__} is a plain module: give {sorted(own)} as defaults in its constructor")
        phases = Head(head.__name__, head.__name__, name, rate=rate).phases(steps)
        check_head(name, own, maps.base, phases, WAY, shot)
        looks = _looked(folder, head.__name__, shot) if look else looks_at(folder)
        about = {"shot": shot, "steps": steps, "rate": rate, "episodes": validation_episodes}
        mark = _mark(head, about | {"options": dict(own), "backbone": maps.base.backbone})
        folders = {seed: folder / f"{head.__name__}-{mark}-{seed}" for seed in seeds}
        runs = []
        for number, seed in enumerate(seeds, 1):
            log = partial(_tell, f"seed {seed} ({number} of {len(seeds)})", steps) if progress else None
            dataset = maps.base.provenance.dataset
            of = Run(dataset, head.__name__, head.__name__, shot, seed, maps.base.backbone)
            make_folder(folders[seed])
            run = train_and_measure(
                name,
                dict(own),
                maps,
                folders[seed],
                of,
                phases,
                look=look,
                episodes=episodes,
                validation_episodes=validation_episodes,
                log=log,
            )
            runs.append(run)
    usual = (EPISODES if look else VALIDATION_EPISODES) == (episodes if look else validation_episodes)
    if against is None:
        known = results(dataset=maps.base.provenance.dataset, backbone=maps.base.backbone, shot=shot)
        against = known if usual else ()
    on, least = "novel" if look else "validation", 0.0
    if not look and against and not runs[0].diverged:
        with registered(head):
            one = load_model(folders[seeds[0]] / "best.safetensors")
        # Of the stored systems no single validation episodes are kept: two separate intervals, wider than a paired one.
        least = 2**0.5 * evaluate(one, maps.validation, WAY, shot, QUERY, validation_episodes).ci95
    return Tried(head, runs, on, compared(runs, _by_system(against, shot), on, least), looks, folders)


def _by_system(runs: Sequence[Run], shot: int) -> dict[str, list[Run]]:
    """The runs of the lab's systems, in the settings that are chosen, and those of one's own heads, by name."""
    own = [run for run in runs if run.name not in HEADS and run.shot == shot]
    return by_system(runs, shot) | {name: [r for r in own if r.name == name] for name in sorted({r.name for r in own})}


def _tell(seed: str, steps: int, step: int, line: dict[str, Any]) -> None:
    if "validation" in line:
        print(f"{seed}: step {step} of {steps}, {line['validation']:.1f} % on validation classes", flush=True)


def looks_at(folder: Path | str) -> int:
    """How often novel classes were looked at from a folder."""
    file = expanded(folder) / LOOKS
    return len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0


def _looked(folder: Path, head: str, shot: int) -> int:
    """Count one look more, before it happens: one that is interrupted counts too."""
    make_folder(folder)
    append(folder / LOOKS, (json.dumps({"head": head, "shot": shot, "date": str(date.today())}) + "\n").encode())
    return looks_at(folder)


def _mark(head: type[nn.Module], about: Mapping[str, Any]) -> str:
    """Eight digits that change with the source of a head and of what it inherits outside libraries."""
    library = ("torch.", "labkit.methods", "labkit.dmf", "builtins")
    source = [source_of(kind) for kind in head.__mro__ if not kind.__module__.startswith(library)]
    return hashlib.sha256(json.dumps([source, dict(about)], sort_keys=True).encode()).hexdigest()[:8]
