"""Data pickles built to run code or to exhaust the machine."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def nested_tuples(depth: int) -> bytes:
    return b"\x80\x02)" + b"2\x86" * depth  # each pair holds the one before twice: 2 ** depth leaves


ARRAY = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
U1 = b"cnumpy\ndtype\nX\x02\x00\x00\x00u1K\x00K\x01\x87R"
LONG_BINPUT = b"r"
NEEDLESS = "an instance of a class, a set"


def hostile(canary: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles built to run code or to exhaust the machine, and a part of the reason each must be refused for."""
    touch = f"open({str(canary)!r}, 'w')"
    call = Call(os.system, f"touch {canary}")
    memo = pickle.PROTO + b"\x04" + pickle.BINUNICODE + struct.pack("<I", 10**5) + b"a" * 10**5 + pickle.MEMOIZE
    repeat = b"0c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    return {
        "os.system": (pickle.dumps(call), "posix.system"),
        "protocol 0": (pickle.dumps(call, 0), "posix.system"),
        "Python 2 name": (b"cos\nsystem\n(S'touch %s'\ntR." % str(canary).encode(), "os.system"),
        "eval": (pickle.dumps(Call(eval, touch)), "builtins.eval"),
        "Python 2 eval": (b'c__builtin__\neval\n(S"%s"\ntR.' % touch.encode(), "__builtin__.eval"),
        "deep inside": (pickle.dumps({"data": [{"x": (1, [call])}]}), "posix.system"),
        "object array": (pickle.dumps(np.array([call, 1], dtype=object)), "dtype 'O8'"),
        "object array, harmless": (pickle.dumps(np.array([{}, 1], dtype=object)), "dtype 'O8'"),
        "structured array": (pickle.dumps(np.zeros(2, dtype=[("a", "u1")])), "dtype 'V1'"),
        "numpy.load": (pickle.dumps(Call(np.load, str(canary))), "numpy.load"),
        "dotted name": (pickle.PROTO + b"\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "numpy.ndarray.tofile"),
        "getattr": (pickle.dumps(Call(getattr, "", "join")), "builtins.getattr"),
        "INST": (b"(S'touch %s'\nios\nsystem\n." % str(canary).encode(), NEEDLESS),
        "OBJ": (b"(cos\nsystem\nS'touch %s'\no." % str(canary).encode(), "os.system"),
        "NEWOBJ": (b"\x80\x02cnumpy\ndtype\n)\x81.", NEEDLESS),
        "persistent id": (b"Psomething\n.", NEEDLESS),
        "extension code": (b"\x80\x02\x82\x01.", NEEDLESS),
        "a class": (pickle.dumps(Path("x")), "pathlib"),
        "state of a function": (b"c_codecs\nencode\n}b.", "setting the state of a function"),
        "state of a class": (b"cnumpy\ndtype\n}b.", "setting the state of a type"),
        "ndarray called": (b"cnumpy\nndarray\n(I1000000000000\ntR.", "truncated .*not callable"),
        "array without data": (ARRAY + b"(K\x01J\x00\xe1\xf5\x05\x85" + U1 + b"\x89C\x02abtb.", r"shape \[100000000\]"),
        "negative shape": (ARRAY + b"(K\x01J\xff\xff\xff\xff\x85" + U1 + b"\x89C\x00tb.", "not a tuple of whole"),
        "other encoding": (b"c_codecs\nencode\n(Va\nVrot13\ntR.", "the encoding 'rot13'"),
        "memo of 68 GB": (
            b"\x80\x02K\x01" + LONG_BINPUT + b"\xff\xff\xff\xffh\x00.",
            "truncated .*Memo value not found",
        ),
        "string of an exabyte": (
            b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"abc",
            "truncated .*(EOFError|UnpicklingError|IndexError)",
        ),
        "one string copied 10 000 times": (memo + repeat * 10**4 + b".", "more bytes than it holds"),
        "hash of 2 ** 60 leaves": (b"\x80\x02}" + nested_tuples(60)[2:] + b"K\x01s.", "key of type tuple"),
        "set of 2 ** 60 leaves": (b"\x80\x04\x8f(" + nested_tuples(60)[2:] + b"\x90.", NEEDLESS),
        "string of 2 ** 60 leaves": (b"cnumpy\ndtype\n" + nested_tuples(60)[2:] + b"\x85R.", "tuple where a string"),
    }
