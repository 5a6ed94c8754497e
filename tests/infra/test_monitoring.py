"""The dashboard asks for metrics that exist, and Prometheus scrapes what exports them."""

import json
import re
from pathlib import Path
from typing import Any

import ray.dashboard.modules.metrics

from infra.manifests import INFRA, cluster_spec, document

DASHBOARD = json.loads((INFRA / "grafana/dashboard.json").read_text(encoding="utf-8"))
OURS = json.loads((INFRA / "grafana/metrics.json").read_text(encoding="utf-8"))
METRIC = re.compile(r"\bray_\w+")


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def test_our_metrics_are_listed_once_with_prometheus_names() -> None:
    names = [one["name"] for one in OURS["metrics"]]
    assert len(set(names)) == len(names)
    for one in OURS["metrics"]:
        assert re.fullmatch(r"clipmill_[a-z_]+", one["name"])
        assert one["kind"] in ("counter", "gauge")
        assert one["name"].endswith("_total") == (one["kind"] == "counter"), one["name"]
        assert one["help"].endswith(".")


def test_the_dashboard_shows_every_metric_of_ours() -> None:
    shown = {name for expression in expressions() for name in METRIC.findall(expression)}
    assert shown >= {OURS["prefix"] + one["name"] for one in OURS["metrics"]}


def test_the_dashboard_asks_for_nothing_that_is_not_exported() -> None:
    known = {OURS["prefix"] + one["name"] for one in OURS["metrics"]}
    for file in Path(ray.dashboard.modules.metrics.__file__).parent.glob("dashboards/*_panels.py"):
        known |= set(METRIC.findall(file.read_text(encoding="utf-8")))
    asked = {name for expression in expressions() for name in METRIC.findall(expression)}
    asked |= set(METRIC.findall(json.dumps(DASHBOARD["templating"])))
    assert asked <= known


def test_labels_of_our_metrics_are_those_that_they_have() -> None:
    labels = {OURS["prefix"] + one["name"]: set(one["labels"]) for one in OURS["metrics"]}
    for panel in panels():
        for target in panel["targets"]:
            asked = set(METRIC.findall(target["expr"])) & labels.keys()
            grouped = re.findall(r"by \(([\w, ]+)\)", target["expr"])
            for name in asked:
                assert {label for group in grouped for label in re.findall(r"\w+", group)} <= labels[name], name
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown <= {label for group in grouped for label in re.findall(r"\w+", group)}, target


def test_counters_are_shown_as_rates_and_gauges_as_they_are() -> None:
    for one in OURS["metrics"]:
        name = OURS["prefix"] + one["name"]
        for expression in (text for text in expressions() if name in text):
            assert bool(re.search(rf"(rate|increase)\({name}\b", expression)) == (one["kind"] == "counter"), expression


def test_the_dashboard_can_be_imported() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["uid"] == "clipmill"
    everything = DASHBOARD["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    taken = set()
    for panel in everything:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(everything))) - {"__range"}
    assert used == variables
    for text in expressions():
        assert all(text.count(left) == text.count(right) for left, right in ("()", "{}", "[]")), text


def test_prometheus_scrapes_the_ports_that_clusters_export_on() -> None:
    spec = cluster_spec("kuberay/cluster.yaml")
    (container,) = spec["headGroupSpec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["metrics"] == 8080  # where KubeRay starts Ray's exporter, and the name that it gives workers' ports
    (endpoint,) = document("prometheus/podmonitor.yaml")["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"
    (job,) = document("prometheus/kubernetes.yml")["scrape_configs"]
    kept = [rule for rule in job["relabel_configs"] if rule.get("action") == "keep"]
    assert [rule["regex"] for rule in kept] == ["yes;metrics"]
    namespace = document("kuberay/cluster.yaml")["metadata"]["namespace"]
    assert job["kubernetes_sd_configs"] == [{"role": "pod", "namespaces": {"names": [namespace]}}]
    started = document("aws/cluster.yaml")
    for line in (started["head_start_ray_commands"][-1], started["worker_start_ray_commands"][-1]):
        assert "--metrics-export-port=8080" in line


def test_prometheus_on_a_head_reads_the_list_that_ray_writes() -> None:
    (job,) = document("prometheus/machines.yml")["scrape_configs"]
    shipped = Path(ray.dashboard.modules.metrics.__file__).parent / "export/prometheus/prometheus.yml"
    (files,) = [config["files"] for config in job["file_sd_configs"]]
    assert files[0] in shipped.read_text(encoding="utf-8")
