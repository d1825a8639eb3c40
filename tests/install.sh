#!/bin/sh
# Installs the programs that the tests start from Debian's packages, if they are missing: PostgreSQL,
# PgBouncer and Redis, Python for tests/servers.sh, npm for the clients in tests/clients and clients,
# Chromium for the tests of the client kit, curl for the commands in the documentation, and openssl for the keys
# that sign tokens. The lock files of the clients bring a newer Node than Debian has.
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
command -v chromium >/dev/null || missing="$missing chromium"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "please install:$missing" >&2
    exit 1
fi
# The packages would start their own servers on the standard ports. policy-rc.d prevents that
# (invoke-rc.d(8)).
policy=/usr/sbin/policy-rc.d
[ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; trap 'rm -f "$policy"' EXIT; }
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
