"""Tasks and signals that tell when a message was sent and when its worker had it, and a producer
of all that has ever made a proxy tell something else.

    measured.py TAG ROUNDS
"""

import json
import os
import sys
import time

from celery import Celery
from celery.signals import after_task_publish, before_task_publish, task_received

from tasks import NOTES, app, note


def tell(what, task_id, retries):
    facts = {"what": what, "id": task_id, "retries": retries or 0, "at": time.time()}
    NOTES.rpush("measured", json.dumps(facts))


@before_task_publish.connect
def before(headers, **_):
    tell("before", headers["id"], headers["retries"])


@after_task_publish.connect
def after(headers, **_):
    tell("after", headers["id"], headers["retries"])


@task_received.connect
def received(request, **_):
    # As soon as the consumer has it: neither its `eta` nor the pool have been waited for.
    tell("received", request.id, request.request_dict["retries"])


@app.task(bind=True, name="quick", ignore_result=True)
def quick(self, tag):
    note(self, tag)
    NOTES.incr(f"ran:{self.request.id}")


@app.task(bind=True, name="copies", ignore_result=True)
def copies(self, tag):
    """Hands all its headers on, its trace context among them, long after they were written."""
    note(self, tag)
    time.sleep(1)
    # What names the task is not the app's to hand on.
    kept = {"tenant", "traceparent", "tracestate"} & set(self.request.headers or {})
    headers = {key: self.request.headers[key] for key in kept}
    quick.apply_async((tag,), headers=headers)


@app.task(bind=True, name="wavers", max_retries=1, ignore_result=True)
def wavers(self, tag):
    note(self, tag)
    if self.request.retries == 0:
        raise self.retry(countdown=0.2)


def play_round(number, tag):
    quick.apply_async((tag,), headers={"tenant": "a"})
    wavers.delay(tag)
    copies.apply_async((tag,), headers={"tenant": "a"})
    for task_id in ("nightly-report", "4242"):
        # One after the other, so that it is known which one a worker has.
        while int(NOTES.get(f"ran:{task_id}") or 0) < number:
            time.sleep(0.02)
        quick.apply_async((tag,), task_id=task_id)
    with Celery(broker=os.environ["BROKER"]) as once:
        once.conf.task_default_queue = app.conf.task_default_queue
        once.send_task("quick", (tag,))


if __name__ == "__main__":
    for number in range(int(sys.argv[2])):
        play_round(number, sys.argv[1])
        time.sleep(0.3)
