"""What a table says is computed from the runs that exist, and names what does not."""

from dataclasses import replace

import numpy as np
import pytest

from labkit.evaluation import intervals
from labkit.studies.tables import answers, one_backbone, table2
from labkit.studies.tables.agreement import over_shared_episodes
from labkit.studies.tables.cells import CELLS
from labkit.studies.tables.heads import SYSTEMS
from labkit.studies.tables.runs import Run
from tests.studies.tables.test_cards import DMF, run

NONE = [run("No alignment", s, 53 + 1.05 * s, "No alignment: class_weight normalised") for s in (0, 1, 2)]


def test_the_answer_of_table_1_is_computed() -> None:
    said = answers.answer_of_table1({"DMF": DMF, "CAN": NONE, "No alignment": NONE}, 1)
    # No alignment is none of the paper's systems, and the runs do not say how many classes there were.
    assert "of 1 other systems DMF is ahead of 0, behind 1, undecided against 0 on these novel classes." in said
    assert "Had other classes" not in said
    assert "DMF minus no alignment: -2.9" in said
    assert "worse" in said
    low = [replace(r, novel=r.novel | {"accuracy": 10.0 + r.seed}, correct="7 8 7 8") for r in NONE]
    assert "ahead of 1" in answers.answer_of_table1({"DMF": DMF, "CAN": low}, 1)
    assert "other systems" not in answers.answer_of_table1({"DMF": DMF, "No alignment": low}, 1)
    assert answers.answer_of_table1({}, 5) == "5-shot: DMF is not measured yet."


def test_accuracies_have_the_interval_over_episodes_beside_that_over_seeds() -> None:
    table = answers.on_one_backbone({"DMF": DMF, "No alignment": NONE}, 1)
    single = np.mean([r.per_episode for r in DMF], axis=0)
    assert table.loc["DMF", "± over episodes"] == pytest.approx(1.96 * single.std(ddof=1) / len(single) ** 0.5)
    assert table.loc["DMF", "± over seeds"] == pytest.approx(intervals.over_seeds([r.accuracy for r in DMF])[1])
    assert table.loc["No alignment", "its ± over episodes"] == pytest.approx(over_shared_episodes(DMF, NONE)[0])
    bare = [replace(r, correct="", novel=r.novel | {"ci95": 0.4}) for r in NONE]
    assert answers.on_one_backbone({"No alignment": bare}, 1).loc["No alignment", "± over episodes"] == pytest.approx(
        0.4
    )


def test_both_settings_are_shown_and_which_was_chosen() -> None:
    other = replace(DMF[0], name="DMF: as released", validation=DMF[0].validation - 1)
    table = answers.settings([*DMF, other, *NONE])
    assert table.index.tolist() == [
        ("DMF", "as the paper"),
        ("DMF", "as released"),
        ("No alignment", "class_weight normalised"),
    ]
    assert table["1-shot", ""].tolist() == ["chosen", "", "chosen"]
    assert table.loc[("DMF", "as the paper"), ("1-shot", "seeds")] == len(DMF)
    assert table.loc[("DMF", "as released"), ("1-shot", "validation, %")] == other.validation
    lacking = answers.settings([*DMF, other, replace(other, shot=5)])  # one setting has no run at five shots
    assert lacking["5-shot", "seeds"].isna().tolist() == [True, False]
    assert lacking["5-shot", "seeds"].max() == 1
    assert lacking.to_string().count("1.0") == 0
    assert answers.settings([]).empty


def test_what_is_missing_is_named_with_its_command() -> None:
    lacking = answers.missing({"DMF": DMF})
    assert lacking == [name for name in SYSTEMS if name != "DMF"]
    said = answers.command(1, "quick-none", "glyphs-mini", None, [1], ["No alignment"])
    assert said.endswith('--backbone quick-none --dataset glyphs-mini --shots 1 --systems "No alignment"')
    assert "--data-root /x" in answers.command(2, "b", "miniimagenet", "/x", [1, 5])
    assert answers.command(2, "b", "miniimagenet", released=True).endswith("--data-root ROOT --shots 1 --released")


