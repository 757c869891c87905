"""The Celery app under test. What it shall do comes from the environment:

BROKER   where it believes the broker to be: the proxy, or the broker itself
RESULTS  the result backend
REDIS    Redis itself: what a task did is noted there, past the proxy
QUEUE    where it publishes to and takes its tasks from
TRACING  the OTLP endpoint of an instrumented app; empty for one without any tracing
SETTINGS more Celery settings, as JSON
BROADCAST  the exchange of a broadcast queue to listen to, if any
"""

import json
import os
import time

import redis
from celery import Celery
from celery.exceptions import Reject
from celery.signals import task_prerun, worker_process_init, worker_ready
from kombu import Queue
from kombu.common import Broadcast

from tracing import start_tracing

NOTES = redis.Redis.from_url(os.environ["REDIS"], decode_responses=True)
QUEUE = os.environ["QUEUE"]

app = Celery("tests", broker=os.environ["BROKER"], backend=os.environ["RESULTS"])
app.loader.override_backends = {"redis": "polling:PollingBackend"}
app.conf.update(
    task_default_queue=QUEUE,
    broker_connection_retry_on_startup=True,
    accept_content=["json", "pickle"],
)
app.conf.update(json.loads(os.environ.get("SETTINGS", "{}")))
if os.environ.get("BROADCAST"):
    app.conf.task_queues = [Queue(QUEUE), Broadcast(os.environ["BROADCAST"], routing_key="all")]


@worker_process_init.connect
def trace_pool_child(**_):
    start_tracing("worker")


@task_prerun.connect
def note_looking(task, args, **_):
    """Notes Celery's own task that waits for a group, where the result backend does not."""
    if task.name == "celery.chord_unlock":
        group_id, callback = args[:2]
        note(task, callback["kwargs"]["tag"], ends=None, awaited=group_id)


@worker_ready.connect
def tell_ready(sender, **_):
    NOTES.rpush(f"ready:{sender.hostname}", "ready")


def note(task, tag, ends="succeeded", awaited=None):
    """Notes that `task` runs, how that is going to end, and what its message said of it."""
    request = task.request
    facts = {
        "at": time.time(),
        "ends": ends,
        "awaited": awaited,
        "task": task.name,
        "id": request.id,
        "root_id": getattr(request, "root_id", None),
        "parent_id": getattr(request, "parent_id", None),
        "group": request.group,
        "eta": request.eta,
        "retries": request.retries,
        "queue": QUEUE,
        "pid": os.getpid(),
        "tenant": getattr(request, "tenant", None),
        "traceparent": getattr(request, "traceparent", None),
        "tracestate": getattr(request, "tracestate", None),
    }
    NOTES.rpush(f"runs:{tag}", json.dumps(facts))


@app.task(bind=True, name="add")
def add(self, x, y, tag):
    note(self, tag)
    return x + y


@app.task(bind=True, name="total")
def total(self, numbers, tag):
    note(self, tag)
    return sum(numbers)


@app.task(bind=True, name="tally")
def tally(self, numbers, tag):
    """What a chord ends with for whose members Celery waits by looking again and again."""
    note(self, tag)
    return sum(numbers)


@app.task(bind=True, name="flaky", max_retries=3)
def flaky(self, failures, tag, countdown=0.1):
    fails = self.request.retries < failures
    note(self, tag, ends="retried" if fails else "succeeded")
    if fails:
        raise self.retry(countdown=countdown)
    return self.request.retries


@app.task(bind=True, name="parent")
def parent(self, x, tag):
    note(self, tag)
    add.delay(x, 1, tag=tag)
    return x


@app.task(bind=True, name="copying")
def copying(self, tag, seconds, queue):
    """Calls another task with its own headers, after a while."""
    note(self, tag)
    time.sleep(seconds)
    add.apply_async((1, 2), {"tag": tag}, queue=queue, headers=self.request.headers)


@app.task(bind=True, name="slow_flaky", max_retries=1)
def slow_flaky(self, tag, seconds):
    """Fails once, after a while."""
    fails = not self.request.retries
    note(self, tag, ends="retried" if fails else "succeeded")
    if fails:
        time.sleep(seconds)
        raise self.retry(countdown=0)


@app.task(bind=True, name="replaced")
def replaced(self, x, tag):
    note(self, tag, ends="retried")
    raise self.replace(add.s(x, 1, tag=tag))


@app.task(bind=True, name="picky", acks_late=True)
def picky(self, tag):
    """Sends its message back to the queue once."""
    again = self.request.delivery_info["redelivered"]
    note(self, tag, ends="succeeded" if again else "unknown")
    if not again:
        raise Reject("later", requeue=True)
    return "taken"


@app.task(bind=True, name="held", acks_late=True)
def held(self, tag):
    """Ends when it is released."""
    note(self, tag)
    return released(tag)


@app.task(bind=True, name="gate")
def gate(self, tag):
    """The same, and its message is acknowledged when it begins."""
    note(self, tag)
    return released(tag)


def released(tag):
    while not NOTES.exists(f"release:{tag}"):
        time.sleep(0.02)
    return "released"


@app.task(bind=True, name="unwanted", acks_late=True)
def unwanted(self, tag):
    note(self, tag, ends="failed")
    raise Reject("never", requeue=False)


@app.task(bind=True, name="failing")
def failing(self, tag):
    note(self, tag, ends="failed")
    NOTES.set(f"tag:{self.request.id}", tag)
    raise ValueError("as ordered")


@app.task(bind=True, name="told")
def told(self, failed_id):
    """A callback for a failure. With this one argument it is sent as a message."""
    note(self, NOTES.get(f"tag:{failed_id}"))


@app.task(name="tick")
def tick():
    """What beat fires."""
    NOTES.rpush("ticks", "tick")


@app.task(bind=True, name="count", ignore_result=True)
def count(self, key):
    """The shortest task there is, for load."""
    with NOTES.pipeline() as notes:
        notes.incr(key).sadd(f"{key}-ids", self.request.id).execute()
