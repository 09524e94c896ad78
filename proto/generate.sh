#!/bin/sh
# Regenerates the committed stubs; CI fails when that changes a byte.
# Other languages need the same two -I; third_party holds the google.rpc files that the API imports.
# grpcio-tools is pinned to the oldest release that we support (see docs/adr/0007): generated code runs on newer
# run-times, never on older ones.
set -eu
cd "$(dirname "$0")"
"${PYTHON:-python3}" -m grpc_tools.protoc -I. -Ithird_party \
    --python_out=. --pyi_out=. --grpc_python_out=. \
    denoised/v1/denoised.proto
