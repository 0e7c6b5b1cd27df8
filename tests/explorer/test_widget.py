"""What the explorer sends to the browser is what the network computes, and what it asks of Python is answered."""

import base64
import io
import json
import xml.dom.minidom
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.formatters import DisplayFormatter
from matplotlib.text import Text
from PIL import Image

from labkit.dmf.model import DMF
from labkit.dmf.sampling import sample
from labkit.episodes.preprocessing import Preprocessing
from labkit.explorer import still
from labkit.explorer.precompute import FAR, MODES, points_of, rounded
from labkit.explorer.tasks import Task
from labkit.explorer.widget import Explorer, explore
from labkit.methods.can import CAN
from labkit.models.checkpoints import load_model

SIZE, WAY, SHOT, QUERIES = 24, 3, 2, 4
CHOICES = [
    {},
    {"alignment": "rk4", "relu": True, "class_weight": "normalised", "border": True, "score_scale": 0.5},
    {"alignment": "euler(3)"},
    {"alignment": "none"},
    {"start": "match"},
    {"sampling": False},
]


def network(**choices: object) -> DMF:
    torch.manual_seed(0)
    model = DMF("resnet12", 4, backbone_options={"width": 0.05}, **{"alignment": "closed"} | choices).eval()  # type: ignore[arg-type]
    model.preprocessing = Preprocessing(SIZE, "none")
    return model


@pytest.fixture(scope="module")
def task() -> Task:
    rng = np.random.default_rng(0)
    support = rng.integers(0, 256, (WAY, SHOT, SIZE, SIZE, 3), dtype=np.uint8)
    query = rng.integers(0, 256, (QUERIES, SIZE, SIZE, 3), dtype=np.uint8)
    return Task("random", ("a", "b", "c"), support, query, (2, 1, 2), (0, 1, 2, 0))


def read(explorer: Explorer, start: int, *shape: int) -> torch.Tensor:
    values = np.frombuffer(explorer.buffer, np.float32, int(np.prod(shape)), start).reshape(shape)
    return torch.from_numpy(values.copy())


def prepared(model: DMF, task: Task) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    assert model.preprocessing is not None
    support, query = (
        model.preprocessing.normalise(model.preprocessing.to_unit(torch.from_numpy(a)))[None]
        for a in (task.support, task.query)
    )
    return support, query, torch.tensor([[[True, True], [True, False], [True, True]]])


@pytest.mark.parametrize("choices", CHOICES, ids=str)
def test_the_buffer_holds_what_the_trace_is_made_of(choices: dict[str, object], task: Task) -> None:
    model = network(**choices)
    explorer = Explorer({"x": model}, [task])
    block = explorer.header["blocks"][0][0]
    trace = model.trace(*prepared(model, task))
    h, w, g, c = block["h"], block["w"], block["groups"], block["channels"]
    points = read(explorer, block["points"][0], QUERIES, WAY, 9, 2, h, w)
    torch.testing.assert_close(points, trace.points_px[0].expand_as(points), atol=1e-4, rtol=2e-5)
    query, weights = read(explorer, block["query"], QUERIES, c, h, w), read(explorer, block["weights"], WAY, c)
    torch.testing.assert_close(query, trace.query[0], atol=0, rtol=1.6e-5)  # rounded
    before = torch.einsum("qchw,nc->qnhw", query, weights) * block["scale"]
    inner = trace.score_maps_before[0, :, :, 1:-1, 1:-1] if model.choices.border else trace.score_maps_before[0]
    torch.testing.assert_close(before, inner, atol=1e-4, rtol=1e-4)
    # A filter is the sum of the nine projections, each sampled at its own point.
    projected = read(explorer, block["projected"], WAY, 9, h, w, g).movedim(-1, 2)
    cells = (points - (block["stride"] - 1) / 2) / block["stride"]
    filters = sample(projected, cells.transpose(0, 1)).transpose(0, 1).sigmoid()
    torch.testing.assert_close(filters, trace.filters[0, :, :, :, 0].expand_as(filters), atol=1e-4, rtol=0)
    start = block["similarity"]
    alike = np.frombuffer(explorer.buffer, np.int8, QUERIES * WAY * (h * w) ** 2, start).reshape(
        QUERIES, WAY, h, w, h, w
    )
    literal = torch.cosine_similarity(trace.query[0, 1, :, 1, 2], trace.support[0, 2, :, 0, 1], dim=0)
    assert alike[1, 2, 1, 2, 0, 1] / 127 == pytest.approx(float(literal), abs=0.005)


