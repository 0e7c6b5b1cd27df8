"""The state of a training: opened by torch, checked by us."""

from pathlib import Path

import pytest
import torch

from labkit.training.checkpoints import load_state, save_state

STATE = {"step": 3, "model": {"w": torch.arange(50.0)}, "best": 61.5}


@pytest.mark.integration
def test_any_flipped_bit_and_any_cut_is_found(tmp_path: Path) -> None:
    file, broken = tmp_path / "last.pt", tmp_path / "broken.pt"
    save_state(STATE, file)
    assert torch.equal(load_state(file)["model"]["w"], STATE["model"]["w"])  # type: ignore[index]
    whole = file.read_bytes()
    last = len(whole) * 8
    for place in [*range(0, last, 101), *range(last - 8 * 110, last, 7)]:  # the digest and the end of the zip as well
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        for content in (flipped, whole[: place // 8]):
            broken.write_bytes(content)
            with pytest.raises(ValueError, match=r"broken\.pt is damaged"):
                load_state(broken)


def test_torch_opens_it_without_us(tmp_path: Path) -> None:
    save_state(STATE, tmp_path / "last.pt")
    back = torch.load(tmp_path / "last.pt", weights_only=True)
    assert torch.equal(back["model"]["w"], STATE["model"]["w"])  # type: ignore[index]
    assert (back["step"], back["best"]) == (3, 61.5)
