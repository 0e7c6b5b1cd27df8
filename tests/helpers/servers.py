"""Servers of notebooks, each in folders of its own."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def server(command: list[str], url: str, folder: Path) -> Iterator[None]:
    """A server of its own folders, running while the block does."""
    settings = folder / "settings"
    hushed = settings / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    hushed.parent.mkdir(parents=True, exist_ok=True)
    hushed.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    own = {f"JUPYTER{name}_DIR": str(folder / name.strip("_").lower()) for name in ("_CONFIG", "_RUNTIME", "_DATA")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(settings), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")}
    environment = os.environ | own | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    log = (folder / "server.log").open("w")
    process = subprocess.Popen([sys.executable, "-m", *command], env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        deadline = time.monotonic() + 120
        while not answers(url):
            said = (folder / "server.log").read_text()[-2000:]
            assert process.poll() is None, f"the server ended:\n{said}"
            assert time.monotonic() < deadline, f"no answer from the server:\n{said}"
            time.sleep(0.3)
        yield
    finally:
        process.terminate()
        process.wait(30)
        log.close()
