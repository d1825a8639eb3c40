#!/bin/sh
# Starts a private PostgreSQL and a private Redis on free ports with throwaway data, prints where they are,
# and ends both when its standard input ends: that is, when whoever started it is gone, however it went.
set -eu
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
dir=$(mktemp -d)
as() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
redis=
finish() {
    as "$bin/pg_ctl" -D "$dir/pg" -m immediate -w stop >/dev/null 2>&1 || true
    [ -z "$redis" ] || kill "$redis" 2>/dev/null || true
    rm -rf "$dir"
}
trap finish EXIT
chmod 755 "$dir"
[ "$(id -u)" != 0 ] || chown postgres "$dir"
pg_port=$(free_port)
redis_port=$(free_port)
as "$bin/initdb" -D "$dir/pg" -U idem --auth=trust -E UTF8 --locale=C.UTF-8 >/dev/null
as "$bin/pg_ctl" -D "$dir/pg" -w -l "$dir/pg.log" -o "-p $pg_port -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories= -c max_connections=300 -c shared_buffers=256MB" start >/dev/null
redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --appendonly no --dir "$dir" >/dev/null &
redis=$!
until redis-cli -p "$redis_port" ping >/dev/null 2>&1; do sleep 0.05; done
echo "postgres://idem@127.0.0.1:$pg_port"
echo "redis://127.0.0.1:$redis_port"
cat >/dev/null
