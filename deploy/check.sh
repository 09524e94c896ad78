#!/usr/bin/env bash
# Renders every overlay, component and job and runs what can check them without a cluster: make deploy-check.
# Errors are 0, and warnings are for custom resources alone, whose types the validator does not know: those listed here.
set -euo pipefail
cd "$(dirname "$0")/.."

OPS=${OPS:-.venv-ops/bin}
# What only an installation can decide: pull policy and digest of the image, namespace, network policy.
LEFT_TO_OVERLAYS=CKV_K8S_15,CKV_K8S_43,CKV_K8S_21,CKV2_K8S_6
CUSTOM_RESOURCES='GRPCRoute|InferenceService|PrometheusRule|ScaledObject|ServiceMonitor|ServingRuntime'

if ! command -v kubectl >/dev/null; then
    echo 'kubectl is absent: nothing renders the overlays, so that they are not checked' >&2
    exit 0
fi
mkdir -p build/deploy

render() {
    kubectl kustomize "$1" >"build/deploy/$2.yaml"
}

render deploy/base base
for overlay in deploy/overlays/*/; do
    render "$overlay" "$(basename "$overlay")"
done
for job in deploy/jobs/*/; do
    render "$job" "job-$(basename "$job")"
done
# Components are rendered one by one on the base, because no overlay has them all.
trap 'rm -rf deploy/.check' EXIT
for component in deploy/components/*/ deploy/monitoring/; do
    name=$(basename "$component")
    mkdir -p deploy/.check
    cat >deploy/.check/kustomization.yaml <<END
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../base]
components: [../${component#deploy/}]
END
    render deploy/.check "component-$name"
done

for file in build/deploy/*.yaml; do
    said=$("$OPS/kubernetes-validate" --strict -k 1.36 "$file" 2>&1) || { echo "$said"; exit 1; }
    if unknown=$(grep -E '^(WARN|ERROR)' <<<"$said" | grep -vE "($CUSTOM_RESOURCES)"); then
        echo "$file: $unknown"
        exit 1
    fi
done
"$OPS/checkov" --quiet --compact --skip-download --framework kubernetes --skip-check "$LEFT_TO_OVERLAYS" \
    --file build/deploy/base.yaml
"$OPS/checkov" --quiet --compact --skip-download --framework kubernetes --file build/deploy/prod.yaml
echo "$(find build/deploy -name '*.yaml' | wc -l) renderings checked"
