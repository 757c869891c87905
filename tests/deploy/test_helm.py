"""The Helm chart: what it installs is valid, and runs as it should."""

import copy
import tomllib

import pytest
import yaml
from helm_python import Chart, chart
from helm_python.errors import HelmError

from manifests import BINARY, CHART, DEPLOY, ROUTES, assert_restricted, assert_valid, helm
from manifests import helm_notes, only, run

EVERYTHING = {
    "routes": {
        "redis": {"port": 6379, "upstream": "redis://a:6379;redis://b:6379", "protocol": "redis"},
        "a-broker-with-a-long-name": {"port": 5672, "upstream": "amqp://rabbitmq:5672"},
    },
    "config": {
        "policy": {"mode": "observe", "tracestate": False},
        "limits": {"connections_max": 5000, "hold_bytes_max": "2MiB"},
        "rollout": {"queues_allow": ["mail", 'a "quoted" <queue>'], "inject_ratio": 0.25},
        "telemetry": {"sampler": "parentbased_traceidratio 0.1"},
        "log": {"format": "json"},
    },
    "image": {"digest": "sha256:" + "0" * 64},
    "otlp": {"endpoint": "https://c:4318", "resourceAttributes": {"deployment.environment": "x"}},
    "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_HEADERS",
                  "valueFrom": {"secretKeyRef": {"name": "otlp", "key": "headers"}}}],
    "extraEnvFrom": [{"secretRef": {"name": "more"}}],
    "secretMounts": [{"secretName": "broker-tls", "mountPath": "/etc/tracehop-tls"}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
    "imagePullSecrets": [{"name": "registry"}],
    "admin": {"tokenSecret": {"name": "admin", "key": "token"}},
    "service": {"name": "broker", "annotations": {"a": "b"}},
    "metrics": {name: {"enabled": True} for name in
                ("podMonitor", "serviceMonitor", "prometheusRule", "dashboard")},
    "networkPolicy": {
        "clients": [{"podSelector": {"matchLabels": {"celery": "yes"}}}],
        "scrapers": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "egress": [{"ports": [{"port": 6379}]}],
    },
    "autoscaling": {"enabled": True},
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "x"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "topologySpreadConstraints": [
        {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    ],
}


def pod_of(manifests):
    return only(manifests, "Deployment")["spec"]["template"]["spec"]


def config_of(manifests):
    maps = [each for each in manifests if "proxy.toml" in each.get("data", {})]
    assert len(maps) == 1
    return maps[0]["data"]["proxy.toml"]


def test_helm_finds_no_fault():
    report = chart.lint(CHART, strict=True)
    assert report["errors"] == []
    # An icon is all that it misses.
    assert [each["error"] for each in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])
def test_what_is_installed_is_valid_and_restricted(values):
    manifests = helm(**values)
    assert_valid(manifests)
    assert_restricted(pod_of(manifests))
    for manifest in manifests:
        assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == "tracehop"


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])
def test_tracehop_takes_the_configuration(tmp_path, values):
    place = tmp_path / "proxy.toml"
    # Where the Secret is mounted there is nothing here.
    (tmp_path / "token").write_text("a-token-that-nobody-can-guess\n")
    text = config_of(helm(**values)).replace("/etc/tracehop-admin", str(tmp_path))
    place.write_text(text)
    done = run(BINARY, "check", "--config", place)
    assert done.returncode == 0, place.read_text() + done.stderr
    if values:
        for line in ['mode = "observe"', "connections_max = 5000", "inject_ratio = 0.25",
                     'listen = "0.0.0.0:5672"', """'a "quoted" <queue>'"""]:
            assert line in done.stdout, done.stdout


def test_every_key_of_the_example_can_be_a_value(tmp_path):
    example = tomllib.loads((CHART.parents[2] / "proxy.toml").read_text())
    routes = example.pop("routes")
    for section, key in (("admin", "listen"), ("admin", "token_file"), ("telemetry", "flush_grace")):
        del example[section][key]
    del example["drain_grace"]
    settings = {key: value for key, value in routes["redis"].items()
                if key not in ("listen", "upstream", "protocol")}
    values = {"config": example,
              "routes": {"redis": {"port": 6379, "upstream": "redis://r:6379", "settings": settings}}}
    place = tmp_path / "proxy.toml"
    place.write_text(config_of(helm(**values)))
    done = run(BINARY, "check", "--config", place)
    assert done.returncode == 0, place.read_text() + done.stderr


def memory_limit(**values):
    return pod_of(helm(**values))["containers"][0]["resources"]["limits"]["memory"]


def test_the_limit_for_memory_follows_from_the_settings():
    assert memory_limit() == "1221Mi"
    limits = {"connections_max": 1024, "hold_total_bytes_max": "64MiB",
              "buffer_total_bytes_max": 32 << 20, "open_hops_max": 10240, "memory_max": 40960,
              "sightings_max": 10240, "recent_tasks_max": 1024}
    # 64 and 64 + 32; 24 KiB for each connection; 1 KiB for each hop, sighting and task, and a
    # quarter for what is remembered.
    assert memory_limit(config={"limits": limits}) == f"{64 + 64 + 32 + 24 + 20 + 10 + 10 + 1}Mi"
    tls = {"redis": {"port": 6379, "upstream": "rediss://r:6379"}}
    assert memory_limit(config={"limits": limits}, routes=tls) == "265Mi"


