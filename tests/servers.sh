#!/bin/sh
# Starts a private PostgreSQL and a private Redis on free ports with temporary data, and prints their URLs. It
# stops both when its standard input ends, which also happens when the process that started it crashes or is
# killed. Until then it reads one command per line and prints `done` after each. The loop at the end lists the
# commands.
set -eu
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
dir=$(mktemp -d)
as() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
redis=
start_postgres() {
    as "$bin/pg_ctl" -D "$dir/pg" -w -l "$dir/pg.log" -o "-p $pg_port -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories= -c max_connections=300 -c shared_buffers=256MB" start >/dev/null
}
stop_postgres() { as "$bin/pg_ctl" -D "$dir/pg" -m immediate -w stop >/dev/null 2>&1; }
# Starts a standby of the server on the port $1. It replicates from the port $2, so that a test can put a
# proxy between the two.
start_standby() {
    standby_port=$1
    as "$bin/pg_basebackup" -D "$dir/standby" -R -X stream -c fast -d "host=127.0.0.1 port=$2 user=idem"
    as "$bin/pg_ctl" -D "$dir/standby" -w -l "$dir/standby.log" -o "-p $standby_port -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories= -c max_connections=300" start >/dev/null
}
promote_standby() { as "$bin/pg_ctl" -D "$dir/standby" -w promote >/dev/null; }
stop_standby() { as "$bin/pg_ctl" -D "$dir/standby" -m immediate -w stop >/dev/null 2>&1; }
standby_port=
start_redis() {
    redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --appendonly no --dir "$dir" >/dev/null &
    redis=$!
    tries=0
    until redis-cli -p "$redis_port" ping >/dev/null 2>&1; do
        tries=$((tries + 1))
        # Another process may have taken the port in the meantime.
        [ "$tries" -lt 400 ] || { echo "redis does not respond on port $redis_port" >&2; exit 1; }
        sleep 0.05
    done
}
# SIGKILL, because a stopped process does not handle other signals.
kill_redis() {
    [ -n "$redis" ] || return 0
    kill -KILL "$redis" 2>/dev/null || true
    wait "$redis" 2>/dev/null || true
    redis=
}
stall_redis() {
    kill -STOP "$redis"
    sleep 1.5
    kill -CONT "$redis"
}
finish() {
    stop_postgres || true
    [ -z "$standby_port" ] || stop_standby || true
    kill_redis
    rm -rf "$dir"
}
trap finish EXIT
# A signal to the process group, such as Ctrl-C, stops the servers too, and so does a closed output (PIPE).
trap 'exit 1' HUP INT TERM PIPE
chmod 755 "$dir"
[ "$(id -u)" != 0 ] || chown postgres "$dir"
pg_port=$(free_port)
redis_port=$(free_port)
as "$bin/initdb" -D "$dir/pg" -U idem --auth=trust -E UTF8 --locale=C.UTF-8 >/dev/null
start_postgres
start_redis
echo "postgres://idem@127.0.0.1:$pg_port"
echo "redis://127.0.0.1:$redis_port"
while read -r command first second; do
    case $command in
    start-postgres) start_postgres ;;
    stop-postgres) stop_postgres ;;
    start-standby) start_standby "$first" "$second" ;;
    promote-standby) promote_standby ;;
    start-redis) start_redis ;;
    kill-redis) kill_redis ;;
    stall-redis) stall_redis ;;
    *)
        echo "no such command: $command" >&2
        exit 2
        ;;
    esac
    echo "done"
done
