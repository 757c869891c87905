#!/usr/bin/env bash
# Measures tracehop against no proxy and against HAProxy in TCP mode, on a machine that does
# nothing else: some ten minutes, or two with --quick. `--help` lists the rest.
set -u
cd "$(dirname "$0")/../.." || exit 1
. deploy/demo/install.sh

need_rust
need_python
need_redis
need_rabbitmq
need_haproxy
venv celery-5.7 tests/celery/requirements.txt
quietly cargo build --release
bench_tools --release --bins
exec .cache/venv/celery-5.7/bin/python tests/bench/bench.py "$@"