def test_the_limits_that_the_chart_counts_with_are_those_of_the_example():
    example = tomllib.loads((CHART.parents[2] / "proxy.toml").read_text())["limits"]
    text = (CHART / "templates/_memory.tpl").read_text()
    _, _, defaults = text.partition('define "tracehop.defaultLimits" -}}')
    for key, value in yaml.safe_load(defaults.partition("{{")[0]).items():
        assert example[key] == value, key


@pytest.mark.parametrize("memory", ["512Mi", "1220Mi", "1.1Gi", "1G", 1000])
def test_a_limit_for_memory_below_what_the_settings_allow_is_refused(memory):
    with pytest.raises(HelmError, match="less than the 1221Mi that the settings allow"):
        helm(resources={"limits": {"memory": memory}})


def test_a_limit_for_memory_that_is_enough_stays_as_it_is():
    assert memory_limit(resources={"limits": {"memory": "2Gi"}}) == "2Gi"


def test_the_pod_has_time_to_end():
    pod = pod_of(helm(drainGraceSeconds=60, flushGraceSeconds=7, preStopSleepSeconds=3))
    assert pod["terminationGracePeriodSeconds"] >= 60 + 7 + 3
    assert 'drain_grace = "60s"' in config_of(helm(drainGraceSeconds=60))


def test_a_changed_configuration_starts_new_pods():
    def annotations(**values):
        return only(helm(**values), "Deployment")["spec"]["template"]["metadata"]["annotations"]

    observing = annotations(config={"policy": {"mode": "observe"}})
    assert annotations() == annotations() != observing


def test_the_service_leads_to_the_pods_by_the_name_that_was_asked_for():
    manifests = helm(**EVERYTHING)
    service = next(each for each in manifests if each["metadata"]["name"] == "broker")
    template = only(manifests, "Deployment")["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for port in
             template["spec"]["containers"][0]["ports"]}
    for port in service["spec"]["ports"]:
        assert ports[port["targetPort"]] == port["port"]
    # Nobody but who is told to comes to the admin port.
    assert "admin" not in [port["name"] for port in service["spec"]["ports"]]


def test_the_admin_port_is_open_to_nobody_until_scrapers_are_named():
    def ports(**values):
        ingress = only(helm(**values), "NetworkPolicy")["spec"]["ingress"]
        return [port["port"] for rule in ingress for port in rule["ports"]]

    assert ports() == ["redis"]
    assert ports(networkPolicy={"scrapers": [{"podSelector": {}}]}) == ["redis", "admin"]
    assert "networkPolicy.scrapers" in helm_notes(metrics={"podMonitor": {"enabled": True}})


def test_the_token_is_mounted_where_it_is_looked_for_and_prometheus_has_it():
    manifests = helm(**EVERYTHING)
    assert 'token_file = "/etc/tracehop-admin/token"' in config_of(manifests)
    pod = pod_of(manifests)
    (volume,) = [each for each in pod["volumes"] if each["name"] == "admin-token"]
    assert volume["secret"]["secretName"] == "admin"
    (mount,) = [each for each in pod["containers"][0]["volumeMounts"]
                if each["name"] == "admin-token"]
    assert mount["mountPath"] == "/etc/tracehop-admin"
    (endpoint,) = only(manifests, "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"] == {"credentials": {"name": "admin", "key": "token"}}


def test_alerts_and_dashboard_come_along_as_they_are():
    manifests = helm(**EVERYTHING)
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())
    assert only(manifests, "PrometheusRule")["spec"] == rules
    dashboard = next(each for each in manifests if each["metadata"]["name"].endswith("-dashboard"))
    assert dashboard["data"]["tracehop.json"].strip() == (
        DEPLOY / "grafana/dashboard.json").read_text().strip()


def test_without_a_broker_nothing_is_installed():
    with pytest.raises(HelmError, match="routes: there is none; name a broker"):
        helm(routes={})


@pytest.mark.parametrize(
    "path, value",
    [
        ("replicas", "two"),
        ("replicaCount", 2),
        ("routes.redis.upstream", "redis"),
        ("routes.redis.port", 0),
        ("routes.Redis", {"port": 1, "upstream": "redis://r"}),
        ("routes.redis.settings", {"listen": ":1"}),
        ("config.policy", "observe"),
        ("config.routes", {}),
        ("config.admin", {"listen": ":1"}),
        ("config.admin", {"token_file": {}}),
        ("otlp.protocol", "http/json"),
        ("image.digest", "latest"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_installed(path, value):
    with Chart.load(CHART) as loaded:
        values = loaded.values | {"routes": copy.deepcopy(ROUTES)}
        loaded.validate_schema(values)
        *folders, key = path.split(".")
        place = values
        for folder in folders:
            place = place[folder]
        place[key] = value
        with pytest.raises(HelmError):
            loaded.validate_schema(values)
