"""Receives spans over OTLP and prints each trace as a tree of tasks.

    watch.py ENDPOINT_FILE [--once]

The endpoint is written to the file. With --once it ends with the traces of the demo, one for
each broker: exit code 0 when they are those expected, 1 with a reason otherwise.
"""

import sys
import time
from pathlib import Path

from otlp import Receiver

BROKERS = ("redis", "rabbitmq")
# Every message of the demo's order: task and attempt, and the message it follows from.
EXPECTED = [
    (("shop.validate", 0), None),
    (("shop.charge", 0), ("shop.validate", 0)),
    (("shop.charge", 1), ("shop.charge", 0)),
    (("shop.pack", 0), ("shop.charge", 1)),
    (("shop.pack", 0), ("shop.charge", 1)),
    (("shop.ship", 0), ("shop.pack", 0)),
    (("shop.notify", 0), ("shop.ship", 0)),
]
# What each of them is told by.
LEGS = ("send", "receive", "process")
PATIENCE = 90.0  # seconds from the start
SETTLED = 1.0  # seconds in which a span too many would come, or one more of a trace


class Message:
    """One attempt of a task: its spans, by leg."""

    def __init__(self, spans):
        self.legs = {span.name.split(" ")[0]: span for span in spans}
        self.parent_id = self.legs["send"].parent_id if "send" in self.legs else ""
        self.span_ids = {span.span_id for span in spans}
        said = spans[0].attributes
        self.name = said["celery.task_name"], said["celery.retries"]
        self.start = min(span.start for span in spans)

    def title(self):
        task, retries = self.name
        return f"{task} (retry {retries})" if retries else task

    def times(self):
        """How long it waited in the queue and at the worker, and how long it ran."""
        if not {"receive", "process"} <= self.legs.keys():
            return ""
        receive, process = self.legs["receive"].attributes, self.legs["process"]
        times = [("waited", receive.get("tracehop.dwell_ms", 0))]
        eta, prefetch = receive.get("tracehop.eta_wait_ms", 0), receive.get("tracehop.prefetch_ms", 0)
        times += [("until its eta", eta)] if eta else []
        times += [("prefetched", prefetch)]
        times += [("ran", max(0, round((process.end - process.start) / 1e6) - eta - prefetch))]
        state = process.attributes["celery.state"]
        return ", ".join(f"{what} {time} ms" for what, time in times) + f": {state}"


def messages(spans):
    """The messages of a trace."""
    by_message = {}
    for span in spans:
        said = span.attributes
        key = said["messaging.message.id"], said["celery.retries"]
        by_message.setdefault(key, []).append(span)
    found = [Message(members) for members in by_message.values()]
    return sorted(found, key=lambda message: message.start)


def parent_of(message, others):
    return next((other for other in others if message.parent_id in other.span_ids), None)


def print_tree(trace_id, spans):
    print(f"\ntrace {trace_id}, through {spans[0].attributes['messaging.system']}")
    found = messages(spans)
    for message in found:
        if not parent_of(message, found):
            print_branch(message, found, "", "")
    print(flush=True)


def print_branch(message, others, first, rest):
    print(f"{first + message.title():<44}{message.times()}")
    children = [other for other in others if parent_of(other, others) is message]
    for child in children:
        last = child is children[-1]
        print_branch(
            child, others, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  ")
        )


def complaint(spans):
    """What is wrong with the spans of one broker; nothing when they are as expected."""
    traces = {span.trace_id for span in spans}
    if len(traces) != 1:
        return f"they make {len(traces)} traces, not one"
    found = messages(spans)
    for message in found:
        if message.legs.keys() != set(LEGS):
            return f"of {message.title()} there is only {', '.join(message.legs)}"
    parents = [(message, parent_of(message, found)) for message in found]
    names = sorted(
        ((message.name, parent and parent.name) for message, parent in parents), key=str
    )
    if names != sorted(EXPECTED, key=str):
        return f"messages and their parents are {names}, not {EXPECTED}"
    return None


def traces(spans):
    by_trace = {}
    for span in spans:
        by_trace.setdefault(span.trace_id, []).append(span)
    return by_trace


def once(receiver):
    expected = len(EXPECTED) * len(LEGS) * len(BROKERS)
    receiver.wait(lambda spans: len(spans) >= expected, PATIENCE)
    time.sleep(SETTLED)
    spans = receiver.spans()
    for trace_id, members in traces(spans).items():
        print_tree(trace_id, members)
    for broker in BROKERS:
        mine = [span for span in spans if span.attributes["messaging.system"] == broker]
        reason = complaint(mine) if mine else f"no span came within {PATIENCE:g} s"
        if reason:
            sys.exit(f"Through {broker} this is not the trace it should be: {reason}")
        print(f"One trace through {broker}, {len(mine)} spans, from an app without tracing.")


def follow(receiver):
    """Prints every trace, again when spans were added to it."""
    printed = {}
    while True:
        now = time.time_ns()
        for trace_id, members in traces(receiver.spans()).items():
            settled = now - max(span.end for span in members) > SETTLED * 1e9
            if settled and printed.get(trace_id) != len(members):
                print_tree(trace_id, members)
                printed[trace_id] = len(members)
        time.sleep(0.2)


def main():
    receiver = Receiver()
    place = Path(sys.argv[1])
    place.with_suffix(".new").write_text(receiver.endpoint)
    place.with_suffix(".new").rename(place)
    (once if "--once" in sys.argv else follow)(receiver)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
