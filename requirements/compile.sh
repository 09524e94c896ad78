#!/bin/sh
# Writes every lock file of this directory; called by `make lock`. Pins stay as they are, unless UPGRADE=1.
#
# dev.txt is the widest and comes first. What shares an environment with it takes its versions from it.
set -eu
cd "$(dirname "$0")/.."
"${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "locks are made by the oldest supported Python, 3.11")'

compile() {
    lock=$1
    shift
    CUSTOM_COMPILE_COMMAND="make lock" "${PYTHON:-python3}" -m piptools compile --quiet ${UPGRADE:+--upgrade} \
        --strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
        --output-file "requirements/$lock.txt" "$@"
}

compile dev --generate-hashes --extra service --extra demo --extra dev --build-deps-for wheel pyproject.toml
compile demo --generate-hashes --extra service --extra demo --constraint requirements/dev.txt pyproject.toml
compile service --generate-hashes --extra service --constraint requirements/dev.txt pyproject.toml
compile client --generate-hashes --constraint requirements/dev.txt pyproject.toml
compile proto --generate-hashes requirements/proto.in
compile lock --generate-hashes requirements/lock.in
compile ops --generate-hashes requirements/ops.in

# Torch comes from different places on different machines (CPU builds have a local version and no CUDA packages), so
# that its lock has no hashes and names neither: what is right for the machine comes with torch itself.
compile training --annotation-style line --extra training --constraint requirements/dev.txt \
    pyproject.toml requirements/training.in
sed -i -E -e 's/^(torch==[^+ ]+)\+[^ ]+/\1/' -e '/^(nvidia-|cuda-|triton==)/d' requirements/training.txt
