"""Train a named setting without a notebook, and go on where an earlier call stopped.

On several machines, the same command on each, with one address that all can reach:

    torchrun --nnodes 2 --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint HOST:29400 -m labkit train \\
        mini-1shot ../runs/mini --data-root /data/x --device cuda
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch

from labkit.common.checks import check_int, check_seed
from labkit.common.devices import available, memory_explained
from labkit.data import load_images
from labkit.studies.training_cost import announce
from labkit.training.loop import train
from labkit.training.settings import experiment


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("preset", help="name of the setting, such as quick or mini-thin")
    parser.add_argument("folder", type=Path, help="receives metrics and checkpoints")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--devices", type=int, help="of this machine; as many as torchrun was told, or 1")
    parser.add_argument("--nodes", type=int, help="machines; as many as torchrun was told, or 1")
    parser.add_argument("--changes", type=changes, default={}, help='fields to change, as JSON: {"steps": 2400}')


def changes(text: str) -> dict[str, Any]:
    """An option's text as fields of an experiment.

    Raises:
        ArgumentTypeError: it is no JSON object.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"no JSON ({error}); write it like '{{\"steps\": 2400}}'") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"must be fields by name, like '{{\"steps\": 2400}}', got {text}")
    return found


def main(a: argparse.Namespace) -> int:
    """Train, and print the best validation accuracy.

    Raises:
        ValueError: no devices or machines at all, a seed that is none, or what
            `labkit.training.settings.experiment` or `train` refuses.
    """
    available(a.device)
    check_seed(a.seed)
    told = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    devices = check_int("--devices", told if a.devices is None else a.devices)
    together = int(os.environ.get("WORLD_SIZE", devices))
    nodes = check_int("--nodes", together // devices if a.nodes is None else a.nodes)
    e = experiment(a.preset, **a.changes)
    if int(os.environ.get("RANK", 0)) == 0:  # before pictures are loaded, since it refuses an unknown backbone
        announce(e, torch.device(a.device).type, devices * nodes)
    source = {"size": e.size, "root": a.data_root} | ({"per_class": e.per_class} if e.per_class else {})
    base, validation = (load_images(e.dataset, split, **source) for split in ("train", "val"))
    what = "the size of its phases" if e.phases else "batch, query or size"
    with memory_explained(f"{what}, or take bfloat16: --changes '{{\"bfloat16\": true}}'"):
        trained = train(e, base, validation, a.folder, seed=a.seed, device=a.device, devices=devices, nodes=nodes)
    print(f"best validation accuracy {trained.validation:.2f} %, in {trained.folder}")
    return 0
