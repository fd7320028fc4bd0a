# shellcheck shell=bash
# lib.sh - what the end-to-end tests share. A test sources it first thing:
#
#   . "$(dirname "$0")/lib.sh"
#
# and then runs in a network namespace of its own (with a default route that leads nowhere), with a folder $work that is
# removed after it. start_registry_here and start_server give it a registry and a server; whatever it started is ended
# when it exits, and something left behind (a process, a mount, a link) fails it. Steps are checked with `check`,
# `eventually`, `says` and `refuses`; a failed one is told and counted, the test goes on.
#
# Environment: DORY (the binary), BUILD, TEST_TMP; KEEP=1 leaves $work in place.
set -uo pipefail
export LC_ALL=C
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/demo/common.sh
. "$top/tests/demo/common.sh"
cd "$top" || exit 1

skip() { echo "$*"; exit 77; }

BUILD=${BUILD:-$(dirname "$(ls -t "$top"/build/*/dory 2> /dev/null | head -n 1)" 2> /dev/null)}
DORY=${DORY:-$BUILD/dory}
[ "$(id -u)" = 0 ] || skip 'needs root'
[ -x "$DORY" ] || { echo "there is no $DORY: make"; exit 1; }
for command in ip nsenter curl docker-registry skopeo busybox zstd; do
    has "$command" || skip "needs $command"
done

# --- a network of its own -------------------------------------------------------------------------

node_ip=192.168.77.2
if [ "${E2E_NS:-}" != "$0" ]; then
    ns=dory-e2e-$$
    # the clients come from outside, so before the network is left
    any_kubectl > /dev/null || skip 'no kubectl: neither from npm nor as a package'
    kubectl_path 20 > /dev/null || true
    ip netns add $ns || skip 'no network namespaces'
    leave_network() { ip netns del $ns 2> /dev/null; }
    trap leave_network EXIT
    trap 'kill $child 2> /dev/null; wait $child; exit 143' TERM INT
    ip -n $ns link set lo up
    # two ends in one namespace: an interface that is up, and a way for packets to other networks to leave by
    ip -n $ns link add uplink type veth peer name away
    ip -n $ns addr add $node_ip/24 dev uplink
    ip -n $ns link set uplink up && ip -n $ns link set away up
    ip -n $ns route add default via 192.168.77.1
    nsenter --net=/run/netns/$ns env E2E_NS="$0" E2E_NAME=$ns bash "$0" "$@" &
    child=$!
    wait $child
    exit
fi

work=$(mktemp -d "${TEST_TMP:-/tmp}/e2e.XXXXXX")
run_dir=/run/$E2E_NAME
kubectl_bin=$(any_kubectl)
export KUBECONFIG=$work/kubeconfig.yaml
failures=0
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY

kubectl() { "$kubectl_bin" "$@"; }

# What is still there of this test's node.
leftovers() {
    awk -v a="$work/" -v b="$run_dir" 'index($5, a) == 1 || index($5, b) == 1 { print "mount " $5 }' /proc/self/mountinfo
    grep -oE '^ *dory[^:]*' /proc/net/dev | sed 's/^ */link /'
    ! has nft || nft list tables 2> /dev/null | grep -w dory
    local uid
    for uid in $1; do
        find /sys/fs/cgroup -type d -name "*$uid*" -print -quit 2> /dev/null
    done
    # in this network, but not this shell or what it just ran
    local p
    for p in $(ip netns pids "$E2E_NAME"); do
        case $(readlink "/proc/$p/exe") in "$DORY" | */docker-registry) echo "process $p $(tr '\0' ' ' < "/proc/$p/cmdline")" ;; esac
    done
}

