"""`make app` shows the exported page at once: on this machine only, at an address that holds a secret."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import psutil
import pytest

from labkit.explorer.serve import server
from tests.helpers.places import ROOT

pytestmark = pytest.mark.integration


@pytest.fixture
def serving() -> Iterator[int]:
    with server(b"<p>mine", "secret") as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_port
        running.shutdown()


def test_the_page_is_there_for_whoever_knows_the_token(serving: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{serving}/secret/") as answer:
        assert answer.read() == b"<p>mine"
        assert answer.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    "path", ["", "/", "/secre", "/secret", "/secret/..", "/secret/../../etc/passwd", "/SECRET/", "/x/secret/"]
)
def test_nothing_else_is(serving: int, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{serving}{path}")


def test_make_app_has_the_page_within_ten_seconds_and_listens_here_only() -> None:
    asked = ["make", "-n", "--no-print-directory", "-o", ".venv/.ready", "VENV=.venv", "app"]  # also inside `make test`
    shown = subprocess.run(asked, capture_output=True, text=True, cwd=ROOT, check=True)
    program, *options = shlex.split(shown.stdout.splitlines()[-1])
    assert program == ".venv/bin/python"
    began = time.monotonic()
    command = [sys.executable, *options, "--no-browser"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        found = re.search(r"http://127\.0\.0\.1:(\d+)/([\w-]{20,})/", process.stdout.readline())
        assert found
        with urllib.request.urlopen(found[0]) as answer:
            assert answer.read() == (ROOT / "figures" / "explorer_photographs.html").read_bytes()
        assert time.monotonic() - began < 10
        listening = [c.laddr for c in psutil.Process(process.pid).net_connections() if c.status == "LISTEN"]
        assert listening == [("127.0.0.1", int(found[1]))]
    finally:
        process.terminate()
        process.wait(20)
