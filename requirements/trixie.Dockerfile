# Python 3.13 with py313-tfx121.txt on Debian 13, whose glibc (2.41) is new enough for TFX 1.21's wheels.
# Built and used by test_in_trixie.sh; the project's own image is the Dockerfile above.
ARG UV_VERSION=0.13.8
FROM ghcr.io/astral-sh/uv:${UV_VERSION} AS uv

FROM docker.io/library/debian:trixie-slim
# hadolint ignore=DL3008
RUN export DEBIAN_FRONTEND=noninteractive && apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates curl ffmpeg g++ make mariadb-server postgresql python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home tester \
    && install -d -o tester /opt/venv /cache
USER 1000
ENV UV_CACHE_DIR=/cache \
    UV_COMPILE_BYTECODE_TIMEOUT=0 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never \
    VIRTUAL_ENV=/opt/venv \
    PATH=/opt/venv/bin:$PATH
COPY --from=uv /uv /usr/local/bin/uv
COPY py313-tfx121.txt /tmp/
RUN --mount=type=cache,target=/cache,uid=1000 \
    python3.13 -m venv --without-pip --clear "$VIRTUAL_ENV" \
    && uv pip sync --quiet --require-hashes --compile-bytecode /tmp/py313-tfx121.txt
WORKDIR /home/tester/autotag
