"""The explorer as text: the widget's one ES module, put together from its parts, and a page that needs no Python."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
PARTS = (  # each imports only from those before it
    *("data", "geometry", "words", "nodes", "drawing", "details", "views", "elements", "layout", "explorer"),
    *("tour", "controls", "player", "pointer", "keys", "tips", "files", "render"),
)
FOR_A_PAGE = (*PARTS, "page")

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; scrollbar-gutter: stable; }}
body {{ margin: 0; padding: 6px 12px; background: Canvas; color: CanvasText; font: 13px/1.4 system-ui, sans-serif; }}
header {{ max-width: 1640px; margin: 0 auto; padding: 0 4px; }}
h1 {{ font-size: 17px; margin: 0; display: inline; }}
header p {{ display: inline; margin: 0 0 0 10px; }}
{css}
</style>
</head>
<body>
<header><h1>{title}</h1><p>{about}</p></header>
<main id="explorer">Unpacking …</main>
<noscript>This page draws with JavaScript, and needs nothing else.</noscript>
<script type="text/plain" id="dmf-data">{data}</script>
<script type="module">
{script}
page_js.start({packed}).catch((error) => {{
  document.getElementById("explorer").textContent = `This browser cannot show the page: ${{error.message}}`;
}});
</script>
</body>
</html>
"""
ABOUT = "How nine points of a labelled picture become a filter, a gain and a score, for one cell of a picture."
# Nothing may be asked for from anywhere.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def module(parts: tuple[str, ...] = PARTS) -> str:
    """The parts as one text without imports: each in a function of its own, which returns what it exports.

    Raises:
        ValueError: a part imports from one that does not stand before it.
    """
    texts = []
    for number, name in enumerate(parts):
        text = (HERE / f"{name}.js").read_text(encoding="utf-8")
        for source in re.findall(r'^import [^;]*? from "\./(\w+)\.js";', text, re.MULTILINE):
            if source not in parts[:number]:
                raise ValueError(f"{name}.js imports from {source}.js, which must stand before it in PARTS")
        text = re.sub(r'^import (\{[^}]*\}) from "\./(\w+)\.js";', r"const \1 = \2_js;", text, flags=re.MULTILINE)
        exported = re.findall(r"^export (?:async )?(?:const|function|class) (\w+)", text, re.MULTILINE)
        text = re.sub(r"^export ", "", text, flags=re.MULTILINE)
        texts.append(f"const {name}_js = (() => {{\n{text}return {{ {', '.join(exported)} }};\n}})();\n")
    return "".join(texts)


def esm() -> str:
    """The widget's module, as anywidget takes it."""
    return module() + "export default { render: render_js.render };\n"


def css() -> str:
    """The widget's style sheet."""
    return (HERE / "explorer.css").read_text(encoding="utf-8")


def page(
    header: Mapping[str, Any], buffer: bytes, state: Mapping[str, Any], title: str = "The meta-filter at work"
) -> str:
    """One self-contained page that behaves like the widget: nothing is fetched, and no server is needed.

    Args:
        header, buffer: of the widget.
        state: the widget's other traits, the view it opens with.
    """
    packed = json.dumps({"header": header, "state": state}).replace("<", "\\u003c")
    return TEMPLATE.format(
        policy=POLICY,
        title=html.escape(title),
        about=ABOUT,
        css=css(),
        data=base64.b64encode(gzip.compress(_planes(buffer), mtime=0)).decode(),
        script=module(FOR_A_PAGE).replace("</script", "<\\/script"),
        packed=packed,
    )


def _planes(buffer: bytes) -> bytes:
    """The first byte of every four, then the second ones, and so on: alike bytes side by side pack better."""
    return np.frombuffer(buffer, np.uint8).reshape(-1, 4).T.tobytes()