def test_numbers_are_rounded_to_sixteen_binary_digits() -> None:
    values = np.float32([0, 1, -1, 1.5, 1 + 2**-16, 1 + 2**-15, 3.0e-38, -12345.678, FAR])
    found = rounded(values)
    assert found.dtype == np.float32
    assert found[:6].tolist() == [0, 1, -1, 1.5, 1, 1 + 2**-15]
    np.testing.assert_allclose(found, values, rtol=2**-16, atol=0)


def test_pictures_are_in_the_buffer_as_they_are(task: Task) -> None:
    explorer = Explorer({"x": network()}, [task])
    about = explorer.header["tasks"][0]
    sent = np.frombuffer(explorer.buffer, np.uint8, task.support.size, about["support"]).reshape(task.support.shape)
    assert (sent == task.support).all()
    assert json.loads(json.dumps(explorer.header))["tasks"][0]["names"] == ["a", "b", "c"]


def test_offsets_trained_untrained_and_zero(task: Task) -> None:
    model = network()
    torch.manual_seed(5)
    x_supp, x_q = torch.randn(1, 2, 32, 3, 3), torch.randn(1, 2, 32, 3, 3)
    kept = model.offset_conv.weight.clone()
    with torch.no_grad():
        trained, untrained, zero = (points_of(model, mode, x_supp, x_q) for mode in MODES)
        torch.testing.assert_close(trained - zero, model.offsets(x_supp, x_q))
    assert (trained != untrained).any()
    assert torch.equal(model.offset_conv.weight, kept)
    assert zero[0, 0, 0, 4, :, 1, 2].tolist() == [1.0, 2.0]


def ask(**changes: object) -> dict[str, object]:
    request = dict.fromkeys(("task", "checkpoint", "query", "support_class", "row", "column", "mode"), 0)
    return request | {"points": [[0, 0]] * 9} | changes


