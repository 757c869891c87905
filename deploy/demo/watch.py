"""Receives spans over OTLP and prints each trace as a tree.

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
EXPECTED = {
    ("shop.validate", 0): None,
    ("shop.charge", 0): ("shop.validate", 0),
    ("shop.charge", 1): ("shop.charge", 0),
    ("shop.ship", 0): ("shop.charge", 1),
    ("shop.notify", 0): ("shop.ship", 0),
}
PATIENCE = 90.0  # seconds from the start
SETTLED = 1.0  # seconds in which a span too many would come, or one more of a trace


def message(span):
    return span.attributes["celery.task_name"], span.attributes["celery.retries"]


def print_tree(trace_id, spans):
    system = spans[0].attributes["messaging.system"]
    print(f"\ntrace {trace_id}, through {system}")
    known = {span.span_id for span in spans}
    roots = [span for span in spans if span.parent_id not in known]
    for root in roots:
        print_branch(root, spans, "", "")
    print(flush=True)


def print_branch(span, spans, first, rest):
    task, retries = message(span)
    attempt = f" (retry {retries})" if retries else ""
    title = f"{first}{span.name}  {task}{attempt}"
    milliseconds = (span.end - span.start) / 1e6
    status = f"error: {span.message}" if span.error else "ok"
    context = span.attributes["tracehop.context.verdict"]
    print(f"{title:<56}{milliseconds:8.2f} ms  {status}, context {context}")
    children = [child for child in spans if child.parent_id == span.span_id]
    children.sort(key=lambda child: child.start)
    for child in children:
        last = child is children[-1]
        print_branch(child, spans, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def complaint(spans):
    """What is wrong with the spans of one broker; nothing when they are as expected."""
    if len({span.trace_id for span in spans}) != 1:
        return f"they make {len({span.trace_id for span in spans})} traces, not one"
    by_id = {span.span_id: message(span) for span in spans}
    found = {message(span): by_id.get(span.parent_id) for span in spans}
    if len(spans) != len(EXPECTED) or found != EXPECTED:
        return f"spans and their parents are {found}, not {EXPECTED}"
    return None


def traces(spans):
    by_trace = {}
    for span in spans:
        by_trace.setdefault(span.trace_id, []).append(span)
    return by_trace


def once(receiver):
    receiver.wait(lambda spans: len(spans) >= len(EXPECTED) * len(BROKERS), PATIENCE)
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
