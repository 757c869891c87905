"""How long `delay()` takes: `delay.py COUNT`, with the broker in BROKER.

With TRACING, as an app that is instrumented in its own process: OpenTelemetry's
instrumentation of Celery, exporting over OTLP.
"""

import json
import os
import sys
import time

from celery import Celery

app = Celery(broker=os.environ["BROKER"])
app.conf.task_ignore_result = True


@app.task(name="tasks.add")
def add(x, y):
    return x + y


def instrument():
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.celery import CeleryInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()


if os.environ.get("TRACING"):
    instrument()
count = int(sys.argv[1])
times = []
for number in range(count + count // 4):
    started = time.perf_counter_ns()
    add.delay(number, number)
    times.append(time.perf_counter_ns() - started)
times = sorted(times[count // 4 :])
at = {name: times[int(share * (count - 1))] / 1e3 for name, share in
      [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)]}
print(json.dumps({"messages": count, "mean": sum(times) / count / 1e3} | at))
