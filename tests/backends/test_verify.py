"""Traces of real Celery in a real Jaeger: `verify` tells where they are joined, and Jaeger finds
nothing wrong with them."""

import json
import os
import subprocess

import pytest

from harness import BINARY, eventually
from jaeger import Jaeger, faults
from stage import Mode, Stage

MODES = [Mode(producer, worker) for producer in (True, False) for worker in (True, False)]
# Each with how often its tasks run.
FLOWS = {"delay": 1, "countdown": 1, "retry": 3, "chain_of_three": 3, "custom_header": 1}


@pytest.fixture(scope="module")
def jaeger(tmp_path_factory):
    with Jaeger(tmp_path_factory.mktemp("jaeger")) as jaeger:
        yield jaeger


@pytest.fixture(scope="module")
def stage(tmp_path_factory, broker, jaeger):
    name = f"tracehop-{broker.system}"
    directory = tmp_path_factory.mktemp(broker.system)
    with Stage(directory, broker, endpoint=jaeger.http, OTEL_SERVICE_NAME=name) as stage:
        # The apps' own spans go there, too.
        stage.receiver.endpoint = jaeger.http
        yield stage


def verify(jaeger, stage, task_id):
    command = [BINARY, "verify", "--json", "--task", task_id]
    command += ["--jaeger", jaeger.query, "--service", f"tracehop-{stage.server.system}"]
    env = {"PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_verify_tells_what_is_joined(jaeger, stage, mode):
    journey = stage.play("delay", mode, 1, recorded=False)
    expected = [mode.producer, True, mode.worker]
    code = 0 if all(expected) else 1

    def is_told():
        found, told = verify(jaeger, stage, journey.id)
        if found != code:
            return False
        links = [link["joined"] for chain in told["messages"] for link in chain["links"]]
        return links == expected

    eventually(is_told, f"verify says {expected}")


@pytest.mark.parametrize("flow", FLOWS)
def test_jaeger_warns_of_no_span(jaeger, stage, flow):
    for mode in MODES:
        stage.play(flow, mode, FLOWS[flow], recorded=False)
    waiting = ["open_hops", "open_deliveries", "sightings_queued", "spans_queued"]
    counted = lambda name: stage.hop.metric(f"tracehop_{name}")  # noqa: E731
    eventually(lambda: not any(map(counted, waiting)), "all spans are exported")
    spans = jaeger.spans(f"tracehop-{stage.server.system}")
    assert len(spans) == counted("spans_exported_total") > 0
    assert faults(spans) == []
