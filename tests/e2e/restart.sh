#!/bin/bash
# restart.sh - the server is killed and stopped under running pods; a second one, and a port in use, are refused.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
: "${work:?}" "${run_dir:?}"
start_registry_here
start_server
eventually 10 'there is a default account' default_account
kubectl apply -f examples/httpd.yaml > /dev/null 2>&1 || fail 'apply'
check 'the application runs' kubectl rollout status deployment/httpd --timeout=20s
state() { kubectl get pods -o 'jsonpath={range .items[*]}{.metadata.uid} {.status.podIP} {.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount}{"\n"}{end}'; }
before=$(state)
ip=$(kubectl get pods -o 'jsonpath={.items[0].status.podIP}')
service=$(jsonpath service/http-server '{.spec.clusterIP}')

mapfile -t flags < <(server_flags)
refuses "$work/data" 'a second server on the same data directory names it' timeout 10 "$DORY" server "${flags[@]}" --https-listen-port 7443 --run-dir "$run_dir-2"
refuses '6443.*another program|another program.*6443' 'a port in use is named' timeout 10 "$DORY" server --data-dir "$work/other" \
    --run-dir "$run_dir-2" --write-kubeconfig "$work/other.yaml" --config "$work/config.yaml" --node-name node2
rm -rf "$run_dir-2"
refuses 'stop it first' 'killall with a running server is refused' "$DORY" killall --data-dir "$work/data" --run-dir "$run_dir"

for round in 1 2 3 4; do
    kubectl create configmap "round-$round" --from-literal=n="$round" > /dev/null || fail "round $round: create"
    sleep "0.$((RANDOM % 9))"
    kill_server
    check "round $round: without a server the pod answers" web -f "http://$ip:8080/"
    check "round $round: and so does its Service" web -f "http://$service/"
    start_server
    is "$round" "round $round: what was acknowledged is there" jsonpath "configmap/round-$round" '{.data.n}'
    is "$before" "round $round: the same containers, nothing restarted" state
done
revision() { kubectl get --raw /api/v1/namespaces/default/configmaps | grep -oE '"resourceVersion":"[0-9]+' | head -n 1 | grep -oE '[0-9]+'; }
before_stop=$(revision)
begin=$SECONDS
stop_server
[ $((SECONDS - begin)) -le 3 ] && echo 'ok: SIGTERM ends it within 3 s' || fail "SIGTERM took $((SECONDS - begin)) s"
check 'after SIGTERM the pod answers' web -f "http://$ip:8080/"
start_server
is "$before" 'the same containers after that' state
check 'revisions do not go backwards' test "$(revision)" -ge "$before_stop"

# changes made by nobody but the kernel meanwhile are seen
kill_server
uid=${before%% *}
for p in $(find /sys/fs/cgroup -path "*$uid*" -name cgroup.procs -exec cat {} + 2> /dev/null | sort -un); do
    [ "$(cat "/proc/$p/comm")" != httpd ] || kill -9 "$p"
done
start_server
restarted() { [ "$(kubectl get pods -o 'jsonpath={.items[0].status.containerStatuses[0].restartCount}')" = 1 ]; }
eventually 15 'a container that died without a server is started again' restarted
eventually 5 'and answers' web -f "http://$service/"
