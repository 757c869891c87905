"""What is not a task message passes, works, and is no hop: remote control, events, results."""

import subprocess

import pytest

from harness import APP, CLEAN, Process, Producer, Worker, eventually, python
from stage import Mode, legs, new_tag

PLAIN = Mode()
# A queue of its own: other workers, which send no events, would take its tasks.
OWN = {"QUEUE": "queue-watched"}


@pytest.fixture(scope="module")
def env(stage):
    env = stage.env(PLAIN, False, worker_send_task_events=True, task_send_sent_event=True)
    return env | OWN


@pytest.fixture(scope="module")
def watched(stage, env):
    """A worker that sends events, and a monitor that prints them."""
    command = [python(PLAIN.version), "-m", "celery", "-A", "tasks", "events", "--dump"]
    unbuffered = env | {"PYTHONUNBUFFERED": "1"}
    with Process("monitor", command, stage.directory, unbuffered, cwd=APP) as monitor:
        with Worker(stage.directory, "watched", stage.notes, env, options=["-E"]) as worker:
            worker.ready()
            yield worker, monitor


def celery(env, *words):
    """What `celery` prints when it is called so; it must succeed."""
    command = [python(PLAIN.version), "-m", "celery", "-A", "tasks", *words]
    done = subprocess.run(command, env=CLEAN | env, cwd=APP, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_remote_control_reaches_the_worker_and_its_answers_come_back(env, watched):
    worker, _ = watched
    assert f"{worker.host}: OK" in celery(env, "inspect", "ping", "-d", worker.host)
    assert f"{worker.host}: OK" in celery(env, "status")
    assert "new rate limit set successfully" in celery(env, "control", "rate_limit", "add", "1000/s")
    assert '"broker_url"' in celery(env, "inspect", "conf", "-d", worker.host, "-j")


def test_events_reach_the_monitor_and_only_the_task_is_a_hop(stage, env, watched):
    _, monitor = watched
    with Producer(stage.directory, "watched", env) as producer:
        answer = producer.order("retry", new_tag())
    for event in ("sent", "received", "started", "retried", "succeeded"):
        eventually(lambda: told(monitor, event, answer["id"]), f"the monitor prints {event}")
    ids = {answer["id"]}
    eventually(lambda: len(hops(stage, "send", ids)) == 3, "three attempts are sent: two retries")
    eventually(lambda: len(hops(stage, "receive", ids)) == 3, "… and received")


def told(monitor, event, task_id):
    lines = monitor.log.read_text().splitlines()
    return any(f"task {event}" in line.lower() and task_id in line for line in lines)


def test_every_firing_of_beat_is_a_trace_of_its_own(stage, env, watched):
    schedule = {"tick": {"task": "tick", "schedule": 0.2}}
    env = stage.env(PLAIN, False, beat_schedule=schedule, beat_max_loop_interval=0.2) | OWN
    place = stage.directory / "beat"
    command = [python(PLAIN.version), "-m", "celery", "-A", "tasks", "beat"]
    command += ["-s", place, "--pidfile="]
    with Process("beat", command, stage.directory, env, cwd=APP) as beat:
        eventually(lambda: stage.notes.client.llen("ticks") >= 3, "three ticks")
        assert beat.stop() == 0
    eventually(stage.server.idle, "all ticks are taken")

    def ticks():
        count = stage.notes.client.llen("ticks")
        return count, [s for s in hops(stage, "send") if s.attributes["celery.task_name"] == "tick"]

    eventually(lambda: len(ticks()[1]) >= ticks()[0], "a hop for each tick")
    count, spans = ticks()
    assert len(spans) == count == len({span.trace_id for span in spans})
    assert {span.parent_id for span in spans} == {""}


def test_nothing_but_task_messages_ever_became_a_hop(stage):
    names = {"add", "total", "tally", "flaky", "parent", "replaced", "picky", "failing", "told"}
    names |= {"tick", "celery.chord_unlock"}
    for leg in ("send", "receive"):
        assert {span.attributes["celery.task_name"] for span in hops(stage, leg)} <= names
    left = stage.hop.get("/metrics")
    assert stage.hop.metric("tracehop_blind_sessions_total") == 0, left


def hops(stage, leg, ids=None):
    return legs(stage.receiver.spans(), leg, ids)
