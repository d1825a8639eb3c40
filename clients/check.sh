#!/bin/sh
# Checks the types and the style of the client kit, with the tools and the Node of the lock file.
set -eu
cd "$(dirname "$0")"
[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund --ignore-scripts >/dev/null
case $(uname -m) in aarch64) machine=arm64 ;; *) machine=x64 ;; esac
PATH=$PWD/node_modules/node-linux-$machine/bin:$PWD/node_modules/.bin:$PATH
tsc -p typescript
oxlint --deny-warnings typescript/src typescript/test examples
npm run build >/dev/null
tsc -p examples/vite
