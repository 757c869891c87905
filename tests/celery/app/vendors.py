"""The SDKs of Sentry and Datadog as an application would set them up, where VENDOR says so.

No service of theirs is reached: what their spans say goes to the list `vendor-spans` in Redis.
"""

import json
import os

import redis

REDIS = redis.Redis.from_url(os.environ["REDIS"])


def start_sentry():
    import sentry_sdk
    from sentry_sdk.integrations.celery import CeleryIntegration
    from sentry_sdk.transport import Transport

    class Notes(Transport):
        def capture_envelope(self, envelope):
            for item in envelope.items:
                if item.type == "transaction":
                    transaction = item.payload.json
                    task = transaction["tags"].get("celery_task_id")
                    note_sentry(transaction["contexts"]["trace"], task)
                    for span in transaction["spans"]:
                        note_sentry(span, task)

    def note_sentry(span, task):
        parent = span.get("parent_span_id") or ""
        note(span["op"], span["trace_id"], span["span_id"], parent, task)

    sentry_sdk.init(
        "http://key@127.0.0.1/1",
        transport=Notes(),
        traces_sample_rate=1,
        default_integrations=False,
        integrations=[CeleryIntegration()],
    )
    return lambda name: sentry_sdk.start_transaction(op=name, name=name)


def start_ddtrace():
    # Without these it looks for services on the network.
    os.environ["DD_INSTRUMENTATION_TELEMETRY_ENABLED"] = "false"
    os.environ["DD_REMOTE_CONFIGURATION_ENABLED"] = "false"
    os.environ["DD_CELERY_DISTRIBUTED_TRACING"] = "true"
    import ddtrace
    from ddtrace.trace import TraceFilter, tracer

    class Notes(TraceFilter):
        def process_trace(self, trace):
            for span in trace:
                parent = f"{span.parent_id:016x}" if span.parent_id else ""
                task = span.get_tag("celery.id")
                note(span.name, f"{span.trace_id:032x}", f"{span.span_id:016x}", parent, task)

    tracer.configure(trace_processors=[Notes()])
    ddtrace.patch(celery=True)
    return tracer.trace


def note(name, trace_id, span_id, parent_id, task):
    span = {"name": name, "trace_id": trace_id, "span_id": span_id, "parent_id": parent_id}
    REDIS.rpush("vendor-spans", json.dumps(span | {"task": task}))


VENDORS = {"sentry": start_sentry, "ddtrace": start_ddtrace}
# Makes a span around what the app does.
span = VENDORS[os.environ["VENDOR"]]()
