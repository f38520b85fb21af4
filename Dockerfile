# One image for three uses: a step of the Kubeflow pipeline, a Beam worker, and the command line.
#   docker build -t autotag .                             TensorFlow for the CPU
#   docker build -t autotag:gpu --build-arg DEVICE=gpu .  with CUDA's libraries
#   docker run --rm --network=none --read-only --tmpfs=/tmp -v "$PWD/data:/data" autotag preprocess /data/clips ...
# Versions: requirements/image-cpu.txt and image-gpu.txt, which `make lock` holds to those of py310-tfx116.txt.
ARG PYTHON_VERSION=3.10
ARG UV_VERSION=0.13.8
ARG DEVICE=cpu

FROM ghcr.io/astral-sh/uv:${UV_VERSION} AS uv

FROM docker.io/library/python:${PYTHON_VERSION}-slim-bookworm AS build
# For the few packages that come as source alone. Debian keeps one version of each in a release, and no older ones.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_CACHE_DIR=/cache \
    UV_COMPILE_BYTECODE_TIMEOUT=0 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never \
    VIRTUAL_ENV=/opt/autotag
ARG DEVICE
COPY requirements/image-${DEVICE}.txt /build/requirements.txt
# What no program of ours reads goes: the packages' own tests, C++ headers and static libraries.
RUN --mount=type=cache,target=/cache \
    python -m venv --without-pip "$VIRTUAL_ENV" \
    && uv pip sync --quiet --require-hashes --compile-bytecode /build/requirements.txt \
    && find "$VIRTUAL_ENV" -type d \( -name tests -o -path '*/tensorflow/include' \) -prune -exec rm -rf {} + \
    && find "$VIRTUAL_ENV" -name '*.a' -delete

FROM build AS project
COPY . /build/project
RUN uv pip install --quiet --no-deps --offline --no-build-isolation --compile-bytecode --prefix /build/prefix /build/project

FROM docker.io/library/python:${PYTHON_VERSION}-slim-bookworm
LABEL org.opencontainers.image.title="autotag" \
    org.opencontainers.image.description="From folders of music clips to a served model that names what is heard" \
    org.opencontainers.image.licenses="Apache-2.0"
# /gcs, /minio and /s3 are where Kubeflow's launcher puts a step's artifacts, as whatever user the cluster says.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
    && useradd --uid 65532 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin autotag \
    && install -d -m 1777 /data /gcs /minio /s3
# Dependencies change seldom and are large, the project the other way round: a layer for each.
COPY --from=build /opt/autotag /opt/autotag
COPY --from=project /build/prefix /opt/autotag
COPY --chmod=755 deploy/image/entrypoint.sh /usr/local/bin/entrypoint
ENV PATH=/opt/autotag/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=2
LABEL org.opencontainers.image.version="0.1.0"
USER 65532:65532
WORKDIR /data
ENTRYPOINT ["/usr/local/bin/entrypoint"]
CMD ["--help"]
