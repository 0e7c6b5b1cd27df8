"""A card: one's own method and what became of it, in one file that Table 1 on one backbone reads back.

``dmf-lab table 1 ../runs/heads --protocol one-backbone --backbone mini-backbone-42 --show --cards mine.json``
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from labkit.common import checks
from labkit.common.files import write_atomically
from labkit.studies.tables.runs import Run

KIND = "a method of one's own, on one backbone"


@dataclass(frozen=True)
class Card:
    """What a card says: a head's name and the lines that define it, a run for every seed, and how often novel classes
    were looked at before it was written.
    """

    system: str
    source: str
    looks: int
    runs: tuple[Run, ...]

    @property
    def row(self) -> str:
        """The name of its row in a table, which no system of the lab has."""
        return f"{self.system} (yours)"

    def write(self, file: Path | str) -> Path:
        """Write the card, and return the path of its file."""
        path = checks.path("file", file, "the path of a card to be written, such as mine.json")
        found = {"card": KIND, "system": self.system, "looks": self.looks, "date": str(date.today())}
        found |= {"source": self.source, "runs": [run.to_json() for run in self.runs]}
        write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())
        return path


def read_card(file: Path | str) -> Card:
    """Read a card that `Card.write` wrote.

    Raises:
        ValueError: it is no card.
        FileNotFoundError: there is no such file.
    """
    path = checks.path("card", file, "the path of a card, as Tried.card wrote it")
    if not path.is_file():
        raise FileNotFoundError(f"there is no card {path}: notebook 13 writes one")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["card"] != KIND:
            raise ValueError(f"it is about {found['card']!r:.80}")
        runs = tuple(Run.from_json(row) for row in found["runs"])
        return Card(str(found["system"]), str(found["source"]), checks.check_int("looks", found["looks"], 0), runs)
    except (ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path.name} is no card of a method, as notebook 13 writes it ({what})") from None


def with_cards(
    runs: dict[str, list[Run]], cards: Iterable[Path | str], dataset: str, backbone: str, shot: int
) -> dict[str, Sequence[Run]]:
    """Systems with their runs, and those of cards among them.

    Left out are cards of another number of shots, and those that were not tested on novel classes.

    Raises:
        ValueError: no card, or one of another dataset or backbone.
    """
    found: dict[str, Sequence[Run]] = dict(runs)
    for file in cards:
        card = read_card(file)
        of = {(r.dataset, r.backbone) for r in card.runs}
        if of - {(dataset, backbone)}:
            raise ValueError(
                f"{Path(file).name} is of {sorted(of)} (dataset, backbone), and this table is of "
                f"{(dataset, backbone)}: their numbers say nothing of one another"
            )
        if tested := [r for r in card.runs if r.novel and r.shot == shot]:
            found[card.row] = tested
    return found
