"""Servers of notebooks, each in folders of its own."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

# A promise that JupyterLab never keeps would have no time limit, so none is waited for.
RUN_ALL = """() => {
  const context = window.jupyterapp.shell.currentWidget.context;
  const run = () => window.jupyterapp.commands.execute("notebook:run-all-cells");
  context.ready.then(() => context.sessionContext.ready).then(run);
}"""


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
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:  # it waits for a kernel that was only just started
            process.kill()
            process.wait(10)
        log.close()


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: its address, its token, and its folder."""

    at: str
    token: str
    folder: Path

    def ask(self, what: str, method: str = "GET") -> Any:
        request = urllib.request.Request(f"{self.at}/api/{what}?token={self.token}", method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or "null")

    def kernels(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self.ask("kernels")
        return found

    def stop_kernels(self) -> None:
        for kernel in self.kernels():
            self.ask(f"kernels/{kernel['id']}", "DELETE")

    def show(self, page: Page, notebook: str) -> None:
        """Open a notebook, with nothing of an earlier page left."""
        page.goto(f"{self.at}/lab/tree/{notebook}?reset&token={self.token}")

    def run(self, page: Page, notebook: str) -> None:
        """Run all its cells in a new kernel, without waiting for the end."""
        self.stop_kernels()
        self.show(page, notebook)
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
        page.wait_for_function("window.jupyterapp && window.jupyterapp.shell.currentWidget")
        page.evaluate(RUN_ALL)


@contextmanager
def jupyterlab(folder: Path) -> Iterator[Lab]:
    """JupyterLab with `folder` for its root, for one who knows the token."""
    token, port = secrets.token_hex(8), free_port()
    lab = Lab(f"http://127.0.0.1:{port}", token, folder)
    options = [
        *("--no-browser", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"),
        *(f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None"),
        *("--LabApp.expose_app_in_browser=True", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"),
        *(["--allow-root"] if os.geteuid() == 0 else []),
    ]
    with server(["jupyterlab", *options], f"{lab.at}/api/status?token={token}", folder):
        yield lab
        lab.stop_kernels()  # the server waits long for those that it stops itself
