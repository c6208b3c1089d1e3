#!/bin/sh
# Makes .venv and installs one of the locks in requirements/ into it. Usage: setup.sh server|dev
# Does nothing when that lock is installed already, so it also works without a network then.
set -eu
cd "$(dirname "$0")/.."
lock=requirements/${1:?usage: setup.sh server|dev}.lock
python=${PYTHON:-python3}
stop() { echo "optiinfra: $1" >&2; exit 2; }
# The dashboard's libraries. Without them everything else works, so nothing stops here.
libraries() {
    "$python" scripts/vendor.py || echo "optiinfra: the dashboard will not open: its libraries could not be fetched; make vendor tries again" >&2
}

command -v "$python" >/dev/null || stop "$python was not found; install Python 3.11 or newer (Debian: apt install python3 python3-venv)"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
    || stop "$("$python" --version 2>&1) is too old; Python 3.11 or newer is needed (set PYTHON=/path/to/python3.11)"
sum=$(cat "$lock" pyproject.toml | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
for installed in .venv/.installed-dev .venv/.installed-"$1"; do
    # The dev lock holds everything that the server lock holds, in the same versions.
    [ -x .venv/bin/python ] && [ -f "$installed" ] && grep -q "$1 $sum" "$installed" && { libraries; exit 0; }
done
free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1024) }')
[ "$free" -ge 1024 ] || stop "only $free MiB are free here; setting up needs 1024 MiB"
[ -x .venv/bin/python ] || { echo "optiinfra: making .venv"; "$python" -m venv .venv >/dev/null 2>&1 \
    || { rm -rf .venv; stop "$python cannot make a virtual environment (Debian: apt install python3-venv)"; }; }
echo "optiinfra: installing $lock"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock" \
    || stop "the packages of $lock could not be installed; the lines above say why (no network?)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
other=
[ "$1" = dev ] && other="server $(cat requirements/server.lock pyproject.toml | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')"
printf '%s\n%s\n' "$1 $sum" "$other" > ".venv/.installed-$1"
libraries
