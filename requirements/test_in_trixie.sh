#!/usr/bin/env bash
# Runs the test suite on TFX 1.21 and Python 3.13, in a container of Debian 13.
# usage: requirements/test_in_trixie.sh [PYTEST_ARGUMENT ...]      all tests unless told; needs podman or docker
# The checkout is copied into the container as git sees it (tracked and new files), so nothing is written to it.
set -euo pipefail
cd "$(dirname "$0")/.."
engine=${CONTAINER_ENGINE:-$(command -v podman || command -v docker)} || {
    echo "$0 needs podman or docker, and neither was found" >&2
    exit 2
}
image=autotag-test-trixie
"$engine" build --quiet -t "$image" -f requirements/trixie.Dockerfile requirements

# MagnaTagATune's metadata, which its licence keeps out of here: taken where it lies beside the checkout, as in the tests.
data=()
[ ! -d ../shared/mtat ] || data=(--volume "$(realpath ../shared/mtat):/home/tester/shared/mtat:ro")

# Files that git lists and that were deleted are left out.
git ls-files -z --cached --others --exclude-standard | xargs -0 sh -c 'for f; do [ -e "$f" ] && printf "%s\0" "$f"; done' sh |
    tar --null --files-from=- --create --owner=0 --group=0 |
    "$engine" run --rm --interactive --init --network="${TEST_NETWORK:-none}" --memory="${TEST_MEMORY:-12g}" \
        ${data[@]+"${data[@]}"} "$image" bash -euc '
        tar --extract --no-same-owner
        uv pip install --quiet --no-cache --offline --no-deps --no-build-isolation --editable .
        python -c "
import sys, apache_beam, keras, numpy, tensorflow, tfx
print(f\"Python {sys.version.split()[0]}, TFX {tfx.__version__}, TensorFlow {tensorflow.__version__},\",
      f\"Keras {keras.__version__}, Beam {apache_beam.__version__}, numpy {numpy.__version__}\")" 2>/dev/null
        exec python -m pytest "$@"' bash "$@"
