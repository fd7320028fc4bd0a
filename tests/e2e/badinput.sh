#!/bin/bash
# badinput.sh - what is wrong is refused, and the message names it.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
: "${work:?}" "${run_dir:?}"
has python3 || skip 'needs python3'
start_registry_here

# --- the command line
mapfile -t flags < <(server_flags)
touch "$work/config.yaml"
refuses '--no-such-flag' 'an unknown flag' "$DORY" server --no-such-flag
refuses 'DORY_NO_SUCH' 'an unknown variable' env DORY_NO_SUCH=1 "$DORY" server "${flags[@]}"
echo 'no-such-key: 1' > "$work/bad.yaml"
refuses 'bad.yaml: no-such-key' 'an unknown key of the file' "$DORY" server --config "$work/bad.yaml"
echo 'data-dir: [' > "$work/bad.yaml"
refuses 'bad.yaml' 'a file that is no YAML' "$DORY" server --config "$work/bad.yaml"
refuses '70000' 'a port that is none' "$DORY" server "${flags[@]}" --https-listen-port 70000
refuses 'cluster-cidr' 'a network that is none' "$DORY" server "${flags[@]}" --cluster-cidr 10.0.0.0
mkdir -p "$work/broken/server/db"
head -c 8192 /dev/urandom > "$work/broken/server/db/state.db"
sum=$(sha256sum < "$work/broken/server/db/state.db")
refuses 'state.db' 'a database that is none' timeout 10 "$DORY" server "${flags[@]}" --data-dir "$work/broken"
is "$sum" 'it is left as it was' sh -c "sha256sum < '$work/broken/server/db/state.db'"

# --- manifests
start_server
eventually 10 'there is a default account' default_account
# try PATTERN WHAT: applies stdin, which must be refused
try() { refuses "$1" "$2" kubectl apply "${@:3}" -f -; }
try 'yaml|YAML' 'a broken manifest' <<< 'kind: [Pod'
try 'no matches for kind "Nothing"' 'an unknown kind' <<< '{apiVersion: v1, kind: Nothing, metadata: {name: a}}'
field='{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, datum: {a: b}}'
try 'unknown field.*datum' 'an unknown field, strict' --validate=strict <<< "$field"
says 'unknown field.*datum' 'an unknown field, warned of' sh -c "echo '$field' | '$kubectl_bin' apply --validate=warn -f -"
try 'data|string' 'a wrong type' --validate=false <<< '{apiVersion: v1, kind: ConfigMap, metadata: {name: b}, data: [1]}'
try 'metadata.name.*Not_A_Name' 'a name that is none' <<< '{apiVersion: v1, kind: ConfigMap, metadata: {name: Not_A_Name}}'
try 'spec.containers' 'a pod without containers' --validate=false <<< '{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {}}'
try 'selector' 'a selector that selects something else' << 'END'
{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: a, image: a}]}}}}
END

# --- who is asking
refuses '401' 'an anonymous request' web -kf https://127.0.0.1:6443/api/v1/pods
refuses '401' 'a wrong token' web -kf -H 'Authorization: Bearer nonsense' https://127.0.0.1:6443/api/v1/pods
is ok 'health needs no name' web -k https://127.0.0.1:6443/readyz

# --- images
pod() { # NAME IMAGE
    apply <<< "{apiVersion: v1, kind: Pod, metadata: {name: $1}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: '$2', command: [sleep, '1000']}]}}"
}
events_of() { kubectl get events --field-selector "involvedObject.name=$1" -o 'jsonpath={range .items[*]}{.reason} {.message}{"\n"}{end}'; }
# tells POD PATTERN WHAT: an event of the pod says it
tells() { eventually 20 "$3" sh -c "KUBECONFIG='$KUBECONFIG' '$kubectl_bin' get events --field-selector involvedObject.name=$1 -o 'jsonpath={range .items[*]}{.message}{\"\n\"}{end}' | grep -iE '$2'"; }
pod absent nothing/here:1
tells absent 'nothing/here.*(not found|unknown|404)' 'an image that does not exist is named'
eventually 10 'and the pod waits with ErrImagePull or back-off' sh -c "'$kubectl_bin' get pod absent | grep -E 'ErrImagePull|ImagePullBackOff'"
pod nonsense 'UPPER:::case'
tells nonsense 'UPPER:::case' 'an image name that is none'
pod digest "busybox@sha256:$(printf '0%.0s' {1..64})"
tells digest '0000000000' 'a digest that is not there'

# a registry that gives other bytes than the digest promises, layers that leave their directory, and a bomb
evil() { # NAME LAYER_TAR
    oci_layout "$work/evil-$1" latest "$2" && push "$work/evil-$1:latest" "127.0.0.1:5055/library/evil-$1:latest" || fail "push evil-$1"
}
python3 - "$work" << 'END'
import io, sys, tarfile
w = sys.argv[1]
def make(name, entries):
    with tarfile.open('%s/%s.tar' % (w, name), 'w') as t:
        for kind, path, target in entries:
            i = tarfile.TarInfo(path)
            if kind == 'file': i.size = 5; t.addfile(i, io.BytesIO(b'evil\n'))
            else: i.type = tarfile.SYMTYPE; i.linkname = target; t.addfile(i)
make('dots', [('file', '../../../../../../../../tmp/dory-e2e-escaped', None)])
make('link', [('link', 'out', '/tmp'), ('file', 'out/dory-e2e-escaped', None)])
END
rm -f /tmp/dory-e2e-escaped
evil dots "$work/dots.tar"
evil link "$work/link.tar"
pod dots evil-dots
pod link evil-link
tells dots '\.\./' 'a layer with ../ is refused by name'
sleep 1
check 'neither it nor an absolute link wrote outside' test ! -e /tmp/dory-e2e-escaped
oci_layout "$work/altered" latest "$layer" && push "$work/altered:latest" 127.0.0.1:5055/library/altered:latest
blob=$(grep -oE 'sha256:[0-9a-f]+' "$work/altered/blobs/sha256/$(grep -oE 'sha256:[0-9a-f]+' "$work/altered/index.json" | cut -d: -f2)" | tail -n 1 | cut -d: -f2)
cp /etc/passwd "$work/other" && tar -C "$work" -cf "$work/other.tar" other && evil altered "$work/other.tar"
other=$(grep -oE 'sha256:[0-9a-f]+' "$work/evil-altered/blobs/sha256/$(grep -oE 'sha256:[0-9a-f]+' "$work/evil-altered/index.json" | cut -d: -f2)" | tail -n 1 | cut -d: -f2)
file=$(find "$work/registry" -path "*blobs/sha256*$other*" -name data)
head -c "$(stat -c %s "$file")" /dev/urandom > "$work/noise" && cp "$work/noise" "$file"
pod altered evil-altered
tells altered 'digest|match|size|bytes' 'bytes that do not match their digest'
check "the busybox layer $blob is still good" sh -c "KUBECONFIG='$KUBECONFIG' '$kubectl_bin' run fine --image=busybox --command -- sleep 1000 && '$kubectl_bin' wait --for=condition=Ready pod/fine --timeout=20s"

# a port in use, an old database: see restart.sh; truncated tarballs: airgap.sh
