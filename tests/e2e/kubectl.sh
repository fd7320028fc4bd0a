#!/bin/bash
# kubectl.sh - what people do with kubectl, with 1.35 and with 1.20, without a warning of a server that is not quite one.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
: "${work:?}"
start_registry_here
start_server
eventually 10 'there is a default account' default_account

cat > "$work/app.yaml" << 'END'
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 1
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: main, image: busybox, command: [sh, -c, 'echo started; exec httpd -f -p 8080'], ports: [{containerPort: 8080}]}
END

# quiet WHAT ARGUMENT...: kubectl with these succeeds, and says nothing on stderr
quiet() {
    local what="$version: $1" out
    shift
    out=$(kubectl "$@" 2>&1 > /dev/null) && [ -z "$out" ] && echo "ok: $what" || fail "$what: kubectl $* says: $out"
}
terminal() { script -qec "'$kubectl_bin' exec -it deployment/app -- sh -c 'tty; stty size; exit 3'" /dev/null < /dev/null; }

session() {
    version=$1
    kubectl_bin=$(kubectl_path "$1") || { echo "kubectl 1.$1 cannot be had here: its part is left out"; return; }
    quiet 'version' version
    quiet 'cluster-info' cluster-info
    says 'deployments +deploy +apps/v1 +true +Deployment' "$version: api-resources" kubectl api-resources
    says '^networking.k8s.io/v1$' "$version: api-versions" kubectl api-versions
    says 'replicas' "$version: explain" kubectl explain deployment.spec
    quiet 'apply' apply -f "$work/app.yaml"
    is 'deployment.apps/app unchanged' "$version: apply again" kubectl apply -f "$work/app.yaml"
    check "$version: rollout status" kubectl rollout status deployment/app --timeout=20s
    says 'app +1/1 +1 +1' "$version: get" kubectl get deployments
    says '10\.42\.' "$version: get -o wide" kubectl get pods -o wide
    says 'kind: Deployment' "$version: get -o yaml" kubectl get deployment app -o yaml
    says 'ScalingReplicaSet' "$version: describe, with events" kubectl describe deployment app
    says 'Normal +Started ' "$version: describe pods" kubectl describe pods -l app=app
    quiet 'describe node' describe node node1
    is 'started' "$version: logs" kubectl logs deployment/app
    is 'started' "$version: logs -f" timeout -s INT 2 "$kubectl_bin" logs -f deployment/app --tail=1
    is 'typed' "$version: exec -i" sh -c "echo typed | '$kubectl_bin' exec -i deployment/app -- cat"
    refuses 'exit code 3' "$version: exec -it, exit code" terminal
    quiet 'label' label deployment app tier=front
    quiet 'annotate' annotate deployment app note=hello
    is 'front hello' "$version: both are there" jsonpath deployment/app '{.metadata.labels.tier} {.metadata.annotations.note}'
    says 'edited' "$version: edit" env KUBE_EDITOR='sed -i s/hello/changed/' "$kubectl_bin" edit deployment app
    is 'changed' "$version: what it changed" jsonpath deployment/app '{.metadata.annotations.note}'
    quiet 'scale' scale deployment app --replicas=2
    check "$version: rollout of two" kubectl rollout status deployment/app --timeout=20s
    quiet 'set env' set env deployment/app COLOUR=blue
    check "$version: rollout of the change" kubectl rollout status deployment/app --timeout=30s
    says '^2 ' "$version: rollout history" kubectl rollout history deployment/app
    quiet 'rollout undo' rollout undo deployment/app
    check "$version: rollout back" kubectl rollout status deployment/app --timeout=30s
    is '' "$version: undone" jsonpath deployment/app '{.spec.template.spec.containers[0].env}'
    quiet 'rollout restart' rollout restart deployment/app
    check "$version: restarted" kubectl rollout status deployment/app --timeout=30s
    quiet 'wait' wait --for=condition=Available deployment/app --timeout=10s
    kubectl port-forward deployment/app 18081:8080 > "$work/forward.out" 2>&1 &
    local forward=$!
    eventually 5 "$version: port-forward" web -f http://127.0.0.1:18081/
    kill $forward
    wait $forward 2> /dev/null
    quiet 'create' create configmap one --from-literal=a=b
    refuses 'AlreadyExists|already exists' "$version: create twice" kubectl create configmap one --from-literal=a=c
    quiet 'patch' patch configmap one --type=merge -p '{"data":{"a":"z"}}'
    is z "$version: patched" jsonpath configmap/one '{.data.a}'
    quiet 'delete' delete configmap/one deployment/app
    eventually 15 "$version: pods of it are gone" sh -c "[ -z \"\$('$kubectl_bin' get pods -l app=app -o name)\" ]"
}
session 35
session 20
