"""A Ray cluster of two nodes on the loopback interface: `python -m tests.support.ray_cluster FILE`.

By default the head takes no tasks, and the second node has a CPU and the resource `compress`; with
`--devices` each has one of what Ray calls a GPU as well, though there may be none. FILE gets the
address and both nodes' ids as JSON once they are up. It ends with its process.
"""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conftest import FACTOR
from tests.support.servers import running, wait_until

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

SMALL = {"object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.1"}
# By default Ray takes 127.0.0.1 for this machine's address in the network; the last one keeps it here.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}  # fmt: skip


@contextmanager
def cluster_within(
    place: Path, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[dict[str, str]]:
    """`address` of a cluster, ids of its nodes (`head`, `second`), until the block ends."""
    told = place / "cluster.json"
    environment = ENVIRONMENT | dict(env or {})
    arguments = (str(told), *options)
    with running(__name__, *arguments, log=place / "log", env=environment) as process:
        wait_until(lambda: told.exists() or process.poll() is not None, timeout_s=300.0 * FACTOR)
        assert told.exists(), (place / "log").read_text()
        yield dict(json.loads(told.read_text()))


def main() -> None:
    """Start both nodes and wait for the end."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("--devices", action="store_true")
    asked = parser.parse_args()
    cluster, second = _started(devices=int(asked.devices))
    found = {
        "address": cluster.address, "head": cluster.head_node.node_id, "second": second.node_id,
    }  # fmt: skip
    temporary = asked.file.with_suffix(".tmp")
    temporary.write_text(json.dumps(found))
    temporary.rename(asked.file)
    signal.pause()


def _started(*, devices: int, attempts: int = 5) -> tuple[Cluster, Any]:
    """The cluster and its second node; Ray gives a node 30 s to start, which a busy machine exceeds."""
    from ray.cluster_utils import Cluster

    each = {**SMALL, "num_gpus": devices}
    while True:
        cluster = Cluster()
        try:
            cluster.add_node(**each, num_cpus=devices, include_dashboard=False)
            second = cluster.add_node(**each, num_cpus=1, resources={"compress": 1})
            cluster.wait_for_nodes(timeout=120)
        except Exception:  # it raises no other
            cluster.shutdown()
            attempts -= 1
            if attempts == 0:
                raise
        else:
            return cluster, second


if __name__ == "__main__":
    main()
