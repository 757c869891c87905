"""A producer: reads orders from standard input, a JSON object a line, and answers alike.

An order names one of the flows below and a tag, which is an argument of every task and by
which their runs are found; and, if it is not the app's own, the queue. The answer holds the id,
what the flow came to, and when it was asked for and had been published.
"""

import json
import sys
import time
import uuid

from celery import chain, chord, group
from celery.exceptions import ChordError, TaskRevokedError
from kombu.common import Broadcast

from tasks import (
    QUEUE,
    add,
    app,
    copying,
    failing,
    flaky,
    gate,
    held,
    parent,
    picky,
    replaced,
    slow_flaky,
    tally,
    told,
    total,
    unwanted,
)
from tracing import span, start_tracing


def delay(tag):
    return add.delay(1, 2, tag=tag)


def countdown(tag, seconds=0.3):
    return add.apply_async((1, 2), {"tag": tag}, countdown=seconds)


def custom_header(tag):
    return add.apply_async((1, 2), {"tag": tag}, headers={"tenant": "Zürich"})


def broken_context(tag):
    """As a sender writes it that formats ids in upper case."""
    context = "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01"
    return add.apply_async((1, 2), {"tag": tag}, headers={"traceparent": context})


def with_headers(tag, headers):
    return add.apply_async((1, 2), {"tag": tag}, headers=headers)


def copied_headers(tag, seconds, to):
    return copying.delay(tag=tag, seconds=seconds, queue=to)


def slow_retry(tag, seconds):
    return slow_flaky.delay(tag=tag, seconds=seconds)


def chosen_id(tag, task_id):
    return add.apply_async((1, 2), {"tag": tag}, task_id=task_id)


def compressed_pickle(tag):
    return add.apply_async((1, 2), {"tag": tag}, serializer="pickle", compression="gzip")


def retry(tag):
    return flaky.delay(2, tag=tag)


def retry_in_a_second(tag):
    """RabbitMQ's own delays, with quorum queues, are whole seconds."""
    return flaky.delay(1, tag=tag, countdown=1)


def chain_of_three(tag):
    return chain(add.s(1, 2, tag=tag), add.s(3, tag=tag), add.s(4, tag=tag))()


def chain_with_retry(tag):
    return chain(add.s(0, 1, tag=tag), flaky.s(tag=tag, countdown=1), add.s(1, tag=tag))()


def group_of_three(tag):
    return group(add.s(n, 0, tag=tag) for n in (1, 2, 3))()


def chord_of_two(tag):
    return chord([add.s(1, 2, tag=tag), add.s(3, 4, tag=tag)])(total.s(tag=tag))


def polled_chord(tag):
    body = tally.s(tag=tag)
    return chord([add.s(1, 2, tag=tag), add.s(3, 4, tag=tag)])(body, countdown=0, interval=0.1)


def chain_with_group(tag):
    return chain(add.s(1, 2, tag=tag), group(add.s(1, tag=tag), add.s(2, tag=tag)), total.s(tag=tag))()


def subtask(tag):
    return parent.delay(5, tag=tag)


def replace(tag):
    return replaced.delay(5, tag=tag)


def link(tag):
    return add.apply_async((1, 2), {"tag": tag}, link=add.s(10, tag=tag))


def link_error(tag):
    return failing.apply_async((), {"tag": tag}, link_error=told.s())


def priorities(tag):
    """One message in each of Redis' four lists."""
    return group(add.s(p, 0, tag=tag).set(priority=p) for p in (0, 3, 6, 9))()


def requeue(tag):
    return picky.delay(tag=tag)


def linger(tag):
    return gate.delay(tag=tag)


def revoked(tag, host):
    """A task that its worker is told to forget before it comes."""
    task_id = str(uuid.uuid4())
    app.control.revoke(task_id, destination=[host], reply=True, limit=1, timeout=30)
    return add.apply_async((1, 2), {"tag": tag}, task_id=task_id)


def expired(tag):
    """A task that is too old when it comes. So told, RabbitMQ does not throw it away itself."""
    return add.apply_async((1, 2), {"tag": tag}, headers={"expires": "2020-01-01T00:00:00+00:00"})


def ignored(tag):
    return add.apply_async((1, 2), {"tag": tag}, ignore_result=True)


def reject(tag):
    return unwanted.delay(tag=tag)


def hold(tag):
    return held.delay(tag=tag)


def chain_after_a_gate(tag):
    return chain(gate.si(tag=tag), add.si(1, 2, tag=tag), add.s(3, tag=tag))()


def chain_after_a_countdown(tag, seconds):
    return chain(add.s(1, 2, tag=tag).set(countdown=seconds), add.s(3, tag=tag))()


def burst(tag, count):
    return group(add.s(n, 0, tag=tag) for n in range(count))()


def broadcast(tag, exchange):
    # Without a declaration kombu takes the exchange for a direct one.
    queue = Broadcast(exchange, routing_key="all")
    where = {"exchange": exchange, "exchange_type": "fanout", "routing_key": "all"}
    return add.apply_async((1, 2), {"tag": tag}, declare=[queue], **where)


def unroutable(tag):
    """A message that no queue takes, to be given back."""
    where = {"exchange": "amq.direct", "exchange_type": "direct", "routing_key": "nowhere"}
    return add.apply_async((1, 2), {"tag": tag}, mandatory=True, retry=False, **where)


def outcome(result):
    """What a flow came to; of a task that fails, the name of its error."""
    try:
        return result.get(timeout=60)
    except (ValueError, ChordError, TaskRevokedError) as error:
        return type(error).__name__


def obey(order):
    flow = globals()[order.pop("flow")]
    wait = order.pop("wait", True)
    app.conf.task_default_queue = order.pop("queue", QUEUE)
    asked_at = time.time()
    with span("request"):
        result = flow(**order)
    times = {"asked_at": asked_at, "published_at": time.time()}
    return times | {"id": result.id, "value": outcome(result) if wait else None}


def main():
    start_tracing("producer")
    for line in sys.stdin:
        try:
            answer = obey(json.loads(line))
        except Exception as error:  # the test shall see it, whatever it is
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
