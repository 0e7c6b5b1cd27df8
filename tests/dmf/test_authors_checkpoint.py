"""The authors' checkpoints: the same scores, the same file back, and a reason for every file that is refused."""

import argparse
import collections
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import papermill
import pytest
import torch

from labkit.dmf.authors_checkpoint import load_released, save_released
from labkit.dmf.model import DMF
from labkit.episodes.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from labkit.models.checkpoints import load_model, save_model
from tests.helpers.authors_files import their_features, their_state, write
from tests.helpers.features import Features
from tests.helpers.literal import literal_head
from tests.helpers.places import GOLDEN as GOLDENS
from tests.helpers.places import NOTEBOOKS
from tests.helpers.real_files import some_pixels, write_folders, write_mini_pickle


@pytest.mark.parametrize(("shot", "zipped"), [(1, False), (5, True)])
def test_scores_are_theirs(shot: int, zipped: bool, tmp_path: Path) -> None:
    state = their_state()
    model = load_released(write(tmp_path / "1shot.pth.tar", state, zipped))
    assert (model.groups, model.classes, model.preset, model.training) == (8, 7, "released", False)
    torch.manual_seed(0)
    support, query = torch.randn(1, 3, shot, 3, 84, 84), torch.randn(1, 2, 3, 84, 84)
    what_they_do = {"relu": True, "class_weight": "normalised", "border": True, "offset_input": "query-support"}
    literal = DMF(Features(64), 8, alignment="rk4", **what_they_do)
    literal.offset_conv.weight.data = state["dw_gen.off_conv.weight"]
    literal.filter_conv.weight.data = state["dw_gen.kernel_conv.weight"]
    with torch.no_grad():
        maps = literal_head(
            their_features(state, support.flatten(0, 2)).unflatten(0, (1, 3, shot)),
            their_features(state, query.flatten(0, 1)).unflatten(0, (1, 2)),
            literal,
        )["score_map"]
        scores = model(support, query)
    assert list(maps.shape[-2:]) == [13, 13]  # 11 x 11 within their border of zeros
    expected = maps.sum((-2, -1)) / 169
    # 1e-3 would be too wide: with random weights, exchanged inputs of the offset convolution stay within it.
    assert (scores - expected).abs().max() < 1e-5 * expected.abs().max()


def test_golden_numbers_of_their_head(tmp_path: Path) -> None:
    golden = {name: torch.from_numpy(value) for name, value in np.load(GOLDENS / "dmf_head_k1.npz").items()}
    state = their_state(groups=int(golden["groups"]), widths=(4, 8, 16, 32))
    state["dw_gen.off_conv.weight"] = golden["offset_weight"]
    state["dw_gen.kernel_conv.weight"] = golden["filter_weight"]
    model = load_released(write(tmp_path / "golden.pth.tar", state))
    with torch.no_grad():
        scores = model.score(golden["support"][None, :, None], golden["query"][None])[0]
    expected = golden["score_map"].sum((-2, -1)) / 169  # theirs has a border of zeros, the golden map has not
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)


def test_every_weight_goes_where_it_belongs_and_images_are_prepared_as_theirs(tmp_path: Path) -> None:
    state = their_state()
    state |= {f"base.layer{n}.0.num_batches_tracked": torch.tensor(100 + n) for n in (3, 4)}
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model = load_released(write(tmp_path / "x.pth.tar", state))
    assert torch.equal(torch.get_rng_state(), before)
    assert [int(layer.drop.batches) for layer in (model.backbone.layer3, model.backbone.layer4)] == [103, 104]  # type: ignore
    assert torch.equal(model.global_classifier.weight, state["global_clasifier.weight"])
    assert all(p.requires_grad and p.is_contiguous() for p in model.parameters())
    kept = model.preprocessing
    assert kept is not None
    assert (kept.size, kept.resampling, kept.mean, kept.std) == (84, None, IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64])
