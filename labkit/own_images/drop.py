"""The widget of notebook 12: pictures dropped on it become classes, or are answered; names of classes can be changed.

A plain `ipywidgets.FileUpload` is a button and takes no drop. Here the browser sends the files as they are; they are
read, kept and classified in the kernel and go nowhere else.
"""

import base64
import io
import itertools
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from PIL import Image

from labkit.common import checks
from labkit.common.errors import printable
from labkit.common.files import is_folder
from labkit.common.names import read_alike, shown
from labkit.data.decode import read_rgb
from labkit.explorer import still
from labkit.methods.base import Method
from labkit.models.checkpoints import load_model
from labkit.own_images.classify import NONE, Classified, SupportSet, enrol
from labkit.own_images.figures import answers_picture
from labkit.own_images.pictures import Fit, by_name, class_folders, is_visible, unequal, visible

HERE = Path(__file__).parent
THUMBNAIL, MOST_PICTURES = 184, 6  # pixels of a side; pictures of a class that are shown
MOST_BYTES = 64 * 2**20  # of one drop
Files = dict[str, bytes]


class YourImages(anywidget.AnyWidget):
    """Two places to drop pictures on, the classes, and the answers.

    Args:
        model: that classifies.
        classes: pictures by class to begin with, as bytes.
        query: pictures to begin with.
        refuse, fit: of `SupportSet.classify` and `enrol`.
        network: the name of `model`.
        networks: names of models, with a label for each; a person may choose among them.
        of_own: the one of `networks` that answers once the examples have gone, unless a person has chosen.
        examples: whether the pictures to begin with are examples, whose place the first drop on the classes takes.
    """

    _esm = HERE / "drop.js"
    _css = HERE / "drop.css"
    classes: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    answers: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    message = traitlets.Unicode("").tag(sync=True)
    network = traitlets.Unicode("").tag(sync=True)
    networks: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    most_bytes = traitlets.Int(MOST_BYTES).tag(sync=True)

    def __init__(
        self,
        model: Method,
        classes: Mapping[str, Files],
        query: Files,
        refuse: float | None = None,
        fit: Fit = "letterbox",
        network: str = "",
        networks: Mapping[str, str] | None = None,
        of_own: str = "",
        examples: bool = False,
    ) -> None:
        known = [{"name": name, "label": label} for name, label in (networks or {}).items()]
        super().__init__(network=network, networks=known)
        self.model, self.refuse, self.fit, self.of_own = model, refuse, fit, of_own
        self.support: dict[str, Files] = {name: dict(files) for name, files in classes.items()}
        self.query = dict(query)
        self.examples, self.example_query = examples, examples
        self.enrolled: SupportSet | None = None
        self.found: Classified | None = None
        self.update(enrol_again=True)
        self.on_msg(self._asked)

    def __repr__(self) -> str:
        return f"YourImages({len(self.support)} classes, {len(self.query)} pictures)"

    def _ipython_display_(self, **_: Any) -> None:
        still.show(self, answers_picture(self.found) if self.found else None)

    def add(self, zone: str, files: Mapping[str, bytes]) -> None:
        """Pictures by name, dropped on ``"classes"`` or ``"query"``.

        On the classes a picture in a folder is of the class of the folder's name; others are sorted by `by_name`. The
        first drop there takes the place of examples, and of example queries with them.
        """
        if zone == "query":
            self.query, self.example_query = dict(files), False
            self.update(enrol_again=False)
            return
        if self.examples:
            self.support, self.examples = {}, False
            if self.example_query:
                self.query, self.example_query = {}, False
            if self.of_own:
                self._answer_by(self.of_own)
        for name, of_class in sorted_into_classes(files).items():
            own = self.support.setdefault(name, {})
            for file, content in of_class.items():
                own[_free(file, own)] = content
        self.update(enrol_again=True)

    def rename(self, old: str, new: str) -> None:
        """Give a class another name; that of another class joins the two."""
        new = new.strip()
        if old not in self.support or new == old:
            return
        alike = read_alike([*(name for name in self.support if name not in (old, new)), new])
        if not new or new == NONE or alike:
            no_name = f"{new!r} is the answer to what belongs to no class" if new else "a class needs a name"
            clash = f"it would read like {', '.join(shown(alike))}" if alike else no_name
            self.message = f"{old} keeps its name: {clash}."
            return
        joined: dict[str, Files] = {}
        for name, files in self.support.items():
            own = joined.setdefault(new if name == old else name, {})
            for file, content in files.items():
                own[_free(file, own)] = content
        self.support = joined
        self.update(enrol_again=True)

    def remove(self, name: str) -> None:
        """Leave a class out."""
        self.support.pop(name, None)
        self.update(enrol_again=True)

    def choose(self, network: str) -> None:
        """Let another of `networks` answer.

        Raises:
            ValueError: it is none of them.
        """
        if network not in (names := [known["name"] for known in self.networks]):
            raise ValueError(f"there is no network {network!r} here, but {', '.join(names) or 'one alone'}")
        self.of_own = ""  # who has chosen is not overruled
        self._answer_by(network)
        self.update(enrol_again=True)

    def _answer_by(self, network: str) -> None:
        if network != self.network:
            self.model, self.network = load_model(network), network

    def update(self, enrol_again: bool) -> None:
        """Enrol, where the classes have changed, and classify; what is wrong becomes the message."""
        said = []
        try:
            with warnings.catch_warnings(action="ignore"):  # what they say is said below
                if enrol_again or self.enrolled is None:
                    self.enrolled = None
                    _check_two(self.support)
                    self.enrolled = enrol(self.model, self.support, self.fit)
                self.found = self.enrolled.classify(self.query, self.refuse) if self.query else None
        except (ValueError, FloatingPointError) as error:
            self.found = None
            text = str(error)
            said.append(f"{text[:1].upper()}{text[1:]}.")
        skipped = (self.enrolled.skipped if self.enrolled else {}) | (self.found.skipped if self.found else {})
        said += [f"Skipped {file}: {why}." for file, why in skipped.items()]
        if self.examples and not self.example_query:
            said.append("The classes are still examples: drop yours.")
        elif self.examples and not said:
            said.append("These are examples: drop pictures of your own.")
        elif self.enrolled and not self.query:
            said.append("Now drop the pictures to be classified.")
        if self.enrolled and (of_shots := unequal(self.enrolled.shots)):
            said.append(f"{of_shots[0].upper()}{of_shots[1:]}.")
        if self.found and not self.found.calibrated:
            said.append("This network is not calibrated: its percentages may be far off, and it refuses nothing.")
        self.classes = [
            {"name": name, "count": len(files), "pictures": thumbnails(list(files.values())[:MOST_PICTURES])}
            for name, files in self.support.items()
        ]
        self.answers = self._answers()
        self.message = " ".join(said)

    def _answers(self) -> list[dict[str, Any]]:
        found = self.found
        if found is None:
            return []
        shown_as = zip(found.files, found.answers, found.best, found.probabilities.max(1), strict=True)
        return [
            {
                "file": file,
                "answer": answer,
                "best": best,
                "share": float(share),
                "refused": answer == NONE,
                "picture": thumbnails([self.query[file]])[0],
            }
            for file, answer, best, share in shown_as
        ]

    def _asked(self, _: Any, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        """What the browser sends. An error becomes the message: a widget that falls silent helps nobody.

        The message is sent even where it is the old one, since the browser says "Reading …" meanwhile.
        """
        try:
            if content.get("kind") == "add":
                names = [str(name) for name in content["names"]]
                files = {}
                for number, (name, content_of) in enumerate(zip(names, buffers, strict=True), 1):
                    files[name if name not in files else f"{number} {name}"] = bytes(content_of)
                self.add(str(content["zone"]), files)
            elif content.get("kind") == "rename":
                self.rename(str(content["old"]), str(content["new"]))
            elif content.get("kind") == "remove":
                self.remove(str(content["name"]))
            elif content.get("kind") == "choose":
                self.choose(str(content["network"]))
        except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
            self.message = f"{type(error).__name__}: {error}"
        self.send_state("message")


def _check_two(support: Mapping[str, Files]) -> None:
    if len(support) < 2:
        there, missing = (f"only {next(iter(support))}", "another") if support else ("none", "them")
        raise ValueError(f"two classes are needed; there is {there}. Drop pictures of {missing}")


def sorted_into_classes(files: Mapping[str, bytes]) -> dict[str, Files]:
    """Files by class: those in a folder, ``cat/1.jpg``, by the innermost folder's name, others by `by_name`.

    Hidden files and what systems leave behind, such as ``Thumbs.db``, are nobody's pictures.
    """
    classes: dict[str, Files] = {}
    files = {path: content for path, content in files.items() if is_visible(path.rpartition("/")[2])}
    for path, content in files.items():
        folder, _, file = path.rpartition("/")
        if folder:
            own = classes.setdefault(folder.rpartition("/")[2], {})
            own[_free(file, own)] = content
    loose = {path: content for path, content in files.items() if "/" not in path}
    for name, of_class in by_name(loose).items():
        own = classes.setdefault(name, {})
        for file, content in of_class.items():
            own[_free(file, own)] = content
    return classes


def _free(file: str, taken: Files) -> str:
    """The name of a file, or that with a number in front, where another file has it: both are kept."""
    numbered = (f"{n} {file}" for n in itertools.count(2))
    return next(name for name in itertools.chain([file], numbered) if name not in taken)


def thumbnails(contents: Sequence[bytes]) -> list[str]:
    """Pictures as small data URLs in colours of their own, not as a network sees them; what cannot be read is grey."""
    found = []
    for content in contents:
        try:
            image = read_rgb(content)
        except Exception:  # decoders of broken files raise nearly anything; the message names the file
            image = Image.new("RGB", (8, 8), "grey")
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=85)
        found.append("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode())
    return found


def files_of(folder: Path | str) -> dict[str, bytes]:
    """Names and contents of the files in a folder.

    Raises:
        ValueError: no such folder.
    """
    where = checks.path("query", folder)
    if not is_folder(where):
        raise ValueError(f"{where} is no folder; expected one with pictures in it")
    return {printable(p.name): p.read_bytes() for p in visible(where) if p.is_file()}


def classes_of(folder: Path | str) -> dict[str, Files]:
    """Files by class, of a folder with a subfolder a class.

    Raises:
        ValueError: no such folder.
    """
    return {name: files_of(p) for name, p in class_folders(folder).items()}
