"""The Slurm script, dry: Slurm's commands and Ray's are scripts that write down how they were called."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

pytestmark = pytest.mark.integration

SCRIPT = ROOT / "labkit" / "sweeps" / "slurm.sh"
FAKES = {
    "scontrol": 'printf "node%s\\n" 1 2 3',
    # Runs what it is given here, as if on a node, after its own options.
    "srun": 'echo "srun $*" >> "$CALLS"; while [[ "$1" == --* ]]; do shift; done\n'
    'export SLURM_CPUS_ON_NODE=32 SLURM_GPUS_ON_NODE=4; exec "$@"',
    "hostname": "echo 10.0.0.1 192.168.0.1",
    "ray": 'echo "ray $*; token ${#RAY_AUTH_TOKEN}, $RAY_AUTH_MODE" >> "$CALLS"\n'
    'if [ "$1" = health-check ]; then test -e "$CALLS.asked" || { touch "$CALLS.asked"; exit 1; }; exit 0; fi\n'
    "exec sleep 60",
    "sleep": 'test "$1" = 60 && exec /bin/sleep 60 || exit 0',
}


@pytest.fixture
def call(tmp_path: Path):
    """Runs the script with the fakes on its path; gives the finished process and the calls, a line each."""
    for name, body in FAKES.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    calls = tmp_path / "calls"

    def run(*command: str) -> tuple[subprocess.CompletedProcess, list[str]]:
        environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls)}
        environment |= {"SLURM_JOB_NODELIST": "node[1-3]", "SLURM_JOB_ID": "12345678"}
        done = subprocess.run(
            ["bash", str(SCRIPT), *command], env=environment, capture_output=True, text=True, timeout=50, check=False
        )
        return done, calls.read_text().splitlines() if calls.exists() else []

    return run


def test_a_head_its_nodes_and_the_command(call) -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0
    # The command outlasts the start of the nodes' Rays, as any real one does; at its end they are killed.
    wait = 'until [ "$(grep -c "^ray start" "$CALLS")" = 2 ]; do /bin/sleep 0.1; done; '
    done, calls = call("bash", "-c", wait + 'echo "to $RAY_ADDRESS: $0 $1"', "a b", "c")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "to 10.0.0.1:25678: a b c\n"  # quoted arguments arrive whole
    rays = [line for line in calls if line.startswith("ray start")]
    offer = "--num-cpus=32 --num-gpus=4 --disable-usage-stats --block; token 64, token"
    head = "ray start --head --port=25678 --node-ip-address=10.0.0.1 --include-dashboard=false"
    assert sorted(rays) == [
        f"ray start --address=10.0.0.1:25678 {offer}",
        f"{head} --temp-dir=/tmp/ray-12345678 {offer}",
    ]
    assert sum(line.startswith("ray health-check --address 10.0.0.1:25678") for line in calls) == 2  # once in vain
    (step,) = [line for line in calls if line.startswith("srun --nodes=2")]
    assert "--nodelist=node2,node3" in step


def test_the_command_s_failure_is_the_job_s(call) -> None:
    done, _ = call("bash", "-c", "exit 3")
    assert done.returncode == 3


def test_no_command(call) -> None:
    done, calls = call()
    assert (done.returncode, calls) == (2, [])
    assert "give the command" in done.stderr