@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_an_accuracy_of_any_numpy_is_read(module: bytes, kind: type, tmp_path: Path) -> None:
    file = write(tmp_path / "x.pth.tar", their_state(), acc=kind(1))
    written = file.read_bytes()
    assert written.count(b"cnumpy._core.multiarray\nscalar\n") == 1  # this NumPy's name, as text in the pickle
    file.write_bytes(written.replace(b"cnumpy._core.multiarray\n", b"c" + module + b"\n"))
    assert load_released(file).groups == 8


def test_the_same_file_comes_back(tmp_path: Path) -> None:
    state = their_state()
    model = load_released(write(tmp_path / "in.pth.tar", state))
    save_released(model, tmp_path / "out.pth.tar", acc=0.5, epoch=3)
    assert not zipfile.is_zipfile(tmp_path / "out.pth.tar")  # PyTorch 1.4 reads no zipped ones
    back = torch.load(tmp_path / "out.pth.tar", weights_only=True)
    assert (back["acc"], back["epoch"]) == (0.5, 3)
    assert back["state_dict"].keys() == state.keys()
    assert all(torch.equal(back["state_dict"][k], state[k]) for k in state)
    again = load_released(tmp_path / "out.pth.tar")
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in again.state_dict().items())


@pytest.mark.parametrize("width", [0.016, 0.05, 0.082, 0.333])
def test_whatever_width_was_written_is_read(width: float, tmp_path: Path) -> None:
    """Each layer's channels are rounded by themselves: 212 in the last do not tell whether the third has 104 or 108."""
    model = DMF("resnet12", 4, "released", classes=3, backbone_options={"width": width})
    save_released(model, tmp_path / "x.pth.tar")
    back = load_released(tmp_path / "x.pth.tar").state_dict()
    assert all(torch.equal(v, back[k]) for k, v in model.state_dict().items())


def test_prefixes_of_data_parallel_and_bare_state_dicts_are_read(tmp_path: Path) -> None:
    torch.save({f"module.{k}": v for k, v in their_state().items()}, tmp_path / "bare.pth")
    assert load_released(tmp_path / "bare.pth").groups == 8


def test_it_can_be_kept_as_one_of_our_files(tmp_path: Path) -> None:
    model = load_released(write(tmp_path / "in.pth.tar", their_state()))
    save_model(model, tmp_path / "ours.safetensors")
    back = load_model(tmp_path / "ours.safetensors")
    assert back.preprocessing == model.preprocessing
    assert back.preprocessing is not None
    assert back.preprocessing.resampling is None


def test_all_wrong_keys_are_listed_at_once(tmp_path: Path) -> None:
    state = their_state()
    del state["base.layer2.0.bn3.bias"], state["base.layer1.0.num_batches_tracked"], state["global_clasifier.weight"]
    state["base.layer1.0.conv1.weight"] = torch.zeros(8, 1, 3, 3)
    state["base.layer4.0.conv3.weight"] = torch.zeros(10, 64)  # no longer says how wide the network is
    state["dw_gen.kernel_conv.weight"] = torch.zeros(10, 64, 3, 3)
    state["base.layer5.0.conv1.weight"] = torch.zeros(2, 2)
    with pytest.raises(ValueError, match=r"x\.pth does not fit") as raised:
        load_released(write(tmp_path / "x.pth", state))
    assert set(str(raised.value).split("\n  ")[1:]) == {
        "missing base.layer2.0.bn3.bias, [16] expected",
        "missing base.layer1.0.num_batches_tracked, [] expected",
        "missing global_clasifier.weight, [7, 64, 1, 1] expected",
        "base.layer1.0.conv1.weight has shape [8, 1, 3, 3], [8, 3, 3, 3] expected",
        "base.layer4.0.conv3.weight has shape [10, 64], [64, 64, 3, 3] expected",
        "dw_gen.kernel_conv.weight has shape [10, 64, 3, 3], ['a divisor of 64', 64, 3, 3] expected",
        "unexpected base.layer5.0.conv1.weight [2, 2], nothing of that name expected",
    }


