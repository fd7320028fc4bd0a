#!/bin/bash
# run.sh - runs tests, prints a line for each, and counts them. Called by the Makefile.
#
#   run.sh unit BUILD PROGRAM...     each program is a test; several at a time
#   run.sh corpus BUILD PROGRAM...   each fuzz target over its corpus
#   run.sh fuzz BUILD PROGRAM...     each fuzz target for FUZZ_SECONDS (default 20)
#   run.sh e2e BUILD SCRIPT...       each script is a test; one after the other
#   run.sh lint DIR                  the checks of tests/lint, over LINT_FILES
#   run.sh all                       all of it, on every architecture: `make test`
#
# A test exits 0 when it passed, 77 when it cannot run here (its last line of output says why), anything
# else when it failed; then its output is shown. It runs in the top directory of the tree and has
#   BUILD, DORY       absolute: the build directory, the binary
#   TEST_TMP          a directory of its own, removed after it (kept when it failed)
#   TEST_EMULATED     1 under qemu-user, where the kernel's newer calls and netfilter are missing
#
# Environment: RUNNER (put before a program), TEST_TIMEOUT (seconds; default 120, e2e 400), JOBS,
# TEST_RESULTS (a file that gets a line for each test; used by "all" to add up).
set -uo pipefail
export LC_ALL=C
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 1

now() { date +%s%N; }

# one NAME LOG COMMAND...: runs one test and prints its line.
one() {
    local name=$1 log=$2 t0 rc secs verdict reason=''
    shift 2
    mkdir -p "$(dirname "$log")"
    TEST_TMP=$(mktemp -d "${TMPDIR:-/tmp}/dory-test.XXXXXX")
    export TEST_TMP
    t0=$(now)
    timeout -k 10 "$TEST_TIMEOUT" "$@" > "$log" 2>&1 < /dev/null
    rc=$?
    secs=$((($(now) - t0) / 1000000))
    secs=$(printf '%d.%02d' $((secs / 1000)) $((secs % 1000 / 10)))
    case $rc in
        0) verdict=PASS ;;
        77) verdict=SKIP reason=": $(tail -n 1 "$log")" ;;
        124 | 137) verdict=FAIL reason=" (exit $rc, time limit $TEST_TIMEOUT s)" ;;
        *) verdict=FAIL reason=" (exit $rc)" ;;
    esac
    if [ $verdict = FAIL ]; then
        rmdir "$TEST_TMP" 2> /dev/null || reason="$reason, left in $TEST_TMP"
        # one write, so that tests running at the same time do not mix
        printf '%s %7ss  %s%s\n%s\n' $verdict "$secs" "$name" "$reason" \
            "$([ -s "$log" ] && tail -n 100 "$log" | sed 's/^/      | /' || echo '      (no output)')"
    else
        rm -rf "$TEST_TMP"
        printf '%s %7ss  %s%s\n' $verdict "$secs" "$name" "$reason"
    fi
    echo "$verdict" >> "$TEST_RESULTS"
}

count() { grep -c "^$1" "$TEST_RESULTS"; }
summary() {
    echo "$(count PASS) passed, $(count FAIL) failed, $(count SKIP) skipped"
    [ "$(count FAIL)" = 0 ]
}

# Runs the lines of stdin (NAME|LOG|COMMAND) as tests, $1 at a time. Prints the sum unless "all" will.
run_tests() {
    local jobs=$1 own=''
    [ -n "${TEST_RESULTS:-}" ] || { own=$(mktemp) && export TEST_RESULTS=$own; }
    export -f one now
    export TEST_TIMEOUT
    # shellcheck disable=SC2016
    xargs -r -d '\n' -P "$jobs" -n 1 bash -c 'IFS="|" read -r name log command <<< "$0"; one "$name" "$log" bash -c "$command"'
    [ -n "$own" ] || return 0
    summary
    local rc=$?
    rm -f "$own"
    return $rc
}

