"""The state of a training: opened by torch, checked by us."""

import hashlib
import io
from pathlib import Path

import pytest
import torch

from labkit.training.checkpoints import load_state, read_metrics, save_state

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


def test_states_of_older_labs_are_still_read(tmp_path: Path) -> None:
    """With the digest as a first line, or bare; their metrics get today's names."""
    file = tmp_path / "last.pt"
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    content = buffer.getvalue()
    for seal in (b"", b"labkit sha256 " + hashlib.sha256(content).hexdigest().encode() + b"\n"):
        file.write_bytes(seal + content)
        assert load_state(file)["best"] == 61.5
    file.write_bytes(seal + content[:-1])
    with pytest.raises(ValueError, match="is damaged"):
        load_state(file)
    assert read_metrics('[{"step": 1, "globally": 2.5, "rate": 0.1}]') == [{"step": 1, "auxiliary": 2.5, "rate": 0.1}]