def test_sizes_that_no_network_has_take_no_memory(tmp_path: Path) -> None:
    """Shapes in a file cost its writer nothing; the weights they announce are not allocated before all of them fit."""
    state = {"base.layer4.0.conv3.weight": torch.zeros(10**7, 0, 3, 3)}
    with pytest.raises(ValueError, match=r"missing base.layer1.0.conv1.weight, .1000000, 3, 3, 3. expected"):
        load_released(write(tmp_path / "x.pth", state))
    state = their_state() | {"dw_gen.kernel_conv.weight": torch.zeros(0, 64, 3, 3)}
    with pytest.raises(ValueError, match=r"kernel_conv.weight has shape \[0, 64, 3, 3\]"):
        load_released(write(tmp_path / "x.pth", state))


class Hostile:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"state_dict": {"cam.conv1.weight": torch.zeros(6, 36, 1, 1)}}, "checkpoint of CAN"),
        ({"params": {"encoder.layer1.0.conv1.weight": torch.zeros(64, 3, 3, 3)}}, "checkpoint of FEAT"),
        ({"params": {"slf_attn.w_qs.weight": torch.zeros(640, 640)}}, "checkpoint of FEAT"),
        ({"state_dict": their_state(groups=8, kernel=3)}, r"kernel 3 \(72 filter rows, 8 groups\)"),
        ({"state_dict": {"fc.weight": torch.zeros(3)}}, "not a DMF checkpoint: of its 1 keys none is in base.layer"),
        (
            {"state_dict": their_state() | {"global_clasifier.bias": torch.zeros(7).to_sparse()}},
            "asks for torch._utils._rebuild_sparse",
        ),
        ({"state_dict": [1, 2]}, "holds no state dict"),
        ([1, 2], "holds no state dict"),
        ({"optimizer": {"lr": 1}}, r"holds no state dict: .* there is 'optimizer' \(a dict\)"),
        (torch.nn.Linear(1, 1), r"asks for torch\.nn\.modules\.linear\.Linear, .* save model\.state_dict\(\)"),
        (5, "holds no state dict"),
    ],
)
def test_other_files_are_refused_by_name(content: Any, said: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth.tar")
    with pytest.raises(ValueError, match=said) as raised:
        load_released(tmp_path / "other.pth.tar")
    assert "other.pth.tar" in str(raised.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_checkpoint_runs_nothing(zipped: bool, tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    file = write(tmp_path / "evil.pth.tar", their_state(), zipped, acc=Hostile(canary))
    with pytest.raises(ValueError, match=r"evil\.pth\.tar is not a checkpoint.*asks for (posix|nt)\.system"):
        load_released(file)
    file.write_bytes(pickle.dumps(Hostile(canary), 2))
    with pytest.raises(ValueError, match=r"evil\.pth\.tar"):
        load_released(file)
    assert not canary.exists()


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    file = write(tmp_path / "cut.pth.tar", their_state())
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"cut\.pth\.tar is not a checkpoint"):
        load_released(file)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"cut\.pth\.tar is not a checkpoint"):
        load_released(file)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_released(tmp_path / "nowhere.pth.tar")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"preset": "paper"}, "alignment is 'dopri5' .released: 'rk4'"),
        ({"score_scale": 0.1}, "score_scale is 0.1"),
        ({"kernel": 3, "sampling": False}, "kernel is 3 .released: 1.; sampling is False .released: True."),
        ({"backbone": Features(64), "backbone_options": {}}, "not a ResNet-12"),
        ({"backbone_options": {"width": 0.1, "last_pool": True}}, "without the last pooling"),
        ({"backbone": "conv4", "backbone_options": {}}, "not a ResNet-12"),
    ],
)
def test_what_their_code_cannot_compute_is_not_written(arguments: dict, said: str, tmp_path: Path) -> None:
    given = {"backbone": "resnet12", "groups": 8, "preset": "released", "backbone_options": {"width": 0.1}} | arguments
    with pytest.raises(ValueError, match=said):
        save_released(DMF(**given), tmp_path / "x.pth.tar")
    assert not list(tmp_path.iterdir())


