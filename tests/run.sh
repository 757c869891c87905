#!/usr/bin/env bash
# Installs what is missing and runs every test.
#
#   tests/run.sh                  all of it
#   tests/run.sh rust             formatting, lints, tests of the crate
#   tests/run.sh celery [ARGS…]   the suite with real brokers and real Celery; ARGS go to pytest
#   tests/run.sh deploy [ARGS…]   what deploy/ holds, by Helm, Kustomize, promtool and systemd
#   tests/run.sh backends [ARGS…] export to a real Jaeger and Collector, which are built with Go
#
# Needs Rust, Python 3 and, for what is missing, apt with root or sudo.
set -u
cd "$(dirname "$0")/.." || exit 1
. deploy/demo/install.sh

part=${1:-all}
shift || true
case $part in all | rust | celery | deploy | backends) ;; *) fail "unknown part '$part': rust, celery, deploy or backends" ;; esac

logs=.cache/logs
mkdir -p $logs
names=() verdicts=()
passed=0 failed=0 # tests
running=
trap 'kill $running; exit 130' INT TERM

# check NAME COMMAND…: runs it, whatever became of those before.
check() {
    local name=$1 started=$SECONDS
    shift
    say "$name: $*"
    names+=("$name")
    # There before `tail` looks for it.
    : >"$logs/$name.log"
    # Not through a pipe: that would wait for whatever a failed test left running.
    "$@" >>"$logs/$name.log" 2>&1 &
    running=$!
    tail --pid=$running --lines=+1 --sleep-interval=0.2 --follow "$logs/$name.log"
    if wait $running; then
        verdicts+=("passed in $((SECONDS - started)) s")
    else
        verdicts+=("FAILED after $((SECONDS - started)) s; see $logs/$name.log")
        return 1
    fi
}

# tests NAME COMMAND…: the same for a test runner, whose tests are counted.
tests() {
    local name=$1 result=0 failures
    check "$@" || result=1
    passed=$((passed + $(count "$name" passed)))
    failures=$(($(count "$name" failed) + $(count "$name" 'errors?')))
    # A runner that failed before it could count has failed all the same.
    [ $result = 0 ] || [ "$failures" -gt 0 ] || failures=1
    failed=$((failed + failures))
}

# count NAME WORD: the sum of the numbers before WORD in the closing lines of a test runner.
count() {
    grep -E '^test result:|(passed|failed|errors?).* in [0-9.]+s' "$logs/$1.log" |
        grep -oE "[0-9]+ $2" | awk '{ sum += $1 } END { print sum + 0 }'
}

rust_part() {
    check format cargo fmt --check
    check lints cargo clippy --all-targets --quiet -- -D warnings
    # The crate's tests start brokers, too.
    need_redis
    need_python # of which RabbitMQ's launcher takes free ports
    need_rabbitmq
    tests crate cargo test --no-fail-fast
    check instructions tests/bench/instructions.sh
}

celery_part() {
    need_python
    need_redis
    need_rabbitmq
    need_promtool
    need_chromium # for the admin page
    need_openssl
    need_nft
    need_faketime
    venv celery-5.7 tests/celery/requirements.txt
    venv celery-vendors tests/celery/requirements-vendors.txt
    venv celery-5.3 tests/celery/requirements-5.3.txt
    # Celery 4.4 does not run on Python 3.12 and later; its tests say so when they are skipped.
    if python3 -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then
        venv celery-4.4 tests/celery/requirements-4.4.txt
    fi
    # The same build as that of `cargo test`.
    check build cargo build
    venv demo deploy/demo/requirements.txt
    check demo env HOP_BINARY=target/debug/tracehop deploy/demo.sh --once
    # Three at a time: they wait more than they work.
    tests celery .cache/venv/celery-5.7/bin/python -m pytest tests/celery \
        --numprocesses 3 --dist loadgroup "$@"
}

deploy_part() {
    need_python
    need_promtool
    need_systemd_analyze
    need_nft
    need_redis
    venv deploy tests/deploy/requirements.txt
    check build cargo build
    tests deploy .cache/venv/deploy/bin/python -m pytest tests/deploy "$@"
}

backends_part() {
    need_python
    need_redis
    need_rabbitmq
    need_openssl
    venv celery-5.7 tests/celery/requirements.txt
    check build cargo build
    tests backends .cache/venv/celery-5.7/bin/python -m pytest tests/backends \
        --numprocesses 2 --dist loadfile "$@"
}

need_rust
case $part in all | rust) rust_part ;; esac
case $part in all | celery) celery_part "$@" ;; esac
case $part in all | deploy) deploy_part "$@" ;; esac
case $part in
backends)
    need_jaeger
    backends_part "$@"
    ;;
all)
    if have_jaeger; then
        backends_part "$@"
    else
        say "backends: left out, for $HOP_JAEGER is not there; tests/run.sh backends builds it"
    fi
    ;;
esac

say "what was checked, in $SECONDS s"
for i in "${!names[@]}"; do printf '%-8s %s\n' "${names[$i]}" "${verdicts[$i]}"; done
echo "tests: $passed passed, $failed failed"
case "${verdicts[*]}" in *FAILED*) exit 1 ;; esac
[ "$passed" -gt 0 ] || fail "no test ran"
