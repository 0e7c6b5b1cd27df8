"""``dmf-lab export-explorer`` writes one page, of the weights that are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labkit.__main__ import main
from labkit.explorer.page import module

pytestmark = pytest.mark.integration


def test_it_writes_one_page_that_holds_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "mine.html"
    assert main(["export-explorer", str(out), "--search", "3", "--weights", "quick", "quick-match"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"mine\.html: \d\.\d MB, \d episodes", said)
    text = out.read_text(encoding="utf-8")
    assert len(text.encode()) < 5_000_000
    assert '"checkpoints": ["quick", "quick-match"]' in text
    assert set(re.findall(r"https?://[^\"'` )]+", text)) <= {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon|\beval\(|@import|url\(|<link|src=", text)


def test_a_part_that_imports_from_a_later_one_is_refused() -> None:
    with pytest.raises(ValueError, match="must stand before it"):
        module(("drawing", "data"))
