#!/usr/bin/env bash
# A RabbitMQ of one's own, apart from any other on the machine.
#
#   rabbitmq.sh serve DIRECTORY PORT [LINE…]   runs it in the foreground until SIGTERM; further
#                                              lines go into its rabbitmq.conf
#   rabbitmq.sh ctl DIRECTORY WORD…            rabbitmqctl for the one that runs in that directory
#
# Everything it writes lies in the directory, it listens on the loopback interface alone, and
# the port mapper that Erlang needs is its own and ends with it.
set -euo pipefail

command=$1 place=$(realpath "$2")
shift 2

# Debian's wrapper in /usr/sbin would change the user and the directory.
debian=/usr/lib/rabbitmq/bin
[ ! -d $debian ] || PATH=$debian:$PATH

free_ports() {
    python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(each.getsockname()[1] for each in sockets))'
}

# Nothing of the machine's own RabbitMQ, and nothing that the caller happens to have set.
unset "${!RABBITMQ_@}" "${!ERL_@}" NOTIFY_SOCKET
export HOME=$place # of .erlang.cookie
export RABBITMQ_NODENAME=tracehop@localhost
export RABBITMQ_MNESIA_BASE=$place/mnesia RABBITMQ_LOG_BASE=$place/log
export RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE=$place/rabbitmq.conf
export RABBITMQ_ADVANCED_CONFIG_FILE=$place/advanced.config
export RABBITMQ_GENERATED_CONFIG_DIR=$place/generated
export RABBITMQ_ENABLED_PLUGINS_FILE=$place/plugins
export RABBITMQ_LOGS=- RABBITMQ_NODE_IP_ADDRESS=127.0.0.1
export ERL_EPMD_ADDRESS=127.0.0.1

if [ "$command" = ctl ]; then
    ERL_EPMD_PORT=$(cat "$place/epmd")
    export ERL_EPMD_PORT RABBITMQ_CTL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
    exec rabbitmqctl "$@"
fi

export RABBITMQ_NODE_PORT=$1
shift
read -r ERL_EPMD_PORT RABBITMQ_DIST_PORT <<<"$(free_ports)"
export ERL_EPMD_PORT RABBITMQ_DIST_PORT
# It shares the machine: one scheduler, which sleeps when there is nothing to do.
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='+S 1:1 -kernel inet_dist_use_interface {127,0,0,1}'
echo "$ERL_EPMD_PORT" >"$place/epmd"
echo '[].' >"$RABBITMQ_ENABLED_PLUGINS_FILE"
# A little of a small disk is enough, and nobody reads the statistics.
printf '%s\n' 'disk_free_limit.absolute = 16MB' 'collect_statistics_interval = 60000' "$@" \
    >"$RABBITMQ_CONFIG_FILE"

epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 &
epmd=$!
rabbitmq-server &
server=$!
trap 'kill -TERM $server 2>/dev/null || true' INT TERM
trap 'kill $epmd 2>/dev/null || true' EXIT
result=0
while kill -0 $server 2>/dev/null; do
    result=0
    wait $server || result=$? # a trap ends it before the server does
done
exit $result
