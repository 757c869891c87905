"""tracehop against no proxy and against HAProxy in TCP mode, on the same load.

Prints a table, and writes `.cache/bench/results.json` and `.cache/bench/chart.svg`. Each row
runs on all its targets in turn, in several rounds and in another order each time, so that what
else the machine does falls on all of them. `run.sh` installs and builds what it needs.
"""

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/celery"))
os.environ.setdefault("HOP_BINARY", str(ROOT / "target/release/tracehop"))

from harness import CLEAN, Process, RabbitMQ, Redis, Tracehop, eventually, free_port  # noqa: E402

TOOLS = ROOT / "target/release"
RESULTS = ROOT / ".cache/bench"
THREADS = len(os.sched_getaffinity(0))
MAIN = ("direct", "haproxy", "tracehop")
# What else tracehop can be told to do.
VARIANTS = {
    "sampled 10 %": {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"},
    "sampled 0 %": {"OTEL_TRACES_SAMPLER": "always_off"},
    "observing": {"TRACEHOP_POLICY_MODE": "observe"},
}
KIB, MIB = 1 << 10, 1 << 20


@dataclass
class Row:
    name: str
    broker: str
    options: list
    targets: tuple = MAIN
    # What puts the load on it; `None`: what is called after the broker.
    load: str | None = None
    # So few messages that the time of one tells more than how many there were.
    is_huge: bool = False
    # Per target what the load has measured, a value per round.
    runs: dict = field(default_factory=dict)


def rows():
    def redis(name, pipeline=1, connections=50, size=KIB, *more, **rest):
        options = ["--pipeline", pipeline, "--connections", connections, "--bytes", size, *more]
        return Row(f"Redis, {name}", "redis", options, **rest)

    def amqp(name, window, size=KIB, *more, broker="sink", connections=50):
        options = ["--pipeline", window, "--connections", connections, "--bytes", size, *more]
        return Row(f"AMQP, {name}", broker, options)

    yield redis("one at a time")
    yield redis("16 in a pipeline", 16, targets=MAIN + tuple(VARIANTS))
    yield redis("64 in a pipeline", 64)
    yield redis("one at a time, 16 consumers", 1, 50, KIB, "--consumers", 16)
    yield redis("one connection", 1, 1)
    yield redis("1,000 connections", 1, 1000)
    yield redis("tasks of 16 KiB", 1, 50, 16 * KIB)
    yield redis("tasks of 64 KiB", 1, 50, 64 * KIB)
    yield redis("tasks of 256 KiB", 1, 50, 256 * KIB)
    yield redis("tasks of 2 MiB", 1, 8, 2 * MIB)
    yield redis("values of 64 KiB", 1, 50, 64 * KIB, "--untouched")
    yield redis("values of 2 MiB", 1, 8, 2 * MIB, "--untouched")
    yield redis("a value of 256 MiB", 1, 1, 256 * MIB, "--untouched", is_huge=True)
    # "per s" are connections that come and go, the times those of a PING on one that stays.
    yield redis("2 clients open and close at will", connections=2, load="storm")
    for rate in (1000, 4000):
        paced = ("--asking", "--rate", rate)
        yield redis(f"{rate:,} connections a second", 1, 8, KIB, *paced, load="storm")
    yield amqp("without confirms", 16)
    yield amqp("confirmed one by one", 1, KIB, "--confirms")
    yield amqp("64 unconfirmed", 64, KIB, "--confirms")
    yield amqp("tasks of 64 KiB", 1, 64 * KIB, "--confirms")
    yield amqp("messages of 2 MiB", 1, 2 * MIB, "--untouched", connections=8)
    yield amqp("64 unconfirmed, RabbitMQ", 64, KIB, "--confirms", broker="rabbitmq")


class Stage:
    """Every broker, and every proxy before it. `ports[broker][target]` is where to connect."""

    def __init__(self, directory, open_part, brokers, descriptors):
        self.redis = open_part(Redis(directory))
        sink = open_part(Process("sink", [TOOLS / "sink"], directory, stdout=subprocess.PIPE, text=True))
        broker, collector = (int(port) for port in sink.child.stdout.readline().split())
        self.endpoint = f"http://127.0.0.1:{collector}"
        direct = {"redis": self.redis.port, "sink": broker}
        if "rabbitmq" in brokers:
            direct["rabbitmq"] = open_part(RabbitMQ(directory)).port
        self.haproxy = open_part(HAProxy(directory, direct, descriptors))
        self.ports = {name: {"direct": port} for name, port in direct.items()}
        self.proxies = {name: {"haproxy": self.haproxy} for name in direct}
        for name, port in direct.items():
            self.ports[name]["haproxy"] = self.haproxy.ports[name]
            variants = {"tracehop": {}} | (VARIANTS if name == "redis" else {})
            for target, settings in variants.items():
                self.proxies[name][target] = hop = open_part(
                    Tracehop(
                        directory, port, self.endpoint,
                        name=f"{name}-{target}".replace(" ", "-").replace("%", ""),
                        system="redis" if name == "redis" else "rabbitmq",
                        # As it comes, but for HTTP, which the sink understands.
                        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
                        OTEL_BSP_SCHEDULE_DELAY="1000",
                        **settings,
                    )
                )
                self.ports[name][target] = hop.port

    def keep_redis_small(self, over):
        while not over.wait(0.05):
            self.redis.client.unlink("celery")


class HAProxy(Process):
    """One process in TCP mode with as many threads as tracehop has, before each of `brokers`."""

    def __init__(self, directory, brokers, descriptors):
        self.ports = {name: free_port() for name in brokers}
        proxies = "".join(
            f"listen {name}\n bind 127.0.0.1:{self.ports[name]}\n server it 127.0.0.1:{port}\n"
            for name, port in brokers.items()
        )
        config = Path(directory) / "haproxy.cfg"
        config.write_text(
            f"global\n nbthread {THREADS}\n maxconn {descriptors // 2 - 100}\n"
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n"
            f"{proxies}"
        )
        super().__init__("haproxy", ["haproxy", "-db", "-f", config], directory)
        eventually(self._answers, "HAProxy takes connections")

    def _answers(self):
        if not self.running():
            raise AssertionError("HAProxy ended:\n" + self.tail())
        try:
            for port in self.ports.values():
                socket.create_connection(("127.0.0.1", port)).close()
            return True
        except OSError:
            return False


def cpu_seconds(process):
    """The time that its threads have had, to the nanosecond."""
    total = 0
    for thread in Path(f"/proc/{process.pid}/task").iterdir():
        try:
            total += int((thread / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            pass
    return total / 1e9


def load(protocol, port, *options):
    command = [TOOLS / "load", protocol, f"127.0.0.1:{port}", *options]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return json.loads(done.stdout)


def measure(row, target, stage, seconds):
    """One run of one row on one target."""
    protocol = row.load or ("redis" if row.broker == "redis" else "amqp")
    proxy = stage.proxies[row.broker].get(target)
    over = threading.Event()
    keeper = threading.Thread(target=stage.keep_redis_small, args=(over,))
    if row.broker == "redis":
        stage.redis.client.flushall(asynchronous=True)
        keeper.start()
    before = cpu_seconds(proxy) if proxy else 0
    try:
        found = load(protocol, stage.ports[row.broker][target], *row.options, "--seconds", seconds)
    finally:
        over.set()
        if row.broker == "redis":
            keeper.join()
    # Of one message at a time the rate is that of its time.
    rate = found["messages"] / found["seconds"]
    if row.is_huge:
        rate = 1e6 / found["p50"]
    run = {
        "rate": rate,
        "bytes_rate": rate * found["message_bytes"],
        "delivered_rate": found["delivered"] / found["seconds"],
    }
    if found["p50"]:
        run |= {name: found[name] for name in ("p50", "p99", "p999")}
    if proxy:
        run["cpu_us"] = (cpu_seconds(proxy) - before) * 1e6 / max(found["total"], 1)
    row.runs.setdefault(target, []).append(run)


def delay(stage, rounds, count, runs):
    """What `delay()` costs, without anything, with the proxy, with OpenTelemetry in the app."""
    exporting = {"OTEL_EXPORTER_OTLP_ENDPOINT": stage.endpoint, "TRACING": "1"}
    targets = {
        "direct": ("direct", {}),
        "tracehop": ("tracehop", {}),
        "in process": ("direct", exporting),
    }
    for each in range(rounds):
        for target in rotated(targets, each):
            port, settings = targets[target]
            broker = f"redis://127.0.0.1:{stage.ports['redis'][port]}/0"
            done = subprocess.run(
                [sys.executable, ROOT / "tests/bench/delay.py", str(count)],
                env=CLEAN | {"BROKER": broker} | settings, capture_output=True, text=True, timeout=120,
            )
            if done.returncode != 0:
                raise SystemExit(done.stderr)
            runs.setdefault(target, []).append(json.loads(done.stdout))
            stage.redis.client.flushall(asynchronous=True)


def idle(stage, count):
    """Resident bytes for each of many idle connections, per proxy."""
    found = {}
    for target in ("haproxy", "tracehop"):
        proxy = stage.proxies["redis"][target]
        before = proxy.resident_bytes()
        command = [TOOLS / "load", "idle", f"127.0.0.1:{stage.ports['redis'][target]}"]
        command += ["--connections", str(count)]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            if holder.stdout.readline() != "ready\n":
                raise SystemExit(f"{target} does not take {count} connections")
            found[target] = (proxy.resident_bytes() - before) / count
        finally:
            holder.stdin.close()
            holder.wait()
    return found


def fates(stage):
    """Per tracehop: how many messages it saw sent, how many spans it exported and dropped."""
    found = {}
    for broker, proxies in stage.proxies.items():
        for target, proxy in proxies.items():
            if target == "haproxy":
                continue
            names = {"sent": "sends", "exported": "spans_exported", "dropped": "spans_dropped"}
            found[f"{broker}, {target}"] = {
                what: int(proxy.metric(f"tracehop_{name}_total")) for what, name in names.items()
            }
    return found


def allow_descriptors(wanted):
    """Raises the limit of this process and its children as far as it may; says how far."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, most)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def rotated(names, by):
    names = list(names)
    by %= len(names)
    return names[by:] + names[:by]


def median(runs, what):
    values = [run[what] for run in runs if what in run]
    return statistics.median(values) if values else None


def spread(runs, what):
    """Half of what lies between the lowest and the highest, as a share of the median."""
    values = [run[what] for run in runs if what in run]
    middle = statistics.median(values) if values else 0
    return (max(values) - min(values)) / 2 / middle if middle else 0


def summary(row):
    base = {name: median(row.runs[name], "rate") for name in ("direct", "haproxy")}
    found = {}
    for target, runs in row.runs.items():
        names = ("rate", "bytes_rate", "delivered_rate", "p50", "p99", "p999", "cpu_us")
        found[target] = {name: median(runs, name) for name in names}
        found[target]["spread"] = spread(runs, "rate")
        for name, rate in base.items():
            found[target][f"of_{name}"] = found[target]["rate"] / rate
    return found


def tell(row):
    print(f"\n{row.name}")
    print(f"  {'':14}{'per s':>10}{'±':>6}{'MiB/s':>9}{'of direct':>11}{'of HAProxy':>12}"
          f"{'p50 µs':>11}{'p99':>11}{'p99.9':>11}{'CPU µs':>11}")
    for target, at in summary(row).items():
        def shown(name, form):
            return format(at[name], form) if at[name] else "–"
        print(f"  {target:14}{at['rate']:10,.0f}{at['spread']:6.0%}{at['bytes_rate'] / MIB:9,.0f}"
              f"{at['of_direct']:11.2f}{at['of_haproxy']:12.2f}{shown('p50', ',.0f'):>11}"
              f"{shown('p99', ',.0f'):>11}{shown('p999', ',.0f'):>11}{shown('cpu_us', ',.2f'):>11}",
              flush=True)
        if at["delivered_rate"]:
            print(f"  {'':14}{at['delivered_rate']:10,.0f} delivered per s")


def chart(rows):
    """Throughput as a share of HAProxy's, as SVG."""
    colours = {"direct": "#9aa5b1", "haproxy": "#5b7083", "tracehop": "#d9480f"}
    unit, left, height, top = 300, 250, 12, 60
    bars, y = [], top
    for row in rows:
        found = summary(row)
        bars.append(f'<text x="{left - 8}" y="{y + 22}" text-anchor="end">{row.name}</text>')
        for target in MAIN:
            share = found[target]["of_haproxy"]
            width = min(share, 2) * unit
            bars.append(
                f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{height - 2}" '
                f'fill="{colours[target]}"/><text x="{left + width + 4:.1f}" y="{y + 9}" '
                f'class="n">{share:.2f}</text>'
            )
            y += height
        y += 10
    legend = "".join(
        f'<rect x="{left + 110 * at}" y="34" width="10" height="10" fill="{colour}"/>'
        f'<text x="{left + 110 * at + 15}" y="43">{target}</text>'
        for at, (target, colour) in enumerate(colours.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + 2 * unit + 60} {y + 10}" '
        'font-family="sans-serif" font-size="12"><style>.n{font-size:9px}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/><text x="{left}" y="20" font-weight="bold">'
        f"Messages per second, as a share of HAProxy’s</text>{legend}{''.join(bars)}"
        f'<line x1="{left + unit}" x2="{left + unit}" y1="{top - 6}" y2="{y}" stroke="#333" '
        'stroke-dasharray="3"/></svg>\n'
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round: does it work?")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of each run")
    parser.add_argument("--only", default="", help="rows whose names contain this")
    chosen = parser.parse_args()
    rounds = chosen.rounds or (1 if chosen.quick else 5)
    seconds = chosen.seconds or (0.4 if chosen.quick else 1.2)
    descriptors = allow_descriptors(65536)
    table = [row for row in rows() if chosen.only in row.name]
    started = time.monotonic()
    parts, delays, idling, spans = [], {}, {}, {}

    def open_part(part):
        parts.append(part)
        return part

    with tempfile.TemporaryDirectory() as directory:
        try:
            stage = Stage(directory, open_part, {row.broker for row in table}, descriptors)
            if not chosen.only:
                # First, as memory that load has left behind would hide what they take.
                idling = idle(stage, min(1000 if chosen.quick else 10_000, descriptors // 2 - 500))
            for each in range(rounds):
                print(f"round {each + 1} of {rounds}", file=sys.stderr)
                for row in table:
                    for target in rotated(row.targets, each):
                        measure(row, target, stage, seconds)
            if not chosen.only:
                delay(stage, rounds, 300 if chosen.quick else 1500, delays)
            spans = fates(stage)
        finally:
            for part in reversed(parts):
                part.close()
    for row in table:
        tell(row)
    if delays:
        print("\nPython, delay()")
        found = {target: {name: median(runs, name) for name in ("mean", "p50", "p99", "p999")}
                 for target, runs in delays.items()}
        for target, at in found.items():
            added = at["p50"] - found["direct"]["p50"]
            print(f"  {target:14}p50 {at['p50']:7,.0f} µs ({added:+,.0f})   mean {at['mean']:7,.0f}"
                  f"   p99 {at['p99']:7,.0f}   p99.9 {at['p999']:7,.0f}")
    if idling:
        print("\nidle connections: " + ", ".join(
            f"{target} {size:,.0f} resident bytes each" for target, size in idling.items()))
    for proxy, at in spans.items():
        print(f"{proxy}: {at['sent']:,} messages, {at['exported']:,} spans exported, {at['dropped']:,} dropped")
    RESULTS.mkdir(parents=True, exist_ok=True)
    results = {
        "threads": THREADS, "rounds": rounds, "seconds": seconds,
        "rows": {row.name: {"runs": row.runs, "median": summary(row)} for row in table},
        "delay": delays, "idle_bytes": idling, "spans": spans,
    }
    (RESULTS / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (RESULTS / "chart.svg").write_text(chart(table))
    print(f"\n{time.monotonic() - started:.0f} s; see {RESULTS.relative_to(ROOT)}/")


if __name__ == "__main__":
    main()