def test_how_a_model_was_trained_does_not_keep_it_from_being_written(tmp_path: Path) -> None:
    training = {"loss_weights": (1.0, 0.5), "global_reads": "aligned", "offset_scale": 0.1}
    model = DMF("resnet12", 8, "released", classes=7, backbone_options={"width": 0.1, "drop": 0.2}, **training)
    save_released(model, tmp_path / "x.pth.tar")
    back = load_released(tmp_path / "x.pth.tar")
    x = torch.randn(1, 2, 1, 3, 84, 84), torch.randn(1, 2, 3, 84, 84)
    with torch.no_grad():
        assert torch.equal(back(*x), model.eval()(*x))


@pytest.mark.integration
@pytest.mark.parametrize("layout", ["pickle", "folders"])
def test_the_training_notebook_evaluates_one(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LABKIT_STEPS", raising=False)
    root, images = tmp_path / "root", some_pixels(20 * 4, 84)
    root.mkdir()
    if layout == "pickle":
        write_mini_pickle(root, "test", images, [c + 80 for c in range(20) for _ in range(4)])
    else:
        write_folders(root / "test", {f"n{c:08d}": images[4 * c : 4 * c + 4] for c in range(20)})
    parameters = {
        "preset": "mini-1shot",
        "data_root": str(root),
        "released_checkpoint": str(write(tmp_path / "1shot.pth.tar", their_state())),
        "episodes": 4,
        "changes": {"test_query": 3},
        "runs": str(tmp_path / "runs"),
    }
    executed = papermill.execute_notebook(
        NOTEBOOKS / "03_train.ipynb", None, parameters, cwd=str(NOTEBOOKS), execution_timeout=300, progress_bar=False
    )
    said = "".join(o.get("text", "") for cell in executed.cells for o in cell.get("outputs", []))
    assert "nothing was trained: there are no learning curves" in said
    folder = tmp_path / "runs" / "mini-1shot-released"
    written = {str(file.relative_to(folder)) for file in folder.rglob("*.*")}
    assert written == {
        "result.json",
        "accuracies.csv",
        *(f"figures/accuracies.{kind}" for kind in ("png", "svg", "json")),
    }
    result = json.loads((folder / "result.json").read_text())
    assert result["accuracies"].keys() == {"alignment off", "DMF"}
    assert result["accuracies"]["DMF"]["episodes"] == 4
    assert result["accuracies"]["DMF"]["layout"] == layout


@pytest.mark.parametrize("where", ["model", "net", "state_dict", "params", "checkpoint.model"])
@pytest.mark.parametrize("prefix", ["", "module.", "module.module.", "_orig_mod.", "module._orig_mod.", "student."])
def test_other_nestings_and_prefixes_are_read(where: str, prefix: str, tmp_path: Path) -> None:
    content: Any = {prefix + key: value for key, value in their_state().items()}
    for key in reversed(where.split(".")):
        beside = {"args": argparse.Namespace(lr=0.1, gpu=[0]), "seen": collections.defaultdict(int, a=1)}
        schedule = torch.optim.lr_scheduler.MultiStepLR(torch.optim.SGD([torch.zeros(1)], lr=0.1), [1, 2])
        content = {key: content, "epoch": 3, "scheduler": schedule.state_dict(), **beside}
    torch.save(content, tmp_path / "other.pth.tar")
    torch.save({"state_dict": their_state()}, tmp_path / "plain.pth.tar")
    found, expected = (load_released(tmp_path / f"{n}.pth.tar").state_dict() for n in ("other", "plain"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "wrap", [lambda state: [state], lambda state: (state, 3, 0.5), lambda state: {"m": [3, state]}]
)
def test_a_state_in_a_list_is_read(wrap: Any, tmp_path: Path) -> None:
    torch.save(wrap(their_state()), tmp_path / "x.pth.tar")
    assert load_released(tmp_path / "x.pth.tar").channels > 0


def test_what_is_in_another_file_is_said(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "args": argparse.Namespace(lr=0.1)}, tmp_path / "empty.pth.tar")
    with pytest.raises(ValueError, match=r"there is 'epoch' .*'args'"):
        load_released(tmp_path / "empty.pth.tar")
    torch.save({"a": their_state(), "b": their_state()}, tmp_path / "two.pth.tar")
    with pytest.raises(ValueError, match="holds several networks, 'a', 'b'"):
        load_released(tmp_path / "two.pth.tar")
