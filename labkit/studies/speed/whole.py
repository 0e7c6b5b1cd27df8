"""The whole method: a training step, the paper's protocol, and the accuracy of both forms."""

import statistics
import time
from functools import partial
from typing import Any

import torch

from labkit.common.timing import alternate, ratios, seconds
from labkit.data import load_images
from labkit.dmf.model import DMF
from labkit.episodes.preprocessing import Preprocessing
from labkit.episodes.sampler import EpisodeSampler
from labkit.evaluation import intervals
from labkit.evaluation.protocol import evaluate
from labkit.models.checkpoints import load_model
from labkit.studies.speed.literal import LiteralDMF
from labkit.studies.speed.setting import Setting
from labkit.training.settings import experiment

MINI = experiment("mini-1shot")


def step(setting: Setting) -> dict[str, Any]:
    """A training step of four episodes, by its parts: literal in float32, ours in float32 and in bfloat16."""
    sampler = EpisodeSampler(
        setting.images("train"), setting.way, 1, min(setting.query, 6), device=setting.device, augment=MINI.augment
    )
    networks: dict[str, tuple[LiteralDMF | DMF, DMF, bool]] = {}
    for name, bfloat16 in (("literal", False), ("fast", False), ("fast, bfloat16", True)):
        model = setting.model(**({} if name == "literal" else {"alignment": "closed"})).train()
        if name != "literal":
            model = model.to(memory_format=torch.channels_last)
        networks[name] = (LiteralDMF(model) if name == "literal" else model, model, bfloat16)
    parts: dict[str, list[dict[str, float]]] = {name: [] for name in networks}
    for run in range(setting.runs + 1):
        for name, (form, model, bfloat16) in networks.items():
            measured = _step_parts(form, model, sampler, run, bfloat16)
            if run:  # the first is for warming up
                parts[name].append(measured)
    total = {name: [round(sum(p.values()), 4) for p in rows] for name, rows in parts.items()}
    medians = {
        name: {k: round(statistics.median(r[k] for r in rows), 4) for k in rows[0]} for name, rows in parts.items()
    }
    share = max(medians[n]["episodes"] / statistics.median(total[n]) for n in ("fast", "fast, bfloat16"))
    return {"seconds": total, "ratio": ratios(total), "parts": medians, "episodes_share": round(share, 5)}


def _step_parts(
    form: LiteralDMF | DMF, model: DMF, sampler: EpisodeSampler, run: int, bfloat16: bool
) -> dict[str, float]:
    """Seconds of each part of one step; parts follow one another through `state`."""
    device = sampler.prepare.pixels.device.type
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, nesterov=True)
    state: dict[str, Any] = {}

    def embedding(*_: Any) -> None:
        if device == "cuda":
            torch.cuda.synchronize()
        state["backbone"] = time.perf_counter() - state["started"]

    def forward() -> None:
        batch = state["batch"]
        base = batch.classes.gather(1, batch.query_labels)
        state["started"] = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            state["loss"] = form.loss(batch.support, batch.query, batch.query_labels, base).total

    times = {"episodes": seconds(lambda: state.update(batch=sampler.batch(range(4 * run, 4 * run + 4))), device)}
    hook = model.backbone.register_forward_hook(embedding)
    both = seconds(forward, device)
    hook.remove()
    times |= {"backbone": state["backbone"], "head": both - state["backbone"]}
    times["backward"] = seconds(lambda: state["loss"].backward(), device)
    times["optimiser"] = seconds(optimiser.step, device)
    optimiser.zero_grad()
    return times


def test(setting: Setting) -> dict[str, Any]:
    """The paper's protocol: ours in full, embedding in bfloat16; the literal form on some episodes, scaled.

    Ours in float32 is that time, with the embedding replaced by one in float32, measured on 256 images.
    """
    images = setting.images("test")
    sampler = EpisodeSampler(images, setting.way, 1, setting.query, device=setting.device)
    model, literal = setting.model(alignment="closed"), LiteralDMF(setting.model())
    model.preprocessing = prepared = Preprocessing.of(images)
    model = model.to(memory_format=torch.channels_last)
    times = []
    some = prepared.normalise(prepared.to_unit(sampler.prepare.pixels[:256]))

    def embed(bfloat16: bool) -> None:
        with torch.autocast(setting.device, torch.bfloat16, enabled=bfloat16):
            model.embed(some)

    with torch.inference_mode():
        for i in range(setting.literal_episodes + 1):  # the first is for warming up
            episode = sampler.batch([i])
            times.append(seconds(partial(literal, episode.support, episode.query), setting.device))
        embedding = alternate({"float32": partial(embed, False), "bfloat16": partial(embed, True)}, 2, setting.device)
    evaluation = partial(evaluate, model, images, setting.way, 1, setting.query, setting.episodes, bfloat16=True)
    whole = {"literal, scaled": statistics.mean(times[1:]) * setting.episodes}
    whole["fast, bfloat16"] = seconds(evaluation, setting.device)
    dearer = statistics.median(embedding["float32"]) - statistics.median(embedding["bfloat16"])
    whole["fast"] = whole["fast, bfloat16"] + dearer * len(images) / len(some)
    ratio = {k: round(whole["literal, scaled"] / v, 2) for k, v in whole.items() if k != "literal, scaled"}
    return {
        "literal_seconds_an_episode": [round(t, 4) for t in times[1:]],
        "seconds_to_embed_256": embedding,
        "seconds": {k: round(v, 2) for k, v in whole.items()},
        "ratio": ratio,
    }


def agreement(setting: Setting) -> dict[str, Any]:
    """Accuracy of the shipped quick model: float32, bfloat16, and the literal head, on the same novel episodes."""
    images = load_images("glyphs-mini", "test", size=40, per_class=200, progress=False)
    quick: Any = load_model("quick", setting.device)
    model = quick.variant(alignment="rk4")
    results = {
        "float32": evaluate(model, images, episodes=setting.episodes),
        "bfloat16": evaluate(model, images, episodes=setting.episodes, bfloat16=True),
    }
    rows = {name: {"accuracy": round(r.accuracy, 3), "ci95": round(r.ci95, 3)} for name, r in results.items()}
    difference = results["bfloat16"].per_episode - results["float32"].per_episode
    paired = [round(v, 4) for v in intervals.over_episodes(difference)]
    literal, sampler = (
        LiteralDMF(model),
        EpisodeSampler(images, device=setting.device, preprocessing=model.preprocessing),
    )
    worst, other, count = 0.0, 0, min(20, setting.episodes)
    with torch.inference_mode():
        for i in range(count):
            e = sampler.batch([i])
            fast, slow = model(e.support, e.query), literal(e.support, e.query)
            worst = max(worst, float((fast - slow).abs().max() / slow.abs().max()))
            other += int((fast.argmax(-1) != slow.argmax(-1)).sum())
    forms = {"episodes": count, "largest_difference": worst, "other_answers": other}
    return {"accuracy": rows, "bfloat16_minus_float32": paired, "fast_against_literal": forms}
