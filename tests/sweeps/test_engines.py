"""The Ray engine on a real cluster of two nodes, both of them this machine, one of them killed in mid-sweep."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.sweeps import engines
from labkit.sweeps.sweep import Sweep, key_of
from tests.helpers import sweep_runs
from tests.helpers.places import ROOT
from tests.helpers.sweep_runs import events

os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}  # see `labkit.sweeps.engines.on_ray`
ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:cluster mode")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[Any, list[Any]]]:
    """A head that does no runs, and two nodes with a core each, one with two GPUs, which Ray does no more than count.

    All listen on the loopback address only.
    """
    from ray.cluster_utils import Cluster

    common = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(ROOT))
        for name, value in engines.PATIENCE.items():
            patched.setenv(name, value)
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **common})
        try:
            yield started, [started.add_node(num_cpus=1, num_gpus=gpus, **common) for gpus in (0, 2)]
        finally:
            ray.shutdown()
            started.shutdown()


def sweep(run: Any, grid: Any, folder: Path, cluster: Any, **options: Any) -> Sweep:
    address = cluster[0].address
    return labkit.sweep(run, grid, "ray", folder=folder, version=1, address=address, progress=False, **options)


def test_fractions_of_gpus_and_what_no_machine_has(cluster: Any, tmp_path: Path) -> None:
    seen = sweep(sweep_runs.square, {"x": [1, 2]}, tmp_path, cluster, gpus=0.5)
    assert {r["result"]["process"]["gpu"] for r in seen.rows} <= {"0", "1"}
    assert [r["result"]["square"] for r in seen.rows] == [1, 4]
    with pytest.raises(ValueError, match="no machine of the cluster has that"):
        sweep(sweep_runs.square, {"x": [3]}, tmp_path, cluster, gpus=3)
    assert not ray.is_initialized()


def test_failures_and_dead_processes(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "RETRIES", 1)
    grid = [{"x": i, "how": how} for i, how in enumerate(("raises", "dies", "well"))]
    done = sweep(sweep_runs.fragile, grid, tmp_path, cluster, gpus=0)
    assert [r["result"]["x"] for r in done.rows] == [2]
    assert done.failed[0]["error"] == "ZeroDivisionError: no such seed"
    assert done.failed[1]["error"].startswith("WorkerCrashedError, after 1 more attempts")
    assert events(tmp_path, "started").count(key_of(grid[1], 1)) == 2


def test_a_node_dies_in_mid_sweep(cluster: Any, tmp_path: Path) -> None:
    """Every result is there, none twice, and the interrupted run went on from what it had on the disk."""
    grid = [{"seconds": 2, "i": i} for i in range(6)]
    keys = [key_of(p, 1) for p in grid]
    struck: list[str] = []
    killer = threading.Thread(target=kill_a_node, args=(*cluster, tmp_path, struck), daemon=True)
    killer.start()
    done = sweep(sweep_runs.slow, grid, tmp_path, cluster, gpus=0)
    assert len(struck) == 1
    assert not done.failed
    assert [r["parameters"] for r in done.rows] == grid
    assert sorted(events(tmp_path, "finished")) == sorted(keys)
    assert sorted(events(tmp_path, "started")) == sorted([*keys, *struck])
    for row in done.rows:
        steps, processes = zip(*(line.split(":") for line in row["result"]["counted"]), strict=True)
        assert steps == tuple("0123456789")
        assert len(set(processes)) == 1 + (row["key"] in struck)
    assert done.rows[keys.index(struck[0])]["result"]["found"] >= 3


def kill_a_node(started: Any, nodes: list[Any], folder: Path, struck: list[str]) -> None:
    """Kill a node when a run on it has counted to three; not the driver's own node, which Ray does not survive."""
    while not struck:
        time.sleep(0.05)
        for file in folder.glob("*/counted"):
            counted = file.read_text().split()
            if 3 <= len(counted) <= 7:
                worker = Path(f"/proc/{counted[0].split(':')[1]}/stat")
                raylet = int(worker.read_text().rsplit(")", 1)[1].split()[1])  # the worker's parent
                driver = ray._private.worker._global_node.raylet_socket_name
                for node in nodes:
                    own = node.all_processes["raylet"][0].process.pid
                    if own == raylet and node.raylet_socket_name != driver and not struck:
                        struck.append(file.parent.name)
                        started.remove_node(node, allow_graceful=False)
