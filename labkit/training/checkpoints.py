"""The state of a running training as a file: torch's own format, with the digest of all of it in the zip's comment.

``torch.load("last.pt", weights_only=True)`` opens it like any other; `load_state` checks the digest and trusts nothing.
"""

import hashlib
import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from labkit.common.files import write_atomically
from labkit.common.torch_files import read_torch
from labkit.models.checkpoints import SEAL

# SEAL and 64 hex digits are the comment of the zip file or, of an older lab, the file's first line.
LENGTH = len(SEAL) + 64
END = b"PK\x05\x06"  # begins the end of a zip file: 20 bytes, and 2 for the length of the comment
NO_COMMENT = struct.pack("<H", 0)
RENAMED = {"globally": "auxiliary"}  # in the metrics of older labs


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write the state of a running training: tensors, numbers, strings, lists and dictionaries, with their digest."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    write_atomically(path, content.removesuffix(NO_COMMENT) + struct.pack("<H", LENGTH) + _seal(content))


def load_state(path: Path) -> Any:
    """What `save_state` wrote, on the CPU. Those of older labs are read too: with the digest in front, or without one.

    Raises:
        ValueError: it is damaged, or holds anything else.
    """
    content = path.read_bytes()
    if content.startswith(SEAL):
        content, seal = content[LENGTH + 1 :], content[:LENGTH]
        whole = seal == _seal(content)
    elif content[-LENGTH:].startswith(SEAL):
        content, seal = content[: -LENGTH - 2] + NO_COMMENT, content[-LENGTH - 2 :]
        whole = seal == struct.pack("<H", LENGTH) + _seal(content)
    else:
        whole = content.startswith(b"PK") and content[-22:-18] == END and content.endswith(NO_COMMENT)
    if not whole:
        raise ValueError(f"{path} is damaged: its content is not what its checksum says; delete it to start anew")
    return read_torch(content, path)


def read_metrics(text: str) -> list[dict[str, Any]]:
    """The lines of metrics in a state, by today's names."""
    return [{RENAMED.get(name, name): value for name, value in line.items()} for line in json.loads(text)]


def _seal(content: bytes) -> bytes:
    return SEAL + hashlib.sha256(content).hexdigest().encode()
