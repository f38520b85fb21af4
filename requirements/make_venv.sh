#!/usr/bin/env bash
# Makes the project's virtual environment from a hash-locked requirements file.
# usage: requirements/make_venv.sh VENV LOCK UV_LOCK
# UV_LOCK pins uv itself, apart from LOCK: only a recent uv can renew a lock as of an earlier date.
# Writes nothing outside VENV but the caches of pip and uv.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 lock=$2 uv_lock=$3
wanted=$(cat .python-version)
export UV_PYTHON_DOWNLOADS=never PYTHONNOUSERSITE=1 PIP_DISABLE_PIP_VERSION_CHECK=1

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" "python$wanted" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$wanted"*/bin/python \
        "$(command -v uv >/dev/null 2>&1 && uv python find "$wanted" 2>/dev/null)" python3; do
        [ -n "$candidate" ] || continue
        # The real interpreter, not pyenv's shim: the environment must keep working in other folders.
        "$candidate" -c "import sys, venv, ensurepip
assert '%d.%d' % sys.version_info[:2] == '$wanted'
print(sys.executable)" 2>/dev/null && return 0
    done
    return 1
}

if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c "import sys; assert '%d.%d' % sys.version_info[:2] == '$wanted'" 2>/dev/null; then
    python=$(find_python) || {
        cat >&2 <<MESSAGE
autotag needs Python $wanted, and none was found (looked for PYTHON=..., python$wanted, pyenv, uv, python3).
Install one, then run make again:
    uv python install $wanted        or        pyenv install $wanted        or        make PYTHON=/path/to/python$wanted
MESSAGE
        exit 1
    }
    echo "environment: $venv from $python"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

# The locked uv installs the rest; pip checks its hash.
if ! "$venv/bin/uv" --version >/dev/null 2>&1; then
    "$venv/bin/python" -m pip install --quiet --require-hashes --no-deps -r "$uv_lock"
fi
echo "environment: installing $(grep -c '==' "$lock") locked packages"
VIRTUAL_ENV=$PWD/$venv "$venv/bin/uv" pip sync --quiet --require-hashes --compile-bytecode "$lock" "$uv_lock"
VIRTUAL_ENV=$PWD/$venv "$venv/bin/uv" pip install --quiet --no-deps --no-build-isolation --editable .
