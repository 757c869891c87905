"""Kubernetes manifests as the real tools make them of what is in deploy/: Helm's own library,
and kubectl's Kustomize."""

import json
import os
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import yaml
from helm_python import Chart

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/tracehop"
BINARY = Path(os.environ.get("HOP_BINARY", ROOT / "target/debug/tracehop"))
KUBECTL = Path(sys.executable).parent / "kubectl"
# The oldest that the chart allows, and the newest whose schemas there are.
VERSIONS = ["1.30", kubernetes_validate.latest_version()]


ROUTES = {"redis": {"port": 6379, "upstream": "redis://redis.default.svc:6379", "settings": {}}}


def helm(**values):
    """What the chart installs with these values and, if not told otherwise, one route."""
    rendered = render(values)
    manifests = [text for path, text in rendered.items() if not path.endswith("NOTES.txt")]
    return [each for text in manifests for each in yaml.safe_load_all(text) if each]


def helm_notes(**values):
    """What it tells whoever has installed it."""
    return next(text for path, text in render(values).items() if path.endswith("NOTES.txt"))


def render(values):
    with Chart.load(CHART) as chart:
        values = {"routes": ROUTES} | values
        return chart.render(values=values, name="tracehop", namespace="prod")


def kustomize(folder):
    """What `kubectl apply -k` would apply."""
    done = run(KUBECTL, "kustomize", folder)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def only(manifests, kind):
    found = [each for each in manifests if each["kind"] == kind]
    assert len(found) == 1, f"one {kind} expected, not {len(found)}"
    return found[0]


def run(*command, env=None):
    """A command without the settings of this machine."""
    clean = {"PATH": os.environ["PATH"]} | (env or {})
    return subprocess.run([str(word) for word in command], env=clean, capture_output=True, text=True)


def assert_valid(manifests):
    """By Kubernetes' own schemas, without a field too many; resources of operators aside."""
    assert manifests
    for manifest in manifests:
        if manifest["apiVersion"].startswith("monitoring.coreos.com/"):
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                shown = json.dumps(manifest, indent=1)
                raise AssertionError(f"{version}: {error.message} at {list(error.path)}\n{shown}")


def assert_restricted(pod):
    """By the rules of Pod Security's level `restricted`."""
    assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
    assert all("hostPath" not in volume for volume in pod.get("volumes", []))
    general = pod.get("securityContext", {})
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        context = general | container.get("securityContext", {})
        assert context["runAsNonRoot"] is True and context["runAsUser"] > 0
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert context["readOnlyRootFilesystem"] is True
        assert not context.get("privileged")
