#!/bin/bash
# airgap.sh - images from tarballs in the images directory: docker-archive and OCI layout, plain, gzip and zstd, without
# any registry.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
images=$work/data/agent/images
mkdir -p "$images"
busybox_tar "$layer" || exit 1

# image NAME LAYER_COMPRESSION: an OCI layout in $work/NAME
image() { oci_layout "$work/$1" "docker.io/library/$1:1" "$layer" "$2"; }
names=(oci-plain oci-gzip oci-zstd docker-plain docker-gzip docker-zstd)
image oci-plain none && tar -C "$work/oci-plain" -cf "$images/oci-plain.tar" .
image oci-gzip gzip && tar -C "$work/oci-gzip" -czf "$images/oci-gzip.tar.gz" .
image oci-zstd zstd && tar -C "$work/oci-zstd" -cf - . | zstd -q > "$images/oci-zstd.tar.zst"
for c in plain gzip zstd; do
    image docker-$c gzip &&
        skopeo --insecure-policy copy -q "oci:$work/docker-$c:docker.io/library/docker-$c:1" \
            "docker-archive:$work/docker-$c.tar:docker.io/library/docker-$c:1" || exit 1
done
mv "$work/docker-plain.tar" "$images/"
gzip -c "$work/docker-gzip.tar" > "$images/docker-gzip.tgz"
zstd -q "$work/docker-zstd.tar" -o "$images/docker-zstd.tar.zst"
# and what cannot be read is told, and keeps nothing else from working
head -c 100000 "$images/oci-plain.tar" > "$images/truncated.tar"
echo 'no archive' > "$images/text.tar"

start_server
eventually 10 'there is a default account' default_account
pods=()
for name in "${names[@]}"; do
    pods+=("pod/$name")
    apply << END
apiVersion: v1
kind: Pod
metadata: {name: $name}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: "$name:1", imagePullPolicy: Never, command: [sleep, "1000"]}
END
done
check 'pods of all six run' kubectl wait --for=condition=Ready "${pods[@]}" --timeout=20s
for name in "${names[@]}"; do
    is 'root' "$name has its files" kubectl exec "$name" -- sh -c 'id -un'
done
eventually 5 'the log names the truncated archive' grep -E '(WARN|ERRO).*truncated\.tar' "$work/server.log"
check 'the log names what is no archive' grep -E '(WARN|ERRO).*text\.tar' "$work/server.log"

# one that comes while the server is stopped
stop_server
image later gzip && tar -C "$work/later" -czf "$images/later.tar.gz" .
start_server
apply << 'END'
apiVersion: v1
kind: Pod
metadata: {name: later}
spec: {containers: [{name: main, image: "later:1", imagePullPolicy: Never, command: [sleep, "1000"]}]}
END
eventually 15 'a tarball that came later is imported at the next start' ready later
apply << 'END'
apiVersion: v1
kind: Pod
metadata: {name: absent}
spec: {containers: [{name: main, image: "absent:1", imagePullPolicy: Never}]}
END
eventually 10 'an image that is in none of them: ErrImageNeverPull' \
    sh -c "'$kubectl_bin' get pod absent -o jsonpath='{.status.containerStatuses[0].state.waiting.reason}' | grep ErrImageNeverPull"
