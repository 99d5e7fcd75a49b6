#!/bin/sh
# Installs what the integration tests borrow from others into .foreign/ at the root of the repository:
# a Python environment with the MCP SDK, and from npm server-everything and the model emulator. Versions are
# pinned. Run again, it does nothing unless a pin changed. Fails with one line that says what is missing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
target=$(cd "$here/../.." && pwd)/.foreign

fail() {
    printf 'foreign/install.sh: %s\n' "$1" >&2
    exit 1
}

command -v python3 >/dev/null || fail "python3 is not installed (3.10 or later, with venv)"
command -v node >/dev/null || fail "node is not installed (20.15 or later)"
command -v npm >/dev/null || fail "npm is not installed"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "python3 is older than 3.10"
python3 -c 'import ensurepip, venv' 2>/dev/null || fail "python3 lacks venv (on Debian: apt-get install python3-venv)"
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 15) ? 0 : 1)' \
    || fail "node is older than 20.15"

mkdir -p "$target"

# A stamp is the pinned file itself, copied when its install has succeeded.
if ! cmp -s "$here/requirements.txt" "$target/requirements.stamp" || [ ! -x "$target/venv/bin/python" ]; then
    rm -rf "$target/venv" "$target/requirements.stamp"
    python3 -m venv "$target/venv" || fail "the Python environment could not be made"
    "$target/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt" \
        || fail "pip could not install requirements.txt (is a package index reachable?)"
    cp "$here/requirements.txt" "$target/requirements.stamp"
fi

if ! cmp -s "$here/package-lock.json" "$target/package.stamp" || [ ! -d "$target/node_modules" ]; then
    rm -rf "$target/node_modules" "$target/package.stamp"
    cp "$here/package.json" "$here/package-lock.json" "$target/"
    (cd "$target" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) \
        || fail "npm could not install package-lock.json (is a registry reachable?)"
    cp "$here/package-lock.json" "$target/package.stamp"
fi

printf 'foreign parts are ready in .foreign\n'
