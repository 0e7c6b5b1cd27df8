"""Notebooks without anybody watching, and servers that nobody else may use."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from jupyter_client.manager import start_new_kernel

from labkit.training.checkpoints import load_state
from tests.helpers.notebooks import write_notebook
from tests.helpers.places import ROOT
from tests.helpers.servers import free_port, server

pytestmark = pytest.mark.integration

TRAIN = ROOT / "notebooks" / "03_train.ipynb"
SMALL = {"per_class": 10, "test_query": 5, "size": 24, "backbone_options": {"width": 0.0625}, "groups": 4}


def papermill(notebook: Path, out: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k != "LABKIT_DATA"}
    command = [sys.executable, "-m", "papermill", str(notebook), str(out), "--no-progress-bar", *arguments]
    return subprocess.Popen(command, cwd=ROOT / "notebooks", env=environment, stderr=subprocess.PIPE, text=True)


def test_notebook_3_says_what_is_missing_and_papermill_fails(tmp_path: Path) -> None:
    """All cases run at the same time, since most of the time is spent waiting for kernels."""
    cases = {
        "DataError: miniimagenet needs the folder its files lie in: pass root=": ["-p", "preset", "mini-1shot"],
        "DataError: .*no_such_folder: expected a folder with the data set in it, there is none": [
            *("-p", "preset", "mini-1shot", "-p", "data_root", "no_such_folder")
        ],
        r"FileNotFoundError: there is no checkpoint gone\.pth\.tar": [
            *("-p", "released_checkpoint", "gone.pth.tar", "-y", json.dumps({"changes": SMALL}))
        ],
        "ValueError: device 'cuda:9' was asked for, and PyTorch finds .* here: pass device='cpu'": [
            *("-p", "device", "cuda:9")
        ],
    }
    started = [
        papermill(TRAIN, tmp_path / f"{i}.ipynb", "-p", "runs", str(tmp_path), *options)
        for i, options in enumerate(cases.values())
    ]
    for said, process in zip(cases, started, strict=True):
        errors = process.communicate(timeout=600)[1]
        assert process.returncode != 0
        assert re.search(said, errors), errors[-2000:]
    assert {p.suffix for p in tmp_path.iterdir()} == {".ipynb"}


def test_a_hung_cell_is_killed_by_its_timeout(tmp_path: Path) -> None:
    write_notebook(
        tmp_path / "hangs.ipynb",
        f"import os, signal, time; _ = open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))",
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    time.sleep(1)",
    )
    process = papermill(tmp_path / "hangs.ipynb", tmp_path / "out.ipynb", "--execution-timeout", "4")
    errors = process.communicate(timeout=300)[1]
    assert process.returncode != 0
    assert "CellTimeoutError: A cell timed out while it was being executed, after 4 seconds" in errors
    deadline = time.monotonic() + 30
    while psutil.pid_exists(int((tmp_path / "pid").read_text())):
        assert time.monotonic() < deadline, "the kernel outlived its notebook"
        time.sleep(0.2)


def test_stopping_notebook_3_while_it_trains_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    """The notebook's own cells in a kernel, interrupted as by the square button, and the training taken up again."""
    cells = {c.id: c.source for c in nbformat.read(TRAIN, as_version=4).cells if c.cell_type == "code"}
    parameters, imports, _, images, training, *_ = cells.values()
    changes = SMALL | {"steps": 10**6, "validate_every": 10**6, "warmup": 5, "validation_episodes": 20}
    run = tmp_path / "quick-seed0"
    manager, client = start_new_kernel(cwd=str(ROOT / "notebooks"))

    def reply(to: str, timeout: float = 300) -> dict[str, Any]:
        while (message := client.get_shell_msg(timeout=timeout))["parent_header"].get("msg_id") != to:
            pass
        content: dict[str, Any] = message["content"]
        return content

    try:
        for code in (parameters, f"runs, changes, device = {str(tmp_path)!r}, {changes!r}, 'cpu'", imports, images):
            assert reply(client.execute(code))["status"] == "ok"
        running = client.execute(training, stop_on_error=False)  # else the kernel may drop what is asked right after
        deadline = time.monotonic() + 300
        while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").read_text():
            assert time.monotonic() < deadline
            with pytest.raises(queue.Empty):
                pytest.fail(f"it ended by itself: {reply(running, 0.1)}")
        manager.interrupt_kernel()
        said = reply(running)
        assert said.get("ename") == "KeyboardInterrupt"
        stopped = re.match(r"interrupted after step (\d+) of 1000000, .*: the same call goes on", said["evalue"])
        assert stopped
        step = int(stopped[1])
        goes_on = training.replace("devices=devices)", f"devices=devices, until={step + 1})")
        assert goes_on != training
        assert reply(client.execute(f"{goes_on}\nassert trained.metrics[0]['step'] == 25"))["status"] == "ok"
        assert load_state(run / "last.pt")["step"] == step + 1
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def get(url: str, token: str | None = None, data: bytes | None = None) -> tuple[int, str, str]:
    """Status, where redirections led, and the page."""
    headers = {"Authorization": f"token {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=120) as page:
            return page.status, page.url, page.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, url, ""


def addresses() -> set[tuple[str, int]]:
    """Where the processes that this one has started, servers and kernels, listen."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {(c.laddr.ip, c.laddr.port) for c in process.net_connections() if c.status == "LISTEN"}
    return found


def test_the_lab_listens_here_only_and_asks_for_its_token(tmp_path: Path) -> None:
    shown = subprocess.run(
        ["make", "-n", "-o", ".venv/.ready", "VENV=.venv", "lab"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    lines = shown.stdout.replace("\\\n", " ").splitlines()
    program, *options = shlex.split(next(line for line in lines if line.startswith(".venv/bin/")))
    command = [Path(program).name, *options]
    (tmp_path / "notebooks").mkdir()
    write_notebook(tmp_path / "notebooks" / "00_start.ipynb", "print('seen by ' + 'its owner')")
    at = f"http://127.0.0.1:{(port := free_port())}"
    with server([*command, "--no-browser", f"--port={port}"], f"{at}/login", tmp_path):
        deadline = time.monotonic() + 60
        while not (found := re.search(r"token=(\w{32,})", (tmp_path / "server.log").read_text())):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        token = found[1]
        pages = ("/", "/api/kernels", "/api/contents", "/api/kernels/x/channels")
        for page in pages:
            for url in (f"{at}{page}", f"{at}{page}?token={'0' * len(token)}"):
                status, led_to, text = get(url)
                assert status in (403, 404) or led_to.startswith(f"{at}/login"), f"{url} is open"
                assert "its owner" not in text
        assert get(f"{at}/api/contents", token)[0] == 200
        assert get(f"{at}/api/kernels", token, b"{}")[0] == 201  # the ports of a kernel are looked at too
        deadline = time.monotonic() + 60
        while len(listening := addresses()) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert ("127.0.0.1", port) in listening
        assert {ip for ip, _ in listening} == {"127.0.0.1"}
