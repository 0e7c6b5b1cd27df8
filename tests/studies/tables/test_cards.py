"""Cards: what is written is read back into Table 1; what is no card, or of another table, gets a sentence."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from labkit.__main__ import main
from labkit.studies.tables import answers, one_backbone
from labkit.studies.tables.cards import Card, read_card, with_cards
from labkit.studies.tables.runs import Run

WHERE = {"way": 5, "shot": 1, "query": 15, "episodes": 4, "seed": 0, "dataset": "toy", "digest": "0"}


def run(system: str, seed: int, accuracy: float, name: str = "") -> Run:
    right = " ".join(str(round(accuracy * 75 / 100) + k % 2) for k in range(4))
    found = {"accuracy": accuracy, **WHERE}
    return Run(
        "toy", system, name or system, 1, seed, "digest", validation=accuracy, novel=found, correct=right, weights=3
    )


MINE = Card("Mine", "class Mine: ...\n", 1, tuple(run("Mine", s, 60 + s) for s in (0, 1, 2)))
DMF = [run("DMF", s, 50 + s + 0.1 * s, "DMF: as the paper") for s in (0, 1, 2)]


def test_a_card_is_read_back_into_the_table(tmp_path: Path) -> None:
    file = MINE.write(tmp_path / "mine.json")
    assert read_card(file) == MINE
    known = with_cards({"DMF": DMF}, [file], "toy", "digest", 1)
    table = answers.on_one_backbone(known, 1)
    assert list(table.index) == ["Mine (yours)", "DMF"]
    assert table.loc["Mine (yours)", "minus DMF"] == pytest.approx(9.9)
    assert table.loc["Mine (yours)", "verdict"] == "better"
    assert with_cards({}, [file], "toy", "digest", 5) == {}  # it is of one shot
    untested = replace(MINE, runs=tuple(replace(r, novel={}) for r in MINE.runs)).write(tmp_path / "untested.json")
    assert with_cards({}, [untested], "toy", "digest", 1) == {}


def test_what_is_no_card_or_of_another_table_gets_a_sentence(tmp_path: Path) -> None:
    file = MINE.write(tmp_path / "mine.json")
    with pytest.raises(ValueError, match="their numbers say nothing of one another"):
        with_cards({}, [file], "toy", "another", 1)
    with pytest.raises(FileNotFoundError, match="there is no card"):
        read_card(tmp_path / "none.json")
    broken = json.loads(file.read_text())
    for name, content in (("text", "no json"), ("other", json.dumps({"card": "of a library"})), ("list", "[]")):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=f"{name} is no card of a method"):
            read_card(tmp_path / name)
    del broken["runs"][0]["seed"]
    (tmp_path / "short.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match=r"short.json is no card"):
        read_card(tmp_path / "short.json")


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lab's results hold the runs of DMF on some backbone."""
    monkeypatch.setattr(one_backbone, "RESULTS", tmp_path / "lab.jsonl")
    monkeypatch.setattr("labkit.commands.table.load_model", lambda name: name)
    monkeypatch.setattr("labkit.commands.table.backbone_digest", lambda model: "digest")
    (tmp_path / "lab.jsonl").write_text("".join(json.dumps(r.to_json()) + "\n" for r in DMF))


@pytest.mark.usefixtures("stored")
def test_the_command_prints_the_table_with_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = str(MINE.write(tmp_path / "mine.json"))
    words = ["table", "1", str(tmp_path / "runs"), "--protocol", "one-backbone", "--backbone", "b", "--dataset", "toy"]
    assert main([*words, "--show", "--cards", card, "--shots", "1"]) == 0
    said = capsys.readouterr().out
    assert "Mine (yours)" in said
    assert "of 1 other systems DMF is ahead of 0, behind 1" in said
    assert main([*words, "--show", "--cards", card, "--shots", "1", "--systems", "FEAT"]) == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()[2:]] == ["Mine"]  # DMF has no line, and is compared with
    assert "of 1 other systems DMF is ahead of 0, behind 1" in said
    for wrong, sentence in (
        (["--shots", "3"], "the tables have [1, 5] shots, got [3]"),
        (["--systems", "FEET"], "there is no FEET; there are DMF"),
    ):
        assert main([*words, "--show", *wrong]) == 1
        assert sentence in capsys.readouterr().err


@pytest.mark.usefixtures("stored")
def test_a_data_set_of_which_nothing_is_measured_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["table", "1", str(tmp_path / "runs"), "--protocol", "one-backbone", "--backbone", "b", "--show"]
    assert main([*words, "--dataset", "cifar-fs"]) == 1
    said = capsys.readouterr()
    assert "nothing is measured of b on cifar-fs, only on toy: leave --show out to train" in said.err
    assert said.out == ""
    assert main([*words, "--dataset", "toy"]) == 0
    assert "At 5 shots nothing is measured of b on toy." in capsys.readouterr().out.splitlines()


def test_cards_belong_to_table_1_on_one_backbone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="belong to --protocol one-backbone"):
        main(["table", "1", str(tmp_path), "--cards", "a.json", "--traceback"])
    with pytest.raises(ValueError, match="cards are shown in Table 1"):
        main(["table", "2", str(tmp_path), "--protocol", "one-backbone", "--backbone", "b", "--show", "--traceback"])
