# shellcheck shell=bash
# Sourced by tests/run.sh and deploy/demo.sh: finds or installs what they need. Whatever is
# installed besides Debian packages lies under .cache/, which git does not see.

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

fail() {
    printf '\nFailed: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# apt_install WHY PACKAGE…
apt_install() {
    local why=$1
    shift
    command -v apt-get >/dev/null || fail "$why; install it yourself, there is no apt-get here"
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
        fail "$why; 'apt-get install $*' needs root or sudo"
    say "$why: installing $* with apt-get"
    quietly as_root apt-get update
    quietly as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "$@"
}

# Runs a command; what it prints is only shown when it fails.
quietly() {
    local output
    output=$("$@" 2>&1) && return
    echo "$output" >&2
    fail "$*, see above"
}

need_rust() {
    command -v cargo >/dev/null ||
        fail "cargo is not installed; https://rustup.rs tells how to get Rust"
    command -v cc >/dev/null || apt_install "there is no C compiler to link with" gcc libc6-dev
    command -v make >/dev/null || apt_install "there is no make to build the allocator with" make
}

need_python() {
    command -v python3 >/dev/null || apt_install "Python 3 is not installed" python3 python3-venv
    python3 -c 'import ensurepip, venv' 2>/dev/null ||
        apt_install "Python cannot make virtual environments" python3-venv
}

need_openssl() {
    command -v openssl >/dev/null || apt_install "OpenSSL is not installed" openssl
}

need_redis() {
    if command -v redis-server >/dev/null && command -v redis-benchmark >/dev/null; then return; fi
    install_server "Redis is not installed" redis-server redis-tools
}

need_rabbitmq() {
    if command -v rabbitmq-server >/dev/null; then return; fi
    install_server "RabbitMQ is not installed" rabbitmq-server
}

need_promtool() {
    if command -v promtool >/dev/null; then return; fi
    install_server "promtool is not installed" prometheus
}

need_systemd_analyze() {
    command -v systemd-analyze >/dev/null ||
        apt_install "systemd-analyze is not installed" systemd
}

need_faketime() {
    compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null ||
        apt_install "libfaketime is not installed" libfaketime
}

need_chromium() {
    if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then return; fi
    apt_install "Chromium is not installed" chromium chromium-driver
}

need_nft() {
    if command -v nft >/dev/null && command -v ip >/dev/null; then return; fi
    apt_install "nft or ip is not installed" nftables iproute2
}

need_haproxy() {
    command -v haproxy >/dev/null || install_server "HAProxy is not installed" haproxy
}

need_valgrind() {
    command -v valgrind >/dev/null || apt_install "valgrind is not installed" valgrind
}

# have_jaeger: whether there is a Jaeger for the tests: what HOP_JAEGER names, or one that was built
# before. Sets HOP_JAEGER.
have_jaeger() {
    local version
    if [ -z "${HOP_JAEGER:-}" ]; then
        version=$(awk '$1 == "github.com/jaegertracing/jaeger" { print $2 }' tests/backends/go.mod)
        HOP_JAEGER=${XDG_CACHE_HOME:-$HOME/.cache}/tracehop/jaeger-$version
    fi
    export HOP_JAEGER
    [ -x "$HOP_JAEGER" ]
}

# need_jaeger: builds one, into the user's cache: 16 minutes of CPU where Go has nothing cached.
need_jaeger() {
    if have_jaeger; then return; fi
    local minor
    minor=$(go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
    [ "${minor:-0}" -ge 24 ] ||
        fail "Jaeger is built with Go 1.24 or later; https://go.dev/doc/install tells how to get it"
    say "building Jaeger into $HOP_JAEGER; without Go's cache that takes some ten minutes"
    mkdir -p "$(dirname "$HOP_JAEGER")"
    quietly env CGO_ENABLED=0 go build -C tests/backends -trimpath -o "$HOP_JAEGER" \
        github.com/jaegertracing/jaeger/cmd/jaeger
}

# bench_tools OPTION…: builds what is in tests/bench with those options of cargo.
bench_tools() {
    # With the very dependencies that the proxy has.
    cp Cargo.lock tests/bench/Cargo.lock
    quietly cargo build --manifest-path tests/bench/Cargo.toml --target-dir target "$@"
}

# install_server WHY SERVER PACKAGE…: Debian's package would start a server of its own. We
# start ours, on other ports, so the package is told not to; a server that is already there is
# left alone.
install_server() {
    local why=$1 server=$2 policy=/usr/sbin/policy-rc.d had_policy=yes
    shift
    if [ ! -e $policy ]; then
        had_policy=no
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod 755 $policy
    fi
    local result=0
    (apt_install "$why" "$@") || result=$?
    [ $had_policy = yes ] || as_root rm -f $policy
    [ $result = 0 ] || exit 1
    # Nor shall it start when the machine does.
    if [ -d /run/systemd/system ]; then as_root systemctl disable --quiet "$server"; fi
}

# venv NAME REQUIREMENTS: a virtual environment, .cache/venv/NAME, with exactly the packages
# of that file. It is made anew when the file or Python has changed.
venv() {
    local place=.cache/venv/$1 requirements=$2 state
    state=$(python3 --version && sha256sum <"$requirements")
    if [ "$(cat "$place/state" 2>/dev/null)" = "$state" ]; then return; fi
    say "installing the packages of $requirements into $place"
    rm -rf "$place"
    quietly python3 -m venv "$place"
    quietly "$place/bin/pip" install --disable-pip-version-check --requirement "$requirements"
    echo "$state" >"$place/state"
}
