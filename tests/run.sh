#!/bin/bash
# run.sh - runs tests and counts them.
#
#   run.sh unit BUILD PROGRAM...    each program is one test
#
# A test exits 0 when it passed, 77 when it cannot run here (its last line says why), anything else when
# it failed. Environment: RUNNER (put before a program), TEST_TIMEOUT (seconds, default 120), JOBS.
set -uo pipefail
mode=$1 build=$2
shift 2
pass=0 fail=0 skip=0
for t in "$@"; do
    t0=$(date +%s.%N)
    # shellcheck disable=SC2086
    timeout -k 5 "${TEST_TIMEOUT:-120}" ${RUNNER:-} "$t" > "$t.log" 2>&1 < /dev/null
    rc=$?
    secs=$(printf '%.2f' "$(echo "$(date +%s.%N) - $t0" | bc)")
    name=${t#"$build"/}
    case $rc in
        0) pass=$((pass + 1)); printf 'PASS %7ss %s\n' "$secs" "$name" ;;
        77) skip=$((skip + 1)); printf 'SKIP %7ss %s: %s\n' "$secs" "$name" "$(tail -1 "$t.log")" ;;
        *) fail=$((fail + 1)); printf 'FAIL %7ss %s (exit %d)\n' "$secs" "$name" "$rc"; sed 's/^/    /' "$t.log" ;;
    esac
done
echo "$pass passed, $fail failed, $skip skipped"
[ $fail = 0 ]
