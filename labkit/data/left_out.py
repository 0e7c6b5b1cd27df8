"""What lies among pictures and is not read: other kinds of pictures, and what systems leave behind."""

import json
import warnings
from pathlib import Path

from labkit.common.errors import few, printable

_KNOWN = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
# What operating systems, disk stations, unpackers and editors put among other people's files; compared in lower case.
LITTER = frozenset(_KNOWN["litter"])
# Pictures that are not read, by the suffix of their names.
OTHER_PICTURES: dict[str, str] = {suffix: kind for kind, suffixes in _KNOWN["pictures"].items() for suffix in suffixes}
# Pictures by their first bytes, and where in the file these begin.
FIRST_BYTES = (
    *((0, b"\xff\xd8\xff", "JPEG"), (0, b"\x89PNG\r\n", "PNG"), (0, b"GIF8", "GIF"), (8, b"WEBP", "WEBP")),
    *((0, b"II*\0", "TIFF"), (0, b"MM\0*", "TIFF"), (0, b"8BPS", "PSD"), (0, b"\xff\x0a", "JPEG XL")),
    *((4, b"JXL ", "JPEG XL"), (4, b"jP  ", "JPEG 2000"), (0, b"\xff\x4f\xff\x51", "JPEG 2000")),
    *((4, b"ftypavi", "AVIF"), (4, b"ftyphei", "HEIC"), (4, b"ftyphev", "HEIC"), (4, b"ftypmif1", "HEIC")),
    *((4, b"ftypmsf1", "HEIC"), (128, b"DICM", "DICOM"), (0, b"%!PS-Adobe", "EPS"), (0, b"qoif", "QOI")),
    *((0, b"v/1\x01", "EXR"), (0, b"II\xbc", "JPEG XR")),
)
# Two letters with which a text may begin too: only where something follows that no text has.
BITMAPS = ((b"BM", "BMP"), *((b"P%d" % kind, "PPM") for kind in range(1, 7)))


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is nobody's data: ``__MACOSX``, ``Thumbs.db`` and their like."""
    return name.lower() in LITTER or name.startswith("._")


def picture_kind(name: str, content: bytes) -> str | None:
    """The format of a picture by its first bytes (144 are enough), or by the suffix of its name; None: no picture."""
    for start, magic, kind in FIRST_BYTES:
        if content[start : start + len(magic)] == magic:
            return kind
    for magic, kind in BITMAPS:
        if content.startswith(magic) and (b"\0" in content or content[2:3] == b"\n"):
            return kind
    return OTHER_PICTURES.get(Path(name).suffix.lower())


class LeftOut:
    """Collects what a reader of folders leaves out, to say it in one warning.

    Attributes:
        litter: names that are nobody's data.
        pictures: what looks like a picture of somebody's, and why it is not read.
    """

    def __init__(self) -> None:
        self.litter: set[str] = set()
        self.pictures: list[str] = []

    def warn(self, root: Path) -> None:
        """Say it.

        Warns:
            UserWarning: something was left out.
        """
        said = []
        if self.pictures:
            said.append(f"{len(self.pictures)} that may be pictures of yours: {few(sorted(self.pictures))}")
        if self.litter:
            said.append(f"{', '.join(sorted(self.litter))} (of the system or of an editor, no class and no picture)")
        if said:
            warnings.warn(printable(f"{root}: left out {'; and '.join(said)}"), stacklevel=4)
