"""No method's loss makes the host wait for a GPU: it looks at no number of a tensor. Seen on a processor."""

import pytest
import torch

from labkit.common import checks
from labkit.methods.noise import set_keys
from labkit.models.registry import METHODS
from labkit.models.small import E, small_batch, small_model
from tests.helpers.waits import WaitError, no_waits

# Losses that look at a number, and why.
LOOKS = {
    "deepemd": "the network simplex method of POT runs on the processor",
    "metaoptnet": "how often the machine's bounds are repaired depends on the data",
}


@pytest.mark.parametrize("name", METHODS)
def test_no_loss_and_no_gradient_makes_the_host_wait(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "labels", lambda *_: None)  # looks at labels that are on a processor, and only there
    model = small_model(name).train()
    set_keys(model, [(e,) for e in range(E)])
    if name in LOOKS:
        with pytest.raises(WaitError), no_waits():
            model.loss(*small_batch()).total.backward()
        return
    batch = small_batch()
    with no_waits():
        model.loss(*batch).total.backward()


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x[0] > 0),
        lambda x: float(x[0]),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.cpu(),
        lambda x: x.to("cpu"),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
    ],
)
def test_every_way_to_look_is_seen(look) -> None:
    with pytest.raises(WaitError), no_waits():
        look(torch.ones(3))
