"""Killed at any moment, it goes on to the same bits; interrupted, it stops where it can go on."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from labkit.common.interrupts import deferred_interrupt
from labkit.training import run
from labkit.training.checkpoints import load_state
from labkit.training.loop import train
from tests.helpers.places import ROOT
from tests.helpers.tiny import BASE, TINY, VALIDATION
from tests.helpers.toys import toy_images

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("kills", [6, pytest.param(25, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_ends_with_the_same_bits(kills: int, tmp_path: Path) -> None:
    """SIGKILL while rendering, in steps, in every kind of write; whole files after each, the same files in the end."""
    command = [sys.executable, "-m", "tests.helpers.killed", str(tmp_path), str(kills)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["kills"], said["tried"], said["different"]) == (kills, kills, [])
    assert said["files"] > 50


@pytest.mark.parametrize("number", [1, 5])
def test_an_interrupt_waits_for_the_step_saves_and_says_how_to_go_on(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(TINY, BASE, VALIDATION, tmp_path / "whole", progress=False)
    update, calls = torch.optim.SGD.step, []

    def interrupted(self: torch.optim.SGD) -> None:
        calls.append(1)
        if len(calls) == number:
            signal.raise_signal(signal.SIGINT)
        update(self)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", interrupted)
        with pytest.raises(
            KeyboardInterrupt, match=rf"after step {number} of 12, which is saved .* the same call goes on"
        ):
            train(TINY, BASE, VALIDATION, tmp_path / "parts", progress=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert load_state(tmp_path / "parts" / "last.pt")["step"] == number
    parts = train(TINY, BASE, VALIDATION, tmp_path / "parts", progress=False)
    assert parts.metrics == whole.metrics
    for name in ("metrics.jsonl", "best.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_a_second_interrupt_does_not_wait() -> None:
    reached = []

    def twice() -> None:
        with deferred_interrupt() as asked:
            signal.raise_signal(signal.SIGINT)
            reached.append(asked.is_set())
            signal.raise_signal(signal.SIGINT)
            reached.append("never")

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert reached == [True]


def test_trained_in_another_thread_it_leaves_interrupts_alone(tmp_path: Path) -> None:
    thread = threading.Thread(target=train, args=(TINY, BASE, VALIDATION, tmp_path), kwargs={"progress": False})
    thread.start()
    thread.join()
    assert (tmp_path / "best.safetensors").exists()


def test_two_trainings_in_one_folder_are_one_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(*_: object, **__: object) -> None:
        with pytest.raises(BlockingIOError, match=r"another process works in .*: wait for it, or choose"):
            train(TINY, BASE, VALIDATION, tmp_path, progress=False)
        raise InterruptedError

    monkeypatch.setattr(run, "evaluate", meanwhile)
    with pytest.raises(InterruptedError):
        train(TINY, BASE, VALIDATION, tmp_path, progress=False)


def test_what_a_killed_training_left_half_written_goes(tmp_path: Path) -> None:
    for name in (".last.pt-abc123", ".best.safetensors-x", ".metrics.jsonl-y"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "mine.txt").write_text("kept")
    train(TINY, toy_images(), VALIDATION, tmp_path, until=1, progress=False)
    assert {p.name for p in tmp_path.iterdir()} == {".lock", "last.pt", "metrics.jsonl", "mine.txt"}