# `make test`: every part is a make of its own; a part that cannot be built is a failed test.
all() {
    TEST_RESULTS=$(mktemp)
    export TEST_RESULTS
    trap 'rm -f "$TEST_RESULTS"' EXIT
    local make=${MAKE:-make} t0=$SECONDS
    part() { # part TITLE 'what to build' 'what to run' VARIABLE=...
        local title=$1 build=$2 run=$3
        shift 3
        echo "== $title"
        # shellcheck disable=SC2086
        TEST_TIMEOUT=3600 one "build: $title" "build/test-logs/${title//[^a-zA-Z0-9]/-}.log" $make -sk "$@" $build
        # shellcheck disable=SC2086
        [ -z "$run" ] || $make -k "$@" $run
    }
    host=$($make -s print-HOST_ARCH)
    part 'lint' 'deps-host' 'lint'
    part "unit tests, $host" 'unit-build' 'unit-run' ARCH="$host"
    part 'unit tests, address and undefined behaviour sanitizers' 'unit-build' 'unit-run' SAN=asan
    part 'unit tests, thread sanitizer' 'unit-build' 'unit-run' SAN=tsan
    part 'fuzz targets over their corpora' 'fuzz-build' 'corpus-run' SAN=asan
    for arch in amd64 arm64 armv7 riscv64; do
        [ "$arch" = "$host" ] || part "unit tests, $arch" 'all unit-build' 'unit-run' ARCH="$arch"
    done
    part 'end to end' 'all tools' 'e2e-run' ARCH="$host"
    echo "== all in $(((SECONDS - t0) / 60)) min $(((SECONDS - t0) % 60)) s"
    summary
}

mode=${1:-}
[ "$mode" = all ] || { [ $# -ge 2 ] && build=$2 && shift 2; } || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 2; }
case $mode in
    unit | corpus | fuzz | e2e)
        mkdir -p "$build"
        BUILD=$(cd "$build" && pwd)
        DORY=$BUILD/dory
        case ${RUNNER:-} in qemu*) TEST_EMULATED=1 ;; *) TEST_EMULATED='' ;; esac
        export BUILD DORY TEST_EMULATED
        unset MAKEFLAGS MFLAGS MAKELEVEL # a test may call make
        ;;
esac
case $mode in
    unit)
        TEST_TIMEOUT=${TEST_TIMEOUT:-120}
        for t in "$@"; do
            if [ -x "$t" ]; then
                echo "${t#"$build"/}|$t.log|exec ${RUNNER:-} '$t'"
            else
                echo "${t#"$build"/}|$t.log|echo 'it was not built'; exit 1"
            fi
        done | run_tests "${JOBS:-$(nproc)}"
        ;;
    corpus)
        TEST_TIMEOUT=${TEST_TIMEOUT:-300}
        for t in "$@"; do
            name=${t##*/fuzz_}
            if [ ! -x "$t" ]; then
                echo "corpus/$name|$t.log|echo 'it was not built'; exit 1"
            elif [ -d "tests/fuzz/corpus/$name" ]; then
                echo "corpus/$name|$t.log|exec ${RUNNER:-} '$t' tests/fuzz/corpus/$name"
            else
                echo "corpus/$name|$t.log|echo 'there is no tests/fuzz/corpus/$name'; exit 1"
            fi
        done | run_tests "${JOBS:-$(nproc)}"
        ;;
    fuzz)
        secs=${FUZZ_SECONDS:-20}
        TEST_TIMEOUT=$((secs + 300))
        for t in "$@"; do
            name=${t##*/fuzz_}
            found=$build/fuzz/found/$name
            mkdir -p "$found" "$build/fuzz/crashes"
            dict=''
            [ -e "tests/fuzz/$name.dict" ] && dict="-dict=tests/fuzz/$name.dict"
            seeds=''
            [ -d "tests/fuzz/corpus/$name" ] && seeds=tests/fuzz/corpus/$name
            echo "fuzz/$name|$t.log|exec ${RUNNER:-} '$t' -max_total_time=$secs -error_exitcode=1 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 $dict -artifact_prefix='$build/fuzz/crashes/$name-' '$found' $seeds"
        done | run_tests "${JOBS:-$(nproc)}"
        ;;
    e2e)
        TEST_TIMEOUT=${TEST_TIMEOUT:-400}
        for t in "$@"; do
            name=$(basename "$t" .sh)
            echo "e2e/$name|$build/e2e/$name.log|exec bash '$t'"
        done | run_tests 1
        ;;
    lint)
        TEST_TIMEOUT=${TEST_TIMEOUT:-1800}
        for t in tests/lint/*; do
            name=$(basename "$t")
            [ ! -x "$t" ] || echo "lint/$name|$build/$name.log|exec '$t'"
        done | run_tests 1
        ;;
    all) all ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
