"""A Ray cluster of two nodes on the loopback interface: `python -m tests.support.ray_cluster FILE`.

The head takes no tasks; the second node has a CPU and the resource `compress`. FILE gets the address
and both nodes' ids as JSON once they are up. It ends with its process.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

SMALL = {"object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.1"}


def main(path: Path) -> None:
    """Start both nodes and wait for the end."""
    cluster, second = _started()
    found = {
        "address": cluster.address, "head": cluster.head_node.node_id, "second": second.node_id,
    }  # fmt: skip
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(found))
    temporary.rename(path)
    signal.pause()


def _started(attempts: int = 5) -> tuple[Cluster, Any]:
    """The cluster and its second node; Ray gives a node 30 s to start, which a busy machine exceeds."""
    while True:
        cluster = Cluster()
        try:
            cluster.add_node(**SMALL, num_cpus=0, include_dashboard=False)
            second = cluster.add_node(**SMALL, num_cpus=1, resources={"compress": 1})
            cluster.wait_for_nodes(timeout=120)
        except Exception:  # it raises no other
            cluster.shutdown()
            attempts -= 1
            if attempts == 0:
                raise
        else:
            return cluster, second


if __name__ == "__main__":
    main(Path(sys.argv[1]))
