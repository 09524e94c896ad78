# Two images: service (the last stage, so the default) and training (--target training). The service's has no torch, and
# neither has compilers or what installs packages.
# A release pins the base by digest: --build-arg PYTHON_IMAGE=python:3.11-slim@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim

# checkov:skip=CKV_DOCKER_7: the tag is in PYTHON_IMAGE
FROM ${PYTHON_IMAGE} AS build
RUN python -m venv --without-pip /venv
COPY requirements/service.txt /tmp/service.txt
RUN pip --python /venv/bin/python install --no-cache-dir --no-compile --require-hashes --requirement /tmp/service.txt
WORKDIR /app
COPY proto proto
COPY service service
# The root file system is read-only where it runs, so that bytecode is written here and never checked again.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash /venv /app

FROM ${PYTHON_IMAGE} AS build-training
# Where another torch than PyPI's comes from, such as one without CUDA: --build-arg TORCH_INDEX_URL=...
ARG TORCH_INDEX_URL=
RUN python -m venv --without-pip /venv
# Without hashes, because torch is another file on every kind of machine.
COPY requirements/training.txt /tmp/training.txt
RUN pip --python /venv/bin/python install --no-cache-dir --no-compile ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} --requirement /tmp/training.txt
WORKDIR /app
COPY proto proto
COPY training training
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash /venv /app

FROM ${PYTHON_IMAGE} AS training
LABEL org.opencontainers.image.title="denoised-training" \
      org.opencontainers.image.description="Makes the networks that denoised serves" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN python -m pip uninstall --yes pip setuptools wheel && rm -rf /usr/local/lib/python3.*/ensurepip
COPY --from=build-training /venv /venv
COPY --from=build-training /app /app
# Matplotlib and torch keep caches; /tmp is what may be written to.
ENV PATH=/venv/bin:$PATH \
    PYTHONPATH=/app:/app/proto \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor \
    HOME=/tmp
WORKDIR /app
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "training"]

FROM ${PYTHON_IMAGE} AS service
LABEL org.opencontainers.image.title="denoised" \
      org.opencontainers.image.description="Noisy images in over gRPC, clean images out" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN python -m pip uninstall --yes pip setuptools wheel && rm -rf /usr/local/lib/python3.*/ensurepip
COPY --from=build /venv /venv
COPY --from=build /app /app
ENV PATH=/venv/bin:$PATH \
    PYTHONPATH=/app:/app/proto \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    GRPC_VERBOSITY=ERROR \
    DENOISED_GRPC_HOST=0.0.0.0 \
    DENOISED_HTTP_HOST=0.0.0.0
WORKDIR /app
USER 65532:65532
EXPOSE 50051 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:%s/healthz' % os.environ.get('DENOISED_HTTP_PORT', '8081'), timeout=2)"]
ENTRYPOINT ["python", "-m", "service"]
