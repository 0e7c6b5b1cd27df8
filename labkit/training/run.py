"""The state of a training: what a checkpoint holds, and what begins anew with every phase."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labkit.data import ImageSet
from labkit.episodes.preprocessing import Preprocessing
from labkit.evaluation.feature_set import FeatureSet
from labkit.evaluation.protocol import evaluate
from labkit.methods.base import Method
from labkit.methods.classifier import nearest_mean
from labkit.models.checkpoints import save_model
from labkit.training.checkpoints import load_state, save_state
from labkit.training.distributed import first_only, mean, share, world
from labkit.training.divergence import Watch, check_finite
from labkit.training.logbook import Log, Logbook
from labkit.training.optimisers import make_optimiser, set_modes
from labkit.training.phases import Stretch, rate_at, stretches
from labkit.training.settings import Experiment

GROUP = 25  # steps that share a line of metrics
KEPT = "The last good checkpoint is {file}, of step {step}."


class Run:
    """A training in progress.

    Attributes:
        step: steps done, of all phases.
        best: validation accuracy in percent of the weights in ``best.safetensors``, in this phase.
        totals: loss, its two parts and accuracy since the last line of metrics, of this process, on the device.
        stretch: the phase that comes next, or the last one, and its place.
    """

    def __init__(
        self,
        experiment: Experiment,
        model: Method,
        base: ImageSet,
        seed: int,
        device: torch.device,
        folder: Path,
        log: Log | None = None,
    ) -> None:
        self.experiment, self.seed, self.device, self.folder = experiment, seed, device, folder
        model.preprocessing = Preprocessing.of(base)
        if isinstance(base, FeatureSet):
            model.take_base_mean(base.mean)
        self.model: Method = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.step, self.best, self.kept = 0, 0.0, "There is no checkpoint yet."
        self.totals = torch.zeros(4, device=device)
        self.logbook = Logbook(folder, log)
        pictures = {"digest": base.digest, "labels": base.labels_digest}
        self.identity = json.dumps({"experiment": experiment.to_json(), "seed": seed} | pictures)
        self.enter()

    def enter(self) -> None:
        """Begin the phase that comes next: its optimiser, and what it freezes."""
        ways = stretches(self.experiment.plan)
        self.stretch: Stretch = next((s for s in ways if self.step < s.end), ways[-1])
        phase = self.stretch.phase
        set_modes(self.model, phase.rates)
        self.optimiser = make_optimiser(self.model, phase, self.device)
        self.watch = Watch(self.model, phase.size // world(), self.device)

    def enter_if_over(self) -> None:
        """Begin the next phase, if this one is done; nothing of it has been validated then."""
        if self.step == self.stretch.end:
            self.enter()
        if self.done == 0:
            self.best = 0.0

    @property
    def done(self) -> int:
        """Steps of this phase that are done."""
        return self.step - self.stretch.start

    def own(self, step: int) -> Any:
        """The numbers of the episodes or pictures of a step that this process takes."""
        return share(self.stretch.numbers(step))

    def best_file(self) -> Path | None:
        """Where the best weights of this phase lie; None before its first validation that was better than nothing.

        What lies there then is of the phase before, if anything.

        Raises:
            ValueError: the file is missing, and the last weights must not be taken for the best.
        """
        if self.best <= 0:
            return None
        file = self.folder / "best.safetensors"
        if not file.exists():
            raise ValueError(
                f"{file} is missing: it held the best weights of this training, of {self.best:.2f} % on validation "
                f"classes. Put it back, or delete {self.folder / 'last.pt'} to train anew"
            )
        return file

    def check(self) -> None:
        """Stop the training if loss or gradients so far were not finite; called before anything is written."""
        self.watch.check(self.seed, self.stretch.phase.batch, self.own, self.kept)

    def log_group(self) -> tuple[float, float]:
        """Log the means over the step-group that ends here, and return its loss and accuracy."""
        self.check()
        loss, few_shot, auxiliary, accuracy = (mean(self.totals) / ((self.done - 1) % GROUP + 1)).tolist()
        self.totals.zero_()
        rate = rate_at(self.done - 1, self.stretch.phase)
        line = {"loss": loss, "few_shot": few_shot, "auxiliary": auxiliary, "accuracy": accuracy, "rate": rate}
        self.logbook.add(step=self.step, **line, **self._phase())
        return loss, accuracy

    def _phase(self) -> dict[str, str]:
        """The phase as an entry of a log line, where the experiment lists its phases."""
        return {"phase": self.stretch.phase.name} if self.experiment.phases else {}

    def validate(self, images: ImageSet) -> None:
        """Validate in the first process, which keeps the best weights; the others wait for it in their next step."""
        self.check()
        self._validate(images)

    @first_only
    def _validate(self, images: ImageSet) -> None:
        e = self.experiment
        check_finite(self.model.state_dict(), self.step, self.kept)
        model = self.model if self.stretch.phase.selection == "method" else NearestMean(self.model)
        result = evaluate(model, images, e.way, e.shot, e.test_query, e.validation_episodes, bfloat16=e.bfloat16)
        self.logbook.add(step=self.step, validation=result.accuracy, ci95=result.ci95, **self._phase())
        if result.accuracy > self.best:
            self.best = result.accuracy
            about = {"experiment": e.to_json(), "seed": self.seed, "step": self.step, "validation": result.summary()}
            save_model(self.model, self.folder / "best.safetensors", about)

    def save(self) -> None:
        """Write everything that `resume` needs, after the files that it relies on."""
        self.check()
        self._save(mean(self.totals))

    @first_only
    def _save(self, totals: Tensor) -> None:
        check_finite(self.model.state_dict(), self.step, self.kept)
        state = {
            "identity": self.identity,
            "step": self.step,
            "best": self.best,
            "totals": totals,
            "metrics": json.dumps(self.logbook.lines),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        save_state(state, self.folder / "last.pt")
        self.kept = KEPT.format(file=self.folder / "last.pt", step=self.step)

    def resume(self) -> None:
        """Go back to the last checkpoint, if there is one; metrics written after it are dropped.

        Raises:
            ValueError: the folder holds another experiment or seed, or one on other pictures or labels, or its best
                weights are missing.
        """
        file = self.folder / "last.pt"
        if file.exists():
            state = load_state(file)
            before, own = json.loads(state["identity"]), json.loads(self.identity)
            if before != {name: own[name] for name in own if name in before}:  # an older lab kept nothing of labels
                pictures = {**before, "digest": "", "labels": ""} == {**own, "digest": "", "labels": ""}
                what = "a training on other pictures or labels" if pictures else "another experiment or seed"
                raise ValueError(f"{self.folder} holds {what}: choose another folder or delete it")
            self.model.load_state_dict(state["model"])
            self.step, self.best, self.logbook.lines = state["step"], state["best"], json.loads(state["metrics"])
            self.best_file()  # a missing one is said now, and not after hours of training
            self.enter()
            if self.done:  # a state saved where a phase ends holds the optimiser of that one
                self.optimiser.load_state_dict(state["optimiser"])
            self.totals = state["totals"].to(self.device)
            self.kept = KEPT.format(file=file, step=self.step)
        self.logbook.rewrite()


class NearestMean(torch.nn.Module):
    """A method's features, compared with the means of the classes instead of by its own score."""

    def __init__(self, model: Method) -> None:
        super().__init__()
        self.model, self.preprocessing = model, model.preprocessing

    def embed(self, images: Tensor) -> Tensor:
        return self.model.embed(images)

    def score(self, support: Tensor, query: Tensor) -> Tensor:
        return nearest_mean(support, query)
