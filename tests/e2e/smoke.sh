#!/bin/bash
# smoke.sh - the demonstration, as a user runs it, and its end.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
! [ -d build/demo ] || skip 'a demonstration runs on this machine (make demo-stop)'
trap 'tests/demo/demo-stop.sh > /dev/null 2>&1; clean_up' EXIT
export DORY

begin=$SECONDS
tests/demo/demo.sh > "$work/out" 2>&1 || { cat "$work/out" && fail 'make demo'; exit 1; }
took=$((SECONDS - begin))
[ $took -le 10 ] || fail "make demo took $took s; it should be less than 10"
KUBECONFIG=build/demo/kubeconfig.yaml
is 3 'it answers in three ways' grep -c 'It works.*HTTP 200' "$work/out"
is '1' 'the deployment is available' jsonpath deployment/httpd '{.status.availableReplicas}'
is 'true true' 'both images of the air gap run' jsonpath pod/air-gap '{.status.containerStatuses[*].ready}'
refuses 'runs already' 'a second one is refused' tests/demo/demo.sh
says 'has ended: no process' 'make demo-stop leaves nothing' tests/demo/demo-stop.sh
check 'no files of it are left' test ! -e build/demo -a ! -e /run/dory-demo
says 'no demonstration runs' 'stopping it twice is no error' tests/demo/demo-stop.sh
