"""What runs tracehop without Kubernetes: the image, Compose, systemd. And the alerts."""

import json
import re

import yaml
from compose_spec import PyCompose

from manifests import BINARY, DEPLOY, ROOT, run


def test_prometheus_takes_the_alerts_and_they_fire_when_they_should():
    place = DEPLOY / "prometheus"
    tests = sorted(place.glob("*.test.yaml"))
    assert tests
    for command in (["check", "rules", place / "alerts.yaml"], ["test", "rules", *tests]):
        done = run("promtool", *command)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_says_what_to_do():
    alerts = (DEPLOY / "prometheus/alerts.yaml").read_text()
    tests = (DEPLOY / "prometheus").glob("*.test.yaml")
    tested = "".join(test.read_text() for test in tests)
    names = re.findall(r"- alert: (\w+)", alerts)
    assert names
    for name in names:
        assert f'alertname="{name}"' in tested, name
    assert alerts.count("summary:") == alerts.count("description:") == len(names)


def test_prometheus_can_read_every_query_of_the_dashboard(tmp_path):
    dashboard = json.loads((DEPLOY / "grafana/dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(queries) > 30
    variables = {each["name"] for each in dashboard["templating"]["list"]}
    rules = []
    for number, query in enumerate(queries):
        assert set(re.findall(r"\$(\w+)", query)) <= variables | {"__rate_interval"}, query
        query = query.replace("$__rate_interval", "5m")
        rules.append({"record": f"query_{number}", "expr": query})
    place = tmp_path / "queries.yaml"
    place.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    done = run("promtool", "check", "rules", place)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_panels_of_the_dashboard_stand_side_by_side():
    dashboard = json.loads((DEPLOY / "grafana/dashboard.json").read_text())
    taken = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_compose_is_by_the_specification_and_tracehop_takes_its_variables():
    text = json.dumps(yaml.safe_load((DEPLOY / "compose.yaml").read_text()))
    spec = PyCompose.from_json(text).to_spec()
    tracehop = spec.model_dump(mode="json", exclude_none=True)["services"]["tracehop"]
    done = run(BINARY, "check", env=tracehop["environment"])
    assert done.returncode == 0, done.stderr
    for line in ('upstream = "redis://redis:6379"', 'upstream = "amqp://rabbitmq:5672"'):
        assert line in done.stdout


def test_systemd_takes_the_unit_and_finds_little_that_it_may_do(tmp_path):
    unit = (DEPLOY / "systemd/tracehop.service").read_text()
    place = tmp_path / "tracehop.service"
    place.write_text(unit.replace("/usr/local/bin/tracehop", str(BINARY)))
    done = run("systemd-analyze", "verify", place)
    assert (done.returncode, done.stderr) == (0, "")
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=15", place)
    assert done.returncode == 0, done.stdout


def test_the_image_is_built_of_what_is_there():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--" not in line]
    sources = {source for line in copied for source in line}
    assert all((ROOT / source).exists() for source in sources)
    let_in = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert set(let_in) == {"*"} | {f"!{source}" for source in sources}
    # Kubernetes can tell that a number is not root.
    assert "USER 65532:65532" in lines