def test_claims_on_one_backbone_are_judged_by_the_rows() -> None:
    rows = [run("", s, 60 + s + 0.1 * s, "dmf") for s in (0, 1, 2)]
    rows += [run("", s, 50 + s, "dynamic_sampling off") for s in (0, 1, 2)]
    rows += [run("", 0, 70, "align 1")]
    rows += [run("", 0, 70, "no cell")]
    assert len(one_backbone.of_table2(rows)) == 7
    of_released = [run("", 0, 70, "DMF: as released"), run("", 0, 69, "align 1, as released")]
    released = one_backbone.of_table2([*rows, *of_released], released=True)
    assert [run.name for run in released] == ["dmf", "align 1"]
    claims = table2.claims(one_backbone.of_table2(rows))
    found = {(c["claim"], c["shots"]): c for _, c in claims.iterrows()}
    held = found["dynamic sampling helps", 1]
    assert (held["verdict"], held["seeds"]) == ("held", 3)
    assert held["MEASURED"] == pytest.approx(10.1)
    assert found["the ODE improves on one alignment", 1]["verdict"] == "not decidable (one seed)"
    assert found["dynamic sampling helps", 5]["verdict"] == "not measured yet"
    said = answers.answer_of_table2(claims, "On one backbone")
    assert said == (
        "On one backbone: of the 15 claims of section 5.3, 1 held, 0 not held, 1 not decidable, 13 not measured yet."
    )
    none = table2.claims([])
    assert answers.answer_of_table2(none, "On one backbone") == "On one backbone: no claim is measured yet."
    both = answers.by_protocol({"end to end": table2.claims([]), "on one backbone": claims})
    assert both["verdict, on one backbone"].tolist() == claims["verdict"].tolist()
    assert both["on one backbone"].iloc[0] == "10.1 ± 0.2"


def test_end_to_end_is_answered_by_its_rows() -> None:
    where = {"way": 5, "dataset": "toy", "ci95": 0.5}
    rows = [
        Run("toy", CELLS[cell].factor, cell, 1, 0, validation=validation, novel=where | {"accuracy": accuracy})
        for cell, validation, accuracy in (("dmf", 60.0, 61.23), ("can, authors'", 21.0, 20.0))
    ]
    said = answers.answer_end_to_end(rows, 1)
    assert said == (
        "1-shot, end to end: 2 systems, one training each, which ranks none; DMF 61.2 ± 0.5, CAN 20.0 ± 0.5 %. "
        "Not started: CAN."
    )
    assert answers.answer_end_to_end([], 5) == "5-shot, end to end: no system is measured."


def test_differences_on_a_few_classes_stand_beside_those_on_more() -> None:
    def tested(system: str, classes: int, right: int) -> list[Run]:
        spread = np.random.default_rng(len(system) + classes).integers(-3, 4, (3, 400))
        each = [" ".join(map(str, right + line)) for line in spread]
        novel = {"dataset": f"of {classes}", "digest": "", "way": 5, "shot": 1, "query": 15, "episodes": 400, "seed": 0}
        novel |= {"classes": classes, "accuracy": 100 * right / 75}
        return [Run("d", system, system, 1, s, "b", novel=novel, correct=c) for s, c in enumerate(each)]

    few = {"DMF": tested("DMF", 20, 40), "CAN": tested("CAN", 20, 40), "DSN": tested("DSN", 20, 40)}
    more = {"DMF": tested("DMF", 90, 40), "CAN": tested("CAN", 90, 40), "LEO": tested("LEO", 90, 40)}
    table = answers.on_more_classes(few, more | {"DSN": tested("DSN", 90, 50)})
    assert table.index.tolist() == ["DSN", "CAN"]
    assert table["both", "agree"].tolist() == ["no", "yes"]
    assert table.loc["DSN", ("of 90", "of other classes")] == "better"
    assert table.loc["DSN", ("of 90", "minus DMF")] == pytest.approx(100 * 10 / 75, abs=0.3)
    assert table.loc["DSN", ("of 90", "accuracy, %")] == pytest.approx(100 * 50 / 75)
    assert answers.on_more_classes(few, {"CAN": more["CAN"]}).empty
    bare = {"CAN": [replace(r, correct="") for r in more["CAN"]]}  # whose interval over classes is not known
    assert answers.on_more_classes(few, more | bare)["both", "agree"].tolist() == [""]
    names = [f"equal {number}" for number in range(8)]  # in the same order in every process
    few_equal, more_equal = (dict.fromkeys(names, runs["CAN"]) for runs in (few, more))
    equal = answers.on_more_classes(few | few_equal, more | more_equal)
    assert [name for name in equal.index if name in names] in (names, names[::-1])
    another = {"CAN": [replace(r, name="another setting") for r in more["CAN"]]}
    assert answers.on_more_classes(few, more | another).index.tolist() == []
    assert answers.on_more_classes(few, more | {"DMF": [replace(r, name="another") for r in more["DMF"]]}).empty
