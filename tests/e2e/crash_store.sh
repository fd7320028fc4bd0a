#!/bin/bash
# crash_store.sh - no acknowledged write is lost when the power goes.
#
# An ext4 file system on a loop device whose backing file lies on XFS with reflinks: a clone of the backing file is, at
# one instant, what had reached the "disk". It is mounted (the journal is replayed) and the store in it must hold
# everything that was acknowledged before the clone was made. That the test can tell is shown with a store that syncs
# too little (synchronous=NORMAL), which must be caught.
#
# Environment: BUILD (has tools/store_ack), ROUNDS (default 12), V=1 (a line a round).
# Needs root, loop devices and mkfs.xfs; exits 77 where these are lacking.
set -uo pipefail
ROUNDS=${ROUNDS:-12}
cd "$(dirname "$0")/../.." || exit 1
ACK=$(realpath "${BUILD:-build/amd64}/tools/store_ack" 2> /dev/null)
[ -x "$ACK" ] || ACK=$(command -v "${STORE_ACK:-store_ack}") || { echo "build it first: make tools"; exit 1; }

skip() { echo "$*"; exit 77; }
[ "$(id -u)" = 0 ] || skip "needs root"
command -v mkfs.xfs > /dev/null && command -v mkfs.ext4 > /dev/null || skip "needs mkfs.xfs and mkfs.ext4 (xfsprogs, e2fsprogs)"
losetup -f > /dev/null 2>&1 || skip "no loop devices"
[ -n "${IN_NS:-}" ] || exec env IN_NS=1 unshare -m --propagation private "$0" "$@" || skip "no mount namespaces"

dir=$(mktemp -d "${TEST_TMP:-/tmp}/crash.XXXXXX") writer=
cleanup() {
    [ -z "$writer" ] || { kill -9 "$writer"; wait "$writer"; } 2> /dev/null
    umount -l "$dir/snap" "$dir/node" "$dir/xfs" 2> /dev/null
    rm -rf "$dir"
}
trap cleanup EXIT
mkdir "$dir/xfs" "$dir/node" "$dir/snap"
truncate -s 700M "$dir/base"
mkfs.xfs -q -m reflink=1 "$dir/base" || skip "mkfs.xfs cannot make reflinks"
mount -o loop "$dir/base" "$dir/xfs" 2> "$dir/err" || skip "cannot mount XFS: $(cat "$dir/err")"

# One power cut: prints "acked=... broken=..." and returns whether everything promised was there.
cut_power() {
    local n rev
    sleep "0.$((RANDOM % 400 + 100))"
    kill -STOP "$writer"
    # Only whole lines: the writer may have been stopped inside one.
    read -r n rev < <(sed -n 's/^ACK \([0-9]*\) \([0-9]*\)$/\1 \2/p' "$dir/acks" | tail -1)
    cp --reflink=always "$dir/xfs/disk" "$dir/xfs/clone"
    kill -CONT "$writer"
    mount -o loop "$dir/xfs/clone" "$dir/snap" || { echo "the clone cannot be mounted"; return 1; }
    "$ACK" check "$dir/snap/data" "${n:-0}" "${rev:-0}" 2>&1
    local rc=$?
    umount "$dir/snap"
    rm "$dir/xfs/clone"
    return $rc
}

# crash SYNCHRONOUS: the number of power cuts that lost something, in $lost.
crash() {
    lost=0
    truncate -s 96M "$dir/xfs/disk"
    mkfs.ext4 -q -F "$dir/xfs/disk" && mount -o loop "$dir/xfs/disk" "$dir/node" || exit 1
    "$ACK" write "$dir/node/data" "$1" > "$dir/acks" &
    writer=$!
    for ((i = 0; i < 100; i++)); do
        [ -s "$dir/acks" ] && break
        sleep 0.05
    done
    for ((round = 1; round <= ROUNDS; round++)); do
        said=$(cut_power) || lost=$((lost + 1))
        [ -z "${V:-}" ] || echo "$1 round $round: $said"
        [ "$1" != NORMAL ] || [ $lost -lt 2 ] || break
    done
    kill -0 "$writer" 2> /dev/null || { echo "the writer ended by itself"; exit 1; }
    kill -9 "$writer"
    wait "$writer" 2> /dev/null
    writer=
    acks=$(wc -l < "$dir/acks")
    umount "$dir/node"
    rm "$dir/xfs/disk"
}

rc=0
crash FULL
echo "synchronous=FULL: $ROUNDS power cuts, $acks acknowledged writes, $lost cuts with losses"
[ $lost = 0 ] && [ "$acks" -gt 100 ] || rc=1
crash NORMAL
echo "synchronous=NORMAL: losses found in $lost of $round power cuts (some are expected: it shows that the test can tell)"
[ $lost -gt 0 ] || rc=1
exit $rc