clean_up() {
    local rc=$? uids left
    trap - EXIT TERM INT
    [ $failures = 0 ] || rc=1
    [ $rc = 0 ] || [ $rc = 77 ] || [ ! -s "$work/server.log" ] || { echo '--- the end of the server log:' && tail -n 25 "$work/server.log"; }
    stop_pid "$work/server.pid" 12
    uids=$(ls "$work/data/agent/pods" 2> /dev/null)
    [ ! -d "$work/data" ] || "$DORY" killall --data-dir "$work/data" --run-dir "$run_dir" || rc=1
    stop_pid "$work/registry.pid" 5
    left=$(leftovers "$uids")
    for uid in $uids; do
        rm -rf /var/log/pods/*_"$uid"
    done
    [ -z "$left" ] || { echo "left behind:"$'\n'"$left" && rc=1; }
    [[ $left == *mount* ]] || rm -rf --one-file-system "$run_dir"
    [[ $left == *mount* ]] || [ -n "${KEEP:-}" ] || rm -rf --one-file-system "$work"
    exit $rc
}
trap clean_up EXIT
trap 'exit 143' TERM INT

# --- the pieces -----------------------------------------------------------------------------------

layer=$work/busybox.tar
registry=127.0.0.1:5055

# A registry that has library/busybox:latest, and registries.yaml with it as the mirror of docker.io.
start_registry_here() {
    busybox_tar "$layer" && oci_layout "$work/busybox" latest "$layer" && start_registry "$work" 5055 &&
        push "$work/busybox:latest" $registry/library/busybox:latest || { echo 'there is no registry'; exit 1; }
    printf 'mirrors:\n  docker.io:\n    endpoint:\n    - http://%s\n' $registry > "$work/registries.yaml"
}

server_flags() {
    printf '%s\n' --data-dir "$work/data" --run-dir "$run_dir" --write-kubeconfig "$KUBECONFIG" --node-name node1 \
        --config "$work/config.yaml" --private-registry "$work/registries.yaml"
}

# start_server [FLAG...]: and waits until its API and, unless told not to (NO_NODE=1), its node are ready.
start_server() {
    local flags i
    touch "$work/config.yaml"
    mapfile -t flags < <(server_flags)
    setsid "$DORY" server "${flags[@]}" "$@" >> "$work/server.log" 2>&1 < /dev/null &
    echo $! > "$work/server.pid"
    disown
    for ((i = 0; i < 200; i++)); do
        alive "$work/server.pid" || { echo 'the server has ended:' && tail -n 5 "$work/server.log" && exit 1; }
        [ ! -s "$KUBECONFIG" ] || [ "$(kubectl get --raw /readyz 2> /dev/null)" != ok ] || break
        sleep 0.05
    done
    [ -n "${NO_NODE:-}" ] || eventually 10 'the node is ready' node_ready
}
node_ready() { [ "$(jsonpath node/node1 '{.status.conditions[?(@.type=="Ready")].status}')" = True ]; }
default_account() { kubectl get serviceaccount default -o name > /dev/null 2>&1; }
stop_server() { stop_pid "$work/server.pid" 12; }
kill_server() {
    kill -9 "$(cat "$work/server.pid")"
    while alive "$work/server.pid"; do sleep 0.01; done
    rm -f "$work/server.pid"
}

# --- checks ---------------------------------------------------------------------------------------

fail() {
    failures=$((failures + 1))
    echo "FAILED: $*"
}
# check WHAT COMMAND...: the command succeeds; its output is shown when it does not.
check() {
    local what=$1 out
    shift
    out=$("$@" 2>&1) && echo "ok: $what" || fail "$what"$'\n'"  \$ $*"$'\n'"$(head -n 30 <<< "$out" | sed 's/^/  /')"
}
# eventually SECONDS WHAT COMMAND...: it does so within that time.
eventually() {
    local limit=$((SECONDS + $1)) what=$2 out
    shift 2
    until out=$("$@" 2>&1); do
        [ $SECONDS -lt $limit ] || { fail "$what (in vain for its time)"$'\n'"  \$ $*"$'\n'"$(head -n 30 <<< "$out" | sed 's/^/  /')"; return 1; }
        sleep 0.1
    done
    echo "ok: $what"
}
# says PATTERN WHAT COMMAND...: the command succeeds, and its output (both streams) matches the extended pattern.
says() { says_with 0 "$@"; }
# refuses PATTERN WHAT COMMAND...: the same, and it fails.
refuses() { says_with 1 "$@"; }
says_with() {
    local want=$1 pattern=$2 what=$3 out rc
    shift 3
    out=$("$@" 2>&1)
    rc=$?
    [ $rc = 0 ] || rc=1
    [ $rc = "$want" ] && grep -qE -- "$pattern" <<< "$out" && echo "ok: $what" && return
    fail "$what: $([ $rc = "$want" ] || echo "exit code not as expected; ")output should match /$pattern/"$'\n'"  \$ $*"$'\n'"$(head -n 30 <<< "$out" | sed 's/^/  /')"
}
# is WANT WHAT COMMAND...: the output is exactly that.
is() {
    local want=$1 what=$2 out
    shift 2
    out=$("$@" 2>&1)
    [ "$out" = "$want" ] && echo "ok: $what" || fail "$what: is '$out', should be '$want'"
}
jsonpath() { kubectl get "$1" -o "jsonpath=$2" 2>&1; }
phase_is() { [ "$(jsonpath "pod/$1" '{.status.phase}')" = "$2" ]; }
ready() { [ "$(jsonpath "pod/$1" '{.status.conditions[?(@.type=="Ready")].status}')" = True ]; }
gone() { ! kubectl get "$1" -o name > /dev/null 2>&1; }
web() { curl -sS -m 3 --noproxy '*' "$@"; }

# apply: what stdin says
apply() { kubectl apply ${APPLY_FLAGS:-} -f - > "$work/apply.out" 2>&1 || fail "apply: $(cat "$work/apply.out")"; }
