"""What a pod sends to its broker comes to the sidecar, without a changed URL."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from manifests import BINARY, DEPLOY, assert_valid, kustomize, only, run

RULES = DEPLOY / "kustomize/transparent/redirect.nft"


@pytest.fixture
def shared():
    """A folder that every user can read."""
    place = Path("/tmp") / f"tracehop-{os.getpid()}"
    place.mkdir(mode=0o755)
    yield place
    shutil.rmtree(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are root's")
def test_the_rules_lead_apps_to_tracehop_and_tracehop_to_the_broker(shared):
    binary = shutil.copy(BINARY, shared)
    inside = Path(__file__).parent / "redirected.py"
    done = run("unshare", "--net", sys.executable, inside, binary, RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    # Had tracehop been led to itself, there would be more, and no answer.
    for line in ('tracehop_connections_failed_total{route="default",reason="broker_lost"} 0',
                 'tracehop_received_bytes_total{route="default",peer="broker"} 7'):
        assert line in done.stdout.splitlines(), done.stdout


def test_they_are_set_by_an_init_container_that_alone_may_do_so(tmp_path):
    for name in ("sidecar", "transparent", "example"):
        (tmp_path / name).symlink_to(DEPLOY / "kustomize" / name)
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({
        "resources": ["example"],
        "components": ["transparent"],
    }))
    manifests = kustomize(tmp_path)
    assert_valid(manifests)
    pod = only(manifests, "Deployment")["spec"]["template"]["spec"]
    containers = {each["name"]: each for each in [*pod["initContainers"], *pod["containers"]]}
    may = {name: each.get("securityContext", {}).get("capabilities", {}).get("add")
           for name, each in containers.items()}
    assert may == {"tracehop-redirect": ["NET_ADMIN"], "tracehop": None, "worker": None}
    # The rules know tracehop by its user.
    user = containers["tracehop"]["securityContext"]["runAsUser"]
    (rules,) = [each["data"]["redirect.nft"] for each in manifests
                if each["kind"] == "ConfigMap" and "redirect.nft" in each["data"]]
    assert f"meta skuid {user} return" in rules
