"""What the loop, the protocol and the files count on, for every method."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from labkit.episodes.preprocessing import Preprocessing
from labkit.methods.declared import TAKEN
from labkit.methods.noise import set_keys
from labkit.models.checkpoints import load_model, save_model
from labkit.models.registry import METHODS, Method, name_of
from labkit.models.small import CLASSES, SIZE, E, K, N, Q, small_batch, small_model

# Beside `small_model`'s own options: parts that are off by default.
MORE: dict[str, dict[str, Any]] = {
    "dmf": {"preset": "paper", "alignment": "closed"},
    "dmf, dopri5": {"preset": "paper", "alignment": "dopri5"},
    "relationnet": {"global_weight": 0.5, "statistics": "running"},
    "matchingnet": {"context": True, "steps": 2},
} | {name: {"global_weight": 0.5} for name in ("feat", "deepemd", "ppa", "tadam", "wdae", "leo", "e3bm")}
# Methods whose scores depend on the order of classes, and why.
ORDERED = {
    "matchingnet": "its LSTM reads the classes in their order",
    "maml": "each of its outputs has a start of its own",
    "negmargin": "each row of the classifier trained in the test has a start of its own",
    "deepemd": "the pictures that prototypes are fitted to come in an order, some at a time",
    "snail": "it reads a sequence",
    "tapnet": "its classes choose their references one after another",
}
# Losses that are not one graph, and why.
NOT_ONE_GRAPH = {
    "maml": "derivatives of derivatives, which torch.compile does not trace",
    "deepemd": "the network simplex method of POT runs on the processor, which a GPU waits for",
    "dmf, dopri5": "torchdiffeq chooses the next step by the error of the last one (closed form and rk4 are one graph)",
    "matchingnet": "the LSTM of its context (the plain form is one graph)",
    "metaoptnet": "how often the machine's bounds are repaired depends on the data (the regressions are one graph)",
}


@pytest.fixture(params=METHODS)
def model(request: pytest.FixtureRequest) -> Method:
    torch.manual_seed(0)
    return small_model(request.param, **MORE.get(request.param, {}))


def features(model: Method) -> tuple[Tensor, Tensor]:
    """What `score` takes: feature maps, of the shape that `embed` gives them (MAML's are images)."""
    shape = model.embed(torch.zeros(1, 3, SIZE, SIZE)).shape[1:]
    torch.manual_seed(1)
    return torch.randn(E, N, K, *shape), torch.randn(E, Q, *shape)


def test_queries_and_episodes_do_not_see_one_another(model: Method) -> None:
    support, query = features(model)
    with torch.no_grad():
        scores = model.score(support, query)
        assert list(scores.shape) == [E, Q, N]
        torch.testing.assert_close(model.score(support, query.flip(1)).flip(1), scores, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(model.score(support[1:], query[1:, :1]), scores[1:, :1], atol=1e-4, rtol=1e-4)


def test_the_order_of_classes_only_orders_the_scores(model: Method) -> None:
    if name_of(model) in ORDERED:
        pytest.skip(ORDERED[name_of(model)])
    support, query = features(model)
    with torch.no_grad():
        scores = model.score(support, query)
        torch.testing.assert_close(model.score(support.flip(1), query).flip(2), scores, atol=1e-4, rtol=1e-4)


def test_missing_shots_do_not_count(model: Method) -> None:
    if name_of(model) in ("matchingnet", "snail"):
        pytest.skip("it reads a sequence, of which a missing shot is a part")
    support, query = features(model)
    mask = torch.ones(E, N, K, dtype=torch.bool)
    mask[:, 0, 1] = False
    with torch.no_grad():
        scores = model.score(support, query, mask)
        for filling in (100.0, float("nan"), float("inf")):
            other = support.clone()
            other[:, 0, 1] = filling
            torch.testing.assert_close(model.score(other, query, mask), scores, atol=1e-4, rtol=1e-4)
        all_there = torch.ones(E, N, K, dtype=torch.bool)
        torch.testing.assert_close(model.score(support, query, all_there), model.score(support, query))


def test_every_weight_that_training_may_move_gets_a_gradient(model: Method) -> None:
    losses = model.train().loss(*small_batch())
    losses.total.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without
    assert losses.scores.shape == (E, Q, N)
    assert torch.isfinite(losses.total)


@pytest.mark.integration
@pytest.mark.parametrize("name", [name for name in METHODS if name not in NOT_ONE_GRAPH])
def test_the_loss_is_one_graph(name: str) -> None:
    """So nothing in it makes the host wait for a GPU: `item`, `bool` of a tensor and `nonzero` break a graph."""
    one_graph(small_model(name, "conv4", **MORE.get(name, {})))


@pytest.mark.integration
@pytest.mark.parametrize("name", ["dynamic_fewshot", "wdae", "cc_rot", "robust_dist", "leo", "dense_classification"])
def test_the_classification_loss_is_one_graph(name: str) -> None:
    model = small_model(name, "conv4").train()
    images, labels = torch.randn(4, 3, SIZE, SIZE), torch.tensor([3, 0, 6, 3])
    set_keys(model, [(0,)])  # so that both draw the same
    torch.compiler.reset()
    compiled = torch.compile(model.classification_loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images, labels).total, model.classification_loss(images, labels).total)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("can", {"fuse": "sum", "fusion_norm": False, "transductive": [2]}),
        ("dmf", {}),
        ("dmf", {"preset": "paper", "alignment": "rk4"}),
        ("dmf", {"preset": "paper", "alignment": "euler(2)"}),
        ("dsn", {"form": "conv4"}),
        ("matchingnet", {}),
        ("metaoptnet", {"head": "ridge"}),
        ("relationnet", {"statistics": "batch"}),
    ],
)
def test_the_loss_of_other_forms_is_one_graph(name: str, options: dict[str, Any]) -> None:
    one_graph(small_model(name, "conv4", **options))


