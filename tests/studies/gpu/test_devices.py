"""No method mixes devices: seen on a processor, with a pretended GPU (``pytest -m gpu`` has a real one)."""

import pytest
import torch
from torch import nn

from labkit.common import checks
from labkit.episodes.augment import Augment
from labkit.episodes.sampler import EpisodeSampler
from labkit.methods.noise import set_keys
from labkit.models.registry import METHODS
from labkit.models.small import E, N, Q, small_batch, small_model
from labkit.studies.gpu.works import tiny_pictures
from tests.helpers.pretended_gpu import pretended_gpu, put_there

# What cannot be pretended, and why.
COMPUTES = {
    "deepemd": "the network simplex method of POT needs numbers",
    "maml": "its gradients, within its score, need a GPU's own context",
    "metaoptnet": "the shape of what torch's least squares gives depends on numbers",
}


@pytest.mark.parametrize("name", [name for name in METHODS if name not in COMPUTES])
def test_score_and_loss_stay_on_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "labels", lambda *_: None)  # looks at labels that are on a processor, and only there
    model, batch = small_model(name), small_batch()
    with pretended_gpu(monkeypatch):
        support, query, *labels = put_there(model, batch)
        with torch.no_grad():
            scores = model(support, query)
        set_keys(model.train(), [(e,) for e in range(E)])
        losses = model.loss(support, query, *labels)
    assert scores.shape == (E, Q, N)
    assert scores.device.type == "cuda"
    assert losses.total.shape == ()
    assert losses.total.device.type == "cuda"


@pytest.mark.parametrize(
    "changes",
    [
        {"preset": "paper", "alignment": "closed"},
        {"preset": "paper", "alignment": "none"},
        {"preset": "paper", "alignment": "closed", "sampling": False},
        {"preset": "paper", "alignment": "closed", "start": "match"},
        {"preset": "released", "alignment": "rk4"},
    ],
    ids=lambda changes: ", ".join(f"{name} {value}" for name, value in changes.items()),
)
def test_every_form_of_dmf_does_so_in_its_trace_as_well(changes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "labels", lambda *_: None)
    model, batch = small_model("dmf", **changes), small_batch()
    with pretended_gpu(monkeypatch):
        support, query, *labels = put_there(model, batch)
        found = [t for t in vars(model.trace(support, query)).values() if isinstance(t, torch.Tensor)]
        set_keys(model.train(), [(e,) for e in range(E)])
        found.append(model.loss(support, query, *labels).total)
    assert len(found) > 5
    assert {t.device.type for t in found} == {"cuda"}


def test_episodes_are_made_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    images = tiny_pictures("train")
    with pretended_gpu(monkeypatch):
        drawn = EpisodeSampler(images, 3, 1, 2, device="cuda", augment=Augment()).batch(range(4))
    assert {t.device.type for t in vars(drawn).values()} == {"cuda"}


def test_a_forgotten_tensor_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(nn.Module):
        def forward(self, x):
            return x + torch.ones(3)

    with pretended_gpu(monkeypatch):
        (x,) = put_there(Forgetful(), [torch.ones(3)])
        with pytest.raises(RuntimeError, match="device"):
            Forgetful()(x)