def test_what_if_at_the_points_that_are_there_changes_nothing(task: Task) -> None:
    for choices in CHOICES:
        model = network(**choices)
        explorer = Explorer({"x": model}, [task])
        trace = model.trace(*prepared(model, task))
        points = trace.points_px.expand(1, QUERIES, WAY, 9, 2, *trace.points_px.shape[-2:])[0, 3, 1, :, :, 2, 1]
        answer = explorer.what_if(ask(query=3, support_class=1, row=2, column=1, points=points.tolist()))
        torch.testing.assert_close(torch.tensor(answer["score"]), trace.scores[0, 3, 1], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(torch.tensor(answer["was"]), trace.scores[0, 3, 1], atol=1e-5, rtol=1e-4)
        expected = trace.filters[0, 3, 1, :, 0, 2, 1]
        torch.testing.assert_close(torch.tensor(answer["filter"]), expected, atol=1e-4, rtol=0)


def test_cells_that_lie_on_pixels_are_sent_and_read_there(task: Task) -> None:
    """Padded convolutions with a stride centre cell i at pixel stride x i, and not amid `stride` pixels."""
    torch.manual_seed(0)
    model = DMF("wrn28", 4, backbone_options={"depth": 10, "width": 1}, alignment="closed").eval()
    model.preprocessing = Preprocessing(SIZE, "none")
    explorer, trace = Explorer({"x": model}, [task]), model.trace(*prepared(model, task))
    block = explorer.header["blocks"][0][0]
    assert (block["stride"], block["first"]) == (4, 0)
    points = read(explorer, block["points"][0], QUERIES, WAY, 9, 2, block["h"], block["w"])
    torch.testing.assert_close(points, 4 * trace.points[0], atol=1e-4, rtol=2e-5)
    answer = explorer.what_if(ask(query=3, support_class=1, points=points[3, 1, :, :, 0, 0].tolist()))
    torch.testing.assert_close(torch.tensor(answer["score"]), trace.scores[0, 3, 1], atol=1e-5, rtol=1e-4)
    expected = trace.filters[0, 3, 1, :, 0, 0, 0]
    torch.testing.assert_close(torch.tensor(answer["filter"]), expected, atol=1e-4, rtol=0)


def test_what_if_all_points_are_taken_away(task: Task) -> None:
    answer = Explorer({"x": network()}, [task]).what_if(ask(points=[None] * 9))
    assert answer["filter"] == [0.5] * 4  # psi reads zeros, and sigma(0) is one half


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": 1}, "task must be a whole number from 0 to 0, got 1"),
        ({"row": -1}, "row must be a whole number from 0 to 2"),
        ({"query": "0"}, "query must be a whole number"),
        ({"column": None}, "column must be a whole number"),
        ({"points": [[0, 0]] * 8}, "points must be nine pairs"),
        ({"points": [[0, float("nan")]] * 9}, "points must be nine pairs"),
        ({"points": [[0, 1e400]] * 9}, "points must be nine pairs"),
        ({"points": "none"}, "points must be nine pairs"),
        ({"points": None}, "points must be nine pairs"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(changes: dict[str, object], said: str, task: Task) -> None:
    explorer = Explorer({"x": network()}, [task])
    with pytest.raises(ValueError, match=said):
        explorer.what_if(ask(**changes))


def test_errors_are_answered_not_raised(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explorer = Explorer({"x": network()}, [task], tmp_path)
    sent: list[dict[str, object]] = []
    monkeypatch.setattr(explorer, "send", sent.append)
    for message in (
        {"kind": "export"},
        {"kind": "page", "view": "depth=1"},
        {"kind": "page", "view": "row=1"},
        {"kind": "?"},
    ):
        explorer.answer(explorer, message, [])
    assert [a["kind"] for a in sent] == ["error", "error", "written"]
    assert "a view has no depth" in str(sent[1]["text"])
    assert Path(str(sent[2]["file"])).parent == tmp_path / "figures"
    assert Path(str(sent[2]["file"])).read_text().startswith("<!doctype html>")


def test_a_view_is_a_text_that_can_be_restored(task: Task) -> None:
    explorer = Explorer({"x": network()}, [task])
    explorer.restore({"row": 2, "time": 0.25, "overlay": "offset length", "moves": {"3": [1.5, -2], "4": None}})
    explorer.locked = True
    text = explorer.view()
    other = Explorer({"x": network()}, [task])
    other.restore("#" + text)
    assert other.view() == text
    assert (other.row, other.time, other.overlay, other.locked) == (2, 0.25, "offset length", True)
    assert other.moves == {"3": [1.5, -2], "4": None}
    assert explore({"x": network()}, tasks=[task], view=text).children[-1].row == 2


@pytest.mark.parametrize(
    ("view", "said"),
    [
        ("depth=1", "a view has no depth; it has task"),
        ("row=many", "row cannot be 'many'"),
        ("row=1.5", "row must be a whole number, got 1.5"),
        ("row", "bad query field"),
        ({"time": "soon"}, "time must be a number"),
        ({"time": None}, "time must be a number"),
        ({"header": {}}, "a view has no header"),
        ("row=99", "row must be from 0 to"),  # of another explorer
        ("task=4", "task must be from 0 to 0, got 4"),
        ("query=-1", "query must be from 0 to"),
        ("overlay=nonsense", "overlay must be one of none, offset length, .* got nonsense"),
        ('moves={"99":[1]}', "moves must be points from 0 to 8"),
        ('moves={"12":[1,2]}', "moves must be points from 0 to 8"),
        ('moves={"3":5}', "moves must be points from 0 to 8"),
        ('moves={"3":[1,NaN]}', "moves must be points from 0 to 8"),
        ({"moves": {"3": [1, "2"]}}, "moves must be points from 0 to 8"),
        ({"moves": None}, "moves must be points from 0 to 8"),
        ("time=7", "time must be a finite number at least 0 and at most 1, got 7"),
    ],
)
def test_a_text_that_is_no_view_is_refused(view: str | dict[str, object], said: str, task: Task) -> None:
    explorer = Explorer({"x": network()}, [task])
    before = explorer.view()
    with pytest.raises(ValueError, match=said):
        explorer.restore(view)
    assert explorer.view() == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shots": (1,)}, r"shots must be \d numbers, got 1"),
        ({"shots": (9, 9, 9)}, "each of shots must be from 1 to"),
        ({"labels": (0,)}, r"labels must be \d+ numbers, got 1"),
        ({"names": ("a",)}, r"support must be \[N, K, size, size, 3\] of 1 classes"),
    ],
)
def test_a_task_whose_numbers_do_not_fit_is_refused(changes: dict[str, Any], said: str, task: Task) -> None:
    if "shots" in changes and len(changes["shots"]) > 1:
        changes = {"shots": (9,) * len(task.names)}
    with pytest.raises(ValueError, match=said):
        replace(task, **changes)


def test_the_widget_is_a_few_hundred_kilobytes(task: Task) -> None:
    """What JupyterLab keeps in a notebook, if it is told to keep widgets: of one episode and the shipped network."""
    model = load_model("quick")
    pictures = np.zeros((5, 1, 40, 40, 3), np.uint8)
    tasks = [Task("zeros", tuple("abcde"), pictures, pictures[:, 0], (1,) * 5)]
    assert len(Explorer({"quick": model}, tasks).buffer) < 400_000


def test_any_size_of_map_can_be_shown() -> None:
    model = DMF("resnet12", 4, backbone_options={"width": 0.05}, alignment="closed").eval()
    model.preprocessing = Preprocessing(84, "none")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 1, 84, 84, 3), dtype=np.uint8)
    box = explore({"x": model}, tasks=[Task("random", ("a", "b"), pictures, pictures[:, 0], (1, 1))])
    assert [s.max for s in box.children[0].children] == [10, 10]


