"""Models on disk."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from labkit.dmf.model import DMF
from labkit.episodes.preprocessing import Preprocessing
from labkit.models.checkpoints import load_model, read_header, save_model


@pytest.fixture
def model() -> DMF:
    torch.manual_seed(0)
    net = DMF("conv4", groups=4, preset="released", backbone_options={"width": 8}, classes=5, alignment="euler(2)")
    net.preprocessing = Preprocessing(40, "none")
    return net


def test_a_model_comes_back_with_all_it_needs(model: DMF, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m.safetensors", {"command": "none", "accuracy": 61.5})
    back = load_model(tmp_path / "m.safetensors")
    assert back.choices == model.choices
    assert back.preprocessing == model.preprocessing
    assert not back.training
    x = torch.randn(1, 3, 1, 3, 40, 40), torch.randn(1, 4, 3, 40, 40)
    assert torch.equal(back(*x), model.eval()(*x))
    assert read_header(tmp_path / "m.safetensors")["about"]["accuracy"] == 61.5


def test_half_precision_halves_the_file_and_hardly_moves_the_scores(model: DMF, tmp_path: Path) -> None:
    save_model(model, tmp_path / "full.safetensors")
    save_model(model, tmp_path / "half.safetensors", half=True)
    back = load_model(tmp_path / "half.safetensors")
    x = torch.randn(1, 3, 1, 3, 40, 40), torch.randn(1, 4, 3, 40, 40)
    scores = model.eval()(*x)
    assert (back(*x) - scores).abs().max() < 1e-2 * scores.abs().max()
    assert (tmp_path / "half.safetensors").stat().st_size < 0.7 * (tmp_path / "full.safetensors").stat().st_size


def test_double_precision_comes_back(model: DMF, tmp_path: Path) -> None:
    x = torch.randn(1, 3, 1, 3, 40, 40).double(), torch.randn(1, 4, 3, 40, 40).double()
    save_model(model.double().eval(), tmp_path / "double.safetensors")
    assert torch.equal(load_model(tmp_path / "double.safetensors")(*x), model(*x))
    save_model(model, tmp_path / "half.safetensors", half=True)
    kinds = {p.dtype for p in load_model(tmp_path / "half.safetensors").parameters()}
    assert kinds == {torch.float32}


def test_a_value_too_large_for_half_precision_keeps_its_own(model: DMF, tmp_path: Path) -> None:
    with torch.no_grad():
        model.global_classifier.bias[0] = 1e6
    save_model(model, tmp_path / "half.safetensors", half=True)
    assert load_model(tmp_path / "half.safetensors").global_classifier.bias[0] == 1e6  # type: ignore[union-attr, index]


def test_a_model_with_a_strangers_backbone_cannot_be_described(tmp_path: Path) -> None:
    model = DMF(torch.nn.Conv2d(3, 8, 3), groups=4)
    with pytest.raises(ValueError, match="backbone was given by name"):
        save_model(model, tmp_path / "m.safetensors")


def test_files_that_are_not_ours_are_named(model: DMF, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere is neither a file nor one of the shipped models"):
        load_model("nowhere")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00notjson!")
    with pytest.raises(ValueError, match=r"broken\.safetensors is not a model"):
        load_model(broken)
    save_model(model, broken)
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"broken\.safetensors is damaged"):
        load_model(broken)


@pytest.mark.integration
def test_any_flipped_bit_and_any_cut_is_found(model: DMF, tmp_path: Path) -> None:
    """A bit in each third byte of the header, where a flip may still leave a header; some of the tensors; some cuts."""
    file, broken = tmp_path / "m.safetensors", tmp_path / "broken.safetensors"
    save_model(model, file)
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for place in [*range(0, header * 8, 25), *range(header * 8, len(whole) * 8, 4001)]:
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        broken.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"broken\.safetensors.*damaged"):
            read_header(broken)
    for length in range(0, len(whole), 997):
        broken.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"broken\.safetensors.*damaged"):
            read_header(broken)


def test_a_file_without_a_checksum_is_refused(model: DMF, tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    save_model(model, file)
    state, header = safetensors.torch.load_file(file), read_header(file)
    file.write_bytes(safetensors.torch.save(state, {"labkit": json.dumps(header)}))
    with pytest.raises(ValueError, match=r"m\.safetensors is not a model that save_model wrote"):
        load_model(file)


def test_a_recipe_that_asks_for_more_than_the_file_holds_gets_no_memory(model: DMF, tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    model.backbone_options["width"] = 10**9
    save_model(model, file)
    with pytest.raises(ValueError, match=r"m\.safetensors: its tensors do not fit the model it describes"):
        load_model(file)
    model.backbone_options["depth"] = 3
    save_model(model, file)
    with pytest.raises(ValueError, match=r"m\.safetensors: its tensors do not fit .* has no option 'depth'"):
        load_model(file)


def test_the_same_model_gives_the_same_file(model: DMF, tmp_path: Path) -> None:
    for name in "ab":
        save_model(model, tmp_path / f"{name}.safetensors", {"sha256": "0" * 64})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert read_header(tmp_path / "a.safetensors")["about"] == {"sha256": "0" * 64}
