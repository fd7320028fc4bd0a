#!/bin/bash
# demo-stop.sh - ends what demo.sh started, and looks whether anything is left.
set -uo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/demo/common.sh
. "$top/tests/demo/common.sh"
demo=$top/build/demo
DORY=${DORY:-$(ls "$top"/build/*/dory 2> /dev/null | head -n 1)}
[ -d "$demo" ] || { echo 'no demonstration runs here'; exit 0; }
[ "$(id -u)" = 0 ] || die 'needs root'

uids=$(ls "$demo/data/agent/pods" 2> /dev/null)
stop_pid "$demo/server.pid" 15
rc=0
if [ -e "$demo/config.yaml" ]; then
    [ -x "$DORY" ] || die 'there is no binary to end the pods with: make'
    "$DORY" killall --config "$demo/config.yaml" || rc=1
fi
stop_pid "$demo/registry.pid" 5
for uid in $uids; do
    rm -rf /var/log/pods/*_"$uid"
done
rmdir /var/log/pods 2> /dev/null

left=
leaves() { [ -z "$2" ] || left+="$1:"$'\n'"$(sed 's/^/  /' <<< "$2")"$'\n'; }
leaves mounts "$(awk -v a="$demo/" -v b=/run/dory-demo '{ if (index($5, a) == 1 || index($5, b) == 1) print $5 }' /proc/self/mountinfo)"
if pgrep -x dory-monitor > /dev/null || pgrep -f '(^|/)dory(\.debug)? server' > /dev/null; then
    echo 'another node runs on this machine: its network, cgroups and processes are left alone'
    for uid in $uids; do
        leaves cgroups "$(find /sys/fs/cgroup -type d -name "*$uid*" 2> /dev/null)"
    done
else
    find /sys/fs/cgroup -depth -type d \( -path '*/dory/*' -o -name dory \) -exec rmdir {} + 2> /dev/null
    leaves processes "$(pgrep -a 'dory')"
    leaves cgroups "$(find /sys/fs/cgroup -type d -name dory 2> /dev/null)"
    leaves 'network links' "$(grep -hoE '^ *(dory0|veth-?dory[^:]*)' /proc/net/dev)"
    ! has nft || leaves 'nft tables' "$(nft list tables 2> /dev/null | grep -w dory)"
fi
# what is mounted there must not be deleted through the mount
[[ $left == mounts:* ]] || rm -rf --one-file-system /run/dory-demo "$demo" || rc=1
[ ! -e /run/dory-demo ] || leaves files /run/dory-demo
[ -z "$left" ] || { printf 'still there:\n%s' "$left" >&2; exit 1; }
[ $rc != 0 ] || echo 'the demonstration has ended: no process, mount, namespace, cgroup, nft table or file is left'
exit $rc
