"""`make app` shows the exported page at once: on this machine only, at an address that holds a secret."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import threading
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


def test_make_app_shows_the_shipped_page_and_listens_here_only() -> None:
    asked = ["make", "-n", "--no-print-directory", "-o", ".venv/.ready", "VENV=.venv", "app"]  # also inside `make test`
    shown = subprocess.run(asked, capture_output=True, text=True, cwd=ROOT, check=True)
    program, *options = shlex.split(shown.stdout.splitlines()[-1])
    assert program == ".venv/bin/python"
    command = [sys.executable, *options, "--no-browser"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        found = re.search(r"http://127\.0\.0\.1:(\d+)/([\w-]{20,})/", process.stdout.readline())
        assert found
        with urllib.request.urlopen(found[0]) as answer:
            assert answer.read() == (ROOT / "figures" / "explorer_photographs.html").read_bytes()
        listening = [c.laddr for c in psutil.Process(process.pid).net_connections() if c.status == "LISTEN"]
        assert listening == [("127.0.0.1", int(found[1]))]
    finally:
        process.terminate()
        process.wait(20)


def test_it_is_there_at_once_since_it_imports_only_the_standard_library() -> None:
    program = "import runpy, sys; runpy.run_path('labkit/explorer/serve.py'); print(*sys.modules)"
    seen = subprocess.run([sys.executable, "-I", "-S", "-c", program], cwd=ROOT, capture_output=True, check=True)
    imported = {name.split(".")[0] for name in seen.stdout.decode().split()}
    assert not imported & {"labkit", "numpy", "torch", "PIL", "matplotlib"}