def test_an_export_is_three_files(task: Task, tmp_path: Path) -> None:
    explorer = Explorer({"x": network()}, [task], tmp_path)
    pixels = b"\x89PNG..."
    file = explorer.export("<svg xmlns='http://www.w3.org/2000/svg'/>", base64.b64encode(pixels).decode(), {"row": 1})
    assert file.parent == tmp_path / "figures"
    assert xml.dom.minidom.parse(str(file)).documentElement.tagName == "svg"
    assert file.with_suffix(".png").read_bytes() == pixels
    assert json.loads(file.with_suffix(".json").read_text())["how"] == {"row": 1}


@pytest.mark.parametrize(("svg", "png"), [("<html>", ""), ("<svg/>", "not base64!"), ("<svg" + " " * 30_000_000, "")])
def test_what_is_no_view_is_not_written(svg: str, png: str, task: Task, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the browser sent"):
        Explorer({"x": network()}, [task], tmp_path).export(svg, png, {})
    assert not list(tmp_path.iterdir())


def test_what_it_cannot_show_is_named(task: Task) -> None:
    can = CAN("resnet12", backbone_options={"width": 0.05}, cells=9)
    for models, said in (
        ({}, "at least one model"),
        ({"other": can}, "'other' is of CAN"),
        ({"three": network(kernel=3, alignment="rk4")}, "'three' is of kernel 3"),
    ):
        with pytest.raises(ValueError, match=said):
            Explorer(models, [task])
    small, bare = network(), network()
    small.preprocessing, bare.preprocessing = Preprocessing(84, "none"), None
    with pytest.raises(ValueError, match="trained on 84 px images, and the pictures of 'random' have 24 px"):
        Explorer({"small": small}, [task])
    with pytest.raises(ValueError, match="does not say how its images were prepared"):
        Explorer({"bare": bare}, [task])
    with pytest.raises(ValueError, match="needs images or tasks"):
        explore({"x": network()})


def test_before_the_widget_there_is_a_picture_for_those_whose_widgets_do_not_run(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs: list[dict[str, Any]] = []
    monkeypatch.setattr(still, "display", lambda data, **_: outputs.append(data))
    box = explore({"x": network(), "y": network(start="match")}, tasks=[task])
    assert DisplayFormatter().format(box) == ({}, {}), "a cell that ends with it shows it as it wants to be shown"
    picture, style, live = outputs
    width, height = Image.open(io.BytesIO(base64.b64decode(picture["image/png"]))).size
    assert width > (1 + WAY) * height / 2, "a query and every class, side by side"
    assert "x, y; 1 tasks" in picture["text/plain"]
    assert set(style) == {"text/html"}
    assert set(live) == {"application/vnd.jupyter.widget-view+json"}, "no text below the picture"
    assert [(s.description, s.max) for s in box.children[0].children] == [("row", 2), ("column", 2)]


def test_the_picture_says_that_it_is_still_and_how_to_get_the_live_one(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    monkeypatch.setattr(plt, "close", kept.append)
    Explorer({"x": network()}, [task]).picture_of_view()
    monkeypatch.undo()
    (figure,) = kept
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    said = figure.get_suptitle()
    assert "still picture" in said
    assert "run the cells" in said
    assert {"score", "true"} <= {word for text in texts for word in text.get_text().split()}
    assert min(text.get_fontsize() for text in texts if text.get_visible()) >= 9
    plt.close(figure)


@cache
def small_explorer() -> Explorer:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 1, SIZE, SIZE, 3), dtype=np.uint8)
    return Explorer({"x": network()}, [Task("random", ("a", "b"), pictures, pictures[:, 0], (1, 1))])


@given(st.lists(st.one_of(st.none(), st.tuples(*[st.floats(-1e9, 1e9)] * 2)), min_size=9, max_size=9))
def test_any_nine_points_give_a_filter(points: list[tuple[float, float] | None]) -> None:
    assert all(0 <= v <= 1 for v in small_explorer().what_if(ask(points=points))["filter"])
