"""Show one page in the browser: on this machine only, at an address that holds a secret, with nothing else served.

Imports only the standard library and is run as a script, so the page is there at once:
``python labkit/explorer/serve.py figures/explorer.html``.
"""

from __future__ import annotations

import argparse
import secrets
import webbrowser
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlunsplit


def server(content: bytes, token: str, port: int = 0) -> ThreadingHTTPServer:
    """A server of `content` at ``/TOKEN/`` on 127.0.0.1; every other address is not found. Port 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0].split("#")[0]
            found = secrets.compare_digest(path.encode(), f"/{token}/".encode())
            body = content if found else b"not found"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8" if found else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing of each request: its address holds the token."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def show(file: Path, browser: bool = True) -> None:
    """Serve `file` until Ctrl+C, and open it in the browser.

    Raises:
        FileNotFoundError: there is no such file.
    """
    token = secrets.token_urlsafe(16)
    with server(file.read_bytes(), token) as serving:
        address = urlunsplit(("http", f"127.0.0.1:{serving.server_port}", f"/{token}/", "", ""))
        print(f"The explorer is at {address} (Ctrl+C ends it)", flush=True)
        if browser:
            webbrowser.open(address)
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            print()


def main(given: Sequence[str] | None = None) -> None:
    """Show the page named on the command line."""
    parser = argparse.ArgumentParser(description="Show an exported explorer in the browser.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parsed = parser.parse_args(given)
    show(parsed.file, not parsed.no_browser)


if __name__ == "__main__":
    main()
