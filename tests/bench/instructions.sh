#!/usr/bin/env bash
# Counts the instructions that sessions cost per message, and compares with what is expected:
# see instructions.py, to which the arguments go.
set -u
cd "$(dirname "$0")/../.." || exit 1
. deploy/demo/install.sh

need_rust
need_python
need_valgrind
bench_tools --profile counted --example instructions
exec python3 tests/bench/instructions.py target/counted/examples/instructions "$@"
