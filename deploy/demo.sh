#!/usr/bin/env bash
# Shows what tracehop does: a Celery app without a line of tracing sends an order through it,
# once by Redis and once by RabbitMQ, and the spans that come out make one trace each.
#
#   deploy/demo.sh          keeps everything running to be played with, until Ctrl-C
#   deploy/demo.sh --once   ends after the first trace of each
#
# Everything it starts listens on free ports of the loopback interface, and ends with it.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/demo/install.sh

once=no
case ${1:-} in
--once) once=yes ;;
'') ;;
*) fail "unknown option '$1'; there is only --once" ;;
esac

need_python
need_redis
need_rabbitmq
venv demo deploy/demo/requirements.txt
python=$PWD/.cache/venv/demo/bin/python

if [ -n "${HOP_BINARY:-}" ]; then
    tracehop=$(realpath "$HOP_BINARY")
else
    need_rust
    say "building tracehop"
    cargo build --release
    tracehop=${CARGO_TARGET_DIR:-$PWD/target}/release/tracehop
fi

place=$(mktemp -d)
started=()

# Ends what was started, the last one first: the worker says goodbye through tracehop.
cleanup() {
    local i
    trap - EXIT INT TERM
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do
        kill "${started[$i]}" 2>/dev/null || true
        wait "${started[$i]}" 2>/dev/null || true
    done
    rm -rf "$place"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start NAME COMMAND…: in the background, with its output in a file.
start() {
    local name=$1
    shift
    "$@" >"$place/$name.log" 2>&1 &
    started+=($!)
}

# await WHAT LOG COMMAND…: until the command succeeds.
await() {
    local what=$1 log=$place/$2.log tries
    shift 2
    for ((tries = 0; tries < 900; tries++)); do
        if "$@" >/dev/null 2>&1; then return; fi
        kill -0 "${started[-1]}" 2>/dev/null || break
        sleep 0.1
    done
    cat "$log" >&2
    fail "$what did not start, see above"
}

free_port() {
    "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

redis_port=$(free_port) rabbitmq_port=$(free_port) admin_port=$(free_port)
port=$(free_port) amqp_port=$(free_port)

say "Redis, a fresh one, on port $redis_port"
start redis redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$place" --save ''
await Redis redis redis-cli -p "$redis_port" ping

say "RabbitMQ, a fresh one, on port $rabbitmq_port"
mkdir "$place/rabbitmq"
start rabbitmq deploy/demo/rabbitmq.sh serve "$place/rabbitmq" "$rabbitmq_port"
await RabbitMQ rabbitmq "$python" -c \
    "import socket; socket.create_connection(('127.0.0.1', $rabbitmq_port))"

say "a receiver for spans (OTLP), where a collector would be"
if [ $once = yes ]; then
    start watch "$python" deploy/demo/watch.py "$place/endpoint" --once
else
    # Its trees are for the terminal.
    "$python" deploy/demo/watch.py "$place/endpoint" 2>"$place/watch.log" &
    started+=($!)
fi
watch=${started[-1]}
await "the receiver" watch test -e "$place/endpoint"

say "tracehop between port $port and Redis, and between port $amqp_port and RabbitMQ"
export OTEL_EXPORTER_OTLP_ENDPOINT OTEL_BSP_SCHEDULE_DELAY=200
OTEL_EXPORTER_OTLP_ENDPOINT=$(cat "$place/endpoint")
export TRACEHOP_ADMIN_LISTEN=127.0.0.1:$admin_port
# The workers have no instrumentation that could tell how long a task ran.
export TRACEHOP_SPANS_PROCESS=true
export TRACEHOP_ROUTES_REDIS_LISTEN=127.0.0.1:$port
export TRACEHOP_ROUTES_REDIS_UPSTREAM=redis://127.0.0.1:$redis_port
export TRACEHOP_ROUTES_RABBITMQ_LISTEN=127.0.0.1:$amqp_port
export TRACEHOP_ROUTES_RABBITMQ_UPSTREAM=amqp://127.0.0.1:$rabbitmq_port
start tracehop "$tracehop" run
await tracehop tracehop "$python" -c \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:$admin_port/readyz')"

export PYTHONPATH=deploy/demo C_FORCE_ROOT=1
# The broker's URL differs, the app is the same. Results go by Redis: RabbitMQ has no chords.
by_redis=(BROKER="redis://127.0.0.1:$port/0" RESULTS="redis://127.0.0.1:$port/0")
by_rabbitmq=(BROKER="amqp://guest:guest@127.0.0.1:$amqp_port//" RESULTS="redis://127.0.0.1:$port/1")

# shop NAME SETTING…: a worker of the shop.
shop() {
    local name=$1
    shift
    start "$name" env "$@" "$python" -m celery -A shop worker -n "$name@%h" -c 2 --loglevel INFO
    await "the worker" "$name" grep -q 'ready\.$' "$place/$name.log"
}

say "Celery workers (deploy/demo/shop.py), one for each broker; their broker URL is tracehop's"
shop by-redis "${by_redis[@]}"
shop by-rabbitmq "${by_rabbitmq[@]}"

say "an order: a chain, a retry, a chord, and a task that is to run later"
env "${by_redis[@]}" "$python" deploy/demo/order.py
say "the same by RabbitMQ"
env "${by_rabbitmq[@]}" "$python" deploy/demo/order.py

if [ $once = yes ]; then
    say "what tracehop saw"
    result=0
    wait "$watch" || result=$?
    cat "$place/watch.log"
    exit $result
fi

cat <<END

Everything keeps running until Ctrl-C. Traces appear here as they happen.
    another order   ${by_redis[*]} PYTHONPATH=deploy/demo .cache/venv/demo/bin/python deploy/demo/order.py
                    ${by_rabbitmq[*]} PYTHONPATH=deploy/demo .cache/venv/demo/bin/python deploy/demo/order.py
    your own app    set its broker URL to one of these
    what it sees    http://127.0.0.1:$admin_port/, and metrics at /metrics there
END
wait "$watch"
