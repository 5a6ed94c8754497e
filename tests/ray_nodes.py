"""Three Ray nodes on this machine, as a process of its own: a head without CPUs, a node of CPUs, a node with a fake GPU.

Prints one line of JSON, the addresses, and then does what it reads: `kill cpu` or `kill gpu` ends the processes of that
node at once; the end of its input ends the cluster.
"""

import json
import os
import sys

from ray.cluster_utils import Cluster

MEGABYTE = 1 << 20


def main() -> None:
    cluster = Cluster()
    head = {"num_cpus": 0, "include_dashboard": True}
    head |= {"dashboard_port": int(sys.argv[1]), "dashboard_agent_listen_port": int(sys.argv[2])}
    cluster.add_node(object_store_memory=100 * MEGABYTE, **head)
    nodes = {
        "cpu": cluster.add_node(num_cpus=2, object_store_memory=200 * MEGABYTE),
        "gpu": cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=200 * MEGABYTE),
    }
    described = {name: node.node_id for name, node in nodes.items()}
    print(json.dumps({"address": cluster.address, "dashboard": cluster.webui_url, "nodes": described}), flush=True)
    for line in sys.stdin:
        word, name = line.split()
        if word == "kill":
            cluster.remove_node(nodes[name], allow_graceful=False)
            print(json.dumps({"killed": name}), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    os.environ.pop("RAY_ADDRESS", None)
    main()
