"""The state of a running training as a file: torch's own format, with the digest of all of it in the zip's comment.

``torch.load("last.pt", weights_only=True)`` opens it like any other; `load_state` checks the digest and trusts nothing.
"""

import hashlib
import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from labkit.common.files import write_atomically
from labkit.common.torch_files import read_torch
from labkit.models.checkpoints import SEAL

# SEAL and 64 hex digits are the comment of the zip file.
LENGTH = len(SEAL) + 64
NO_COMMENT = struct.pack("<H", 0)


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write the state of a running training: tensors, numbers, strings, lists and dictionaries, with their digest."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    write_atomically(path, content.removesuffix(NO_COMMENT) + struct.pack("<H", LENGTH) + _seal(content))


def load_state(path: Path) -> Any:
    """What `save_state` wrote, on the CPU.

    Raises:
        ValueError: it is damaged, or holds anything else.
    """
    content = path.read_bytes()
    content, seal = content[: -LENGTH - 2] + NO_COMMENT, content[-LENGTH - 2 :]
    if seal != struct.pack("<H", LENGTH) + _seal(content):
        raise ValueError(
            f"{path} is damaged or of an older lab: it has not the checksum of its content; delete it to start anew"
        )
    return read_torch(content, path)


def _seal(content: bytes) -> bytes:
    return SEAL + hashlib.sha256(content).hexdigest().encode()
