#!/bin/sh
# Installs what the tests start, from Debian's packages, where it is missing: PostgreSQL, PgBouncer
# and Redis, Node for the clients in tests/clients, curl for the commands of docs/api.md, openssl for the keys of tokens.
set -eu
missing=
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="postgresql"
command -v redis-server >/dev/null || missing="$missing redis-server"
command -v pgbouncer >/dev/null || missing="$missing pgbouncer"
command -v python3 >/dev/null || missing="$missing python3"
command -v openssl >/dev/null || missing="$missing openssl"
command -v curl >/dev/null || missing="$missing curl"
command -v node >/dev/null || missing="$missing nodejs"
command -v npm >/dev/null || missing="$missing npm"
# The clients are not made for an older one, and no newer one is in every Debian.
check_node() {
    node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' && return
    echo "please install Node 20 or newer: here is $(node --version)" >&2
    exit 1
}
[ -n "$missing" ] || { check_node; exit 0; }
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "please install:$missing" >&2
    exit 1
fi
# The packages would start servers of their own at the standard ports: tell them not to.
policy=/usr/sbin/policy-rc.d
[ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; trap 'rm -f "$policy"' EXIT; }
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
check_node
