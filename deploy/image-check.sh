#!/usr/bin/env bash
# Builds the image and runs it as in production, by podman: make image-check. Skipped, with a word, where podman is absent.
#
#   deploy/image-check.sh denoised:0.1.0 [arguments of podman build]
#
# A read-only root, no capabilities, another user, a memory limit; an image is cleaned through it; metrics are scraped;
# SIGTERM ends it with 0. Then the same with the rendered local overlay, by `podman kube play`.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v podman >/dev/null; then
    echo 'skipped: podman is absent, and nothing else here runs Kubernetes manifests' >&2
    exit 0
fi
image=$1
shift
PYTHON=${PYTHON:-.venv/bin/python}
name=denoised-check-$$
work=$(mktemp -d)
cleanup() {
    podman rm --force --ignore "$name" >/dev/null 2>&1 || true
    [ ! -e "$work/play.yaml" ] || podman kube down "$work/play.yaml" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT

clean_one() {
    PYTHONPATH=proto "$PYTHON" - "$1" <<'END'
import sys
import numpy as np
from denoised import Client

noisy = np.random.default_rng(1).normal(128, 25, (200, 300, 3)).clip(0, 255).astype(np.uint8)
with Client(sys.argv[1]) as client:
    clean = client.clean(noisy, timeout_s=120).image
assert clean.shape == noisy.shape and clean.std() < 0.8 * noisy.std(), (clean.shape, clean.std(), noisy.std())
END
}

wait_ready() {
    for _ in $(seq 240); do
        if "$PYTHON" -c "import sys, urllib.request; urllib.request.urlopen('http://$1/readyz', timeout=2)" 2>/dev/null; then
            return
        fi
        sleep 0.5
    done
    echo "not ready: $1" >&2
    exit 1
}

podman build --format docker --target service --tag "$image" "$@" .
podman image inspect "$image" --format 'size {{.Size}} bytes'

podman run --detach --name "$name" --read-only --read-only-tmpfs=false --tmpfs /tmp:rw,noexec,nosuid,size=64m --cap-drop=ALL \
    --security-opt=no-new-privileges --user 65532:65532 --memory 1g --pids-limit 256 \
    --env DENOISED_PLAINTEXT_ALLOWED=true --publish 127.0.0.1:50151:50051 --publish 127.0.0.1:8181:8081 "$image" >/dev/null
wait_ready 127.0.0.1:8181
podman healthcheck run "$name"
clean_one 127.0.0.1:50151
"$PYTHON" -c "
import urllib.request
text = urllib.request.urlopen('http://127.0.0.1:8181/metrics', timeout=5).read().decode()
assert 'denoised_images_total{' in text and 'denoised_state{state=\"serving\"} 1' in text"
for tool in pip gcc; do
    if podman exec "$name" sh -c "command -v $tool"; then
        echo "$tool is in the image" >&2
        exit 1
    fi
done
podman stop --time 60 "$name" >/dev/null
code=$(podman inspect "$name" --format '{{.State.ExitCode}}')
[ "$code" = 0 ] || { echo "SIGTERM ended it with $code" >&2; exit 1; }
podman rm "$name" >/dev/null
echo 'the image holds: read-only, without capabilities, metrics, an image cleaned, SIGTERM'

# podman plays no Namespace, autoscaler or budget, pulls what it is told never to pull under another name, and publishes
# no ports unless told.
kubectl kustomize deploy/overlays/local | "$PYTHON" -c "
import sys, yaml
kept = [o for o in yaml.safe_load_all(sys.stdin) if o['kind'] in ('ConfigMap', 'Deployment')]
for each in kept:
    each['metadata'].pop('namespace', None)
    if each['kind'] == 'Deployment':
        each['spec']['replicas'] = 1
        (container,) = each['spec']['template']['spec']['containers']
        container['image'] = '$image'
        # Its restart by the liveness probe is unusable, and its probes ask inside the container by programs that are not there.
        for probe in ('startupProbe', 'readinessProbe', 'livenessProbe'):
            container.pop(probe)
        for port, host in zip(container['ports'], (50152, 8182)):
            port['hostPort'] = host
            port['hostIP'] = '127.0.0.1'
yaml.safe_dump_all(kept, sys.stdout)" >"$work/play.yaml"
podman kube play "$work/play.yaml" >/dev/null
wait_ready 127.0.0.1:8182
clean_one 127.0.0.1:50152
podman kube down "$work/play.yaml" >/dev/null
rm "$work/play.yaml"
echo 'the rendered local overlay holds: an image cleaned through it'