@pytest.mark.integration
@pytest.mark.parametrize("name", NOT_ONE_GRAPH)
def test_a_loss_that_is_said_not_to_be_one_graph_is_none(name: str) -> None:
    """When it is one, `NOT_ONE_GRAPH` has a line too many."""
    model = small_model(name.partition(",")[0], "conv4", **MORE.get(name, {}))
    with pytest.raises(torch._dynamo.exc.TorchDynamoException):
        one_graph(model)


def one_graph(model: Method) -> None:
    set_keys(model.train(), [(e,) for e in range(E)])
    model.backbone.eval()
    torch.compiler.reset()
    compiled = torch.compile(model.loss, fullgraph=True, backend="eager")
    found, expected = compiled(*small_batch()), model.loss(*small_batch())
    torch.testing.assert_close((found.total, found.scores), (expected.total, expected.scores))


def test_single_base_images_are_classified(model: Method) -> None:
    images, labels = torch.randn(4, 3, SIZE, SIZE), torch.tensor([3, 0, 6, 3])
    own = type(model).classification_loss is not Method.classification_loss
    if not own and getattr(model, "global_classifier", None) is None:
        with pytest.raises(TypeError, match="no classifier of base classes"):
            model.classification_loss(images, labels)
        return
    losses = model.train().classification_loss(images, labels)
    losses.total.backward()  # type: ignore[no-untyped-call]
    assert list(losses.scores.shape) == [4, CLASSES]
    assert losses.few_shot.item() == 0
    assert all(p.grad is not None for p in model.backbone.parameters())
    smoothed = model.eval().classification_loss(images, labels, label_smoothing=0.5)
    assert not torch.equal(smoothed.total, model.classification_loss(images, labels).total)


@pytest.mark.parametrize(
    ("name", "options", "error", "said"),
    [
        ("tadam", {"conditioned": "no"}, TypeError, "conditioned must be True or False, got 'no'"),
        ("feat", {"drop": 2.0}, ValueError, "drop must be a finite number at least 0 and below 1, got 2.0"),
        ("maml", {"steps": -3}, ValueError, "steps must be from 0 to 1000, got -3"),
        ("protonet", {"scale": "2"}, TypeError, "scale must be a number, got '2'"),
        ("matchingnet", {"steps": 1.5}, TypeError, "steps must be a whole number, got 1.5"),
    ],
)
def test_options_of_another_kind_are_refused(
    name: str, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        METHODS[name]("conv4", **options)


def test_whole_numbers_pass_for_numbers_and_a_method_of_ones_own_is_not_saved(tmp_path: Path) -> None:
    assert METHODS["tadam"]("conv4", start=0).start == 0.0

    class Mine(METHODS["protonet"]):  # type: ignore[misc]
        pass

    with pytest.raises(TypeError, match=r"Mine is not in labkit.models.registry.METHODS: add a line"):
        save_model(Mine("conv4"), tmp_path / "x.safetensors")


def test_it_comes_back_from_its_file(model: Method, tmp_path: Path) -> None:
    model.preprocessing = Preprocessing(SIZE, "none")
    save_model(model, tmp_path / "x.safetensors")
    back = load_model(tmp_path / "x.safetensors")
    images = torch.randn(1, N, K, 3, SIZE, SIZE), torch.randn(1, 3, 3, SIZE, SIZE)
    with torch.no_grad():
        assert torch.equal(back(*images), model(*images))
    assert name_of(back) == name_of(model)
    assert back.recipe() == model.recipe()


@pytest.mark.parametrize("name", ["training", "stride", "channels", "classes", "score", "forward", "options"])
def test_an_option_is_not_called_as_what_every_method_has(name: str) -> None:
    with pytest.raises(TypeError, match=rf"^Mine has an option '{name}', which every method has: call it otherwise$"):
        type("Mine", (Method,), {"__annotations__": {name: float}, name: 2.0})


def test_an_option_of_another_method_is_declared_anew_and_every_attribute_is_taken() -> None:
    mine = type("Mine", (METHODS["protonet"],), {"__annotations__": {"scale": float}, "scale": 2.0})
    model = mine("conv4", backbone_options={"width": 8})
    assert model.scale == 2.0
    own = {name for name in (*vars(model), *vars(model)["_modules"]) if not name.startswith("_")}
    assert own - set(model.options) <= {*TAKEN, *dir(Method)}
