#!/bin/bash
# run.sh - measures what docs and README claim; `make bench` calls it. Root. One line a figure: what, figure, target, k3s.
#
# The k3s column: k3s 1.21.2, add-ons disabled, measured on 2 cores of the same machine by the same methods.
# Environment: DORY, BENCH_QUICK=1 (20 s of idling instead of 120, 60 s of watching the disk instead of 600).
# Memory is PSS from smaps_rollup; CPU utime+stime; bytes written from /proc/PID/io; pods' times are seen by watch.
set -uo pipefail
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/../e2e/lib.sh"
: "${work:?}" "${run_dir:?}" "${kubectl_bin:?}"
has python3 || skip 'needs python3'
idle_s=120 disk_s=600
[ -z "${BENCH_QUICK:-}" ] || idle_s=20 disk_s=60

now_ms() { echo $(($(date +%s%N) / 1000000)); }
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
row() { printf '%-52s %14s %12s %22s   %s\n' "$@"; }
server_pid() { cat "$work/server.pid"; }
# Every process that the system adds: the server and the monitors of its pods.
system_pids() { server_pid; monitors; }
# A monitor is in the network of its pod; it is counted when it runs this binary.
monitors() {
    local p
    for p in $(pgrep -x dory-monitor); do
        [ "$(readlink "/proc/$p/exe")" = "$DORY" ] && echo "$p"
    done
}
pss_kib() { local p; for p; do awk '/^Pss:/ { print $2 }' "/proc/$p/smaps_rollup" 2> /dev/null; done | awk '{ s += $1 } END { print s + 0 }'; }
cpu_ticks() { local p; for p; do sed 's/.*) //' "/proc/$p/stat" 2> /dev/null; done | awk '{ s += $12 + $13 } END { print s + 0 }'; }
written() { local p; for p; do awk '/^write_bytes/ { print $2 }' "/proc/$p/io" 2> /dev/null; done | awk '{ s += $1 } END { print s + 0 }'; }
idle_cpu() { # percent of a core over idle_s
    local pids before
    mapfile -t pids < <(system_pids)
    before=$(cpu_ticks "${pids[@]}")
    sleep $idle_s
    awk -v d=$(($(cpu_ticks "${pids[@]}") - before)) -v s=$idle_s -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.2f %%", d * 100 / hz / s }'
}

# The stopwatch: starts a server, polls /readyz and the node every millisecond over one TLS connection, prints both times.
cat > "$work/clock.py" << 'END'
import base64, json, os, re, ssl, subprocess, sys, time, http.client
kubeconfig, log, argv = sys.argv[1], sys.argv[2], sys.argv[3:]
if os.path.exists(kubeconfig): os.remove(kubeconfig)
t0 = time.monotonic()
p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=open(log, 'a'), stderr=subprocess.STDOUT, start_new_session=True)
def credentials():
    while True:
        try:
            text = open(kubeconfig).read()
            return [base64.b64decode(re.search(k + r'-data: (\S+)', text).group(1)) for k in ('client-certificate', 'client-key')]
        except (OSError, AttributeError): time.sleep(0.001)
        if p.poll() is not None: sys.exit('the server has ended')
cert, key = credentials()
ctx = ssl._create_unverified_context()
pem = kubeconfig + '.pem'
with open(os.open(pem, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), 'wb') as f: f.write(cert + b'\n' + key)
ctx.load_cert_chain(pem); os.remove(pem)
def get(path):
    global c
    try:
        c.request('GET', path); r = c.getresponse(); return r.status, r.read()
    except (OSError, http.client.HTTPException, NameError):
        c = http.client.HTTPSConnection('127.0.0.1', 6443, context=ctx); return 0, b''
while get('/readyz')[0] != 200: time.sleep(0.001)
readyz = time.monotonic() - t0
def node_ready():
    status, body = get('/api/v1/nodes/node1')
    return status == 200 and any(x['type'] == 'Ready' and x['status'] == 'True' for x in json.loads(body)['status'].get('conditions', []))
while not node_ready(): time.sleep(0.001)
print(p.pid, int(readyz * 1000), int((time.monotonic() - t0) * 1000))
END
# timed_start: sets pid file; prints readyz_ms ready_ms
timed_start() {
    local flags out
    mapfile -t flags < <(server_flags)
    out=$(python3 "$work/clock.py" "$KUBECONFIG" "$work/server.log" "$DORY" server "${flags[@]}") || return 1
    echo "${out%% *}" > "$work/server.pid"
    echo "${out#* }"
}

row what figure target k3s method
size=$(stat -c %s "$DORY")
row 'binary, stripped' "$(awk -v b="$size" 'BEGIN { printf "%.2f MiB", b / 1048576 }')" '<= 6 MiB' '51 (157 unpacked) MiB' 'stat'

start_registry_here
touch "$work/config.yaml"
: > "$work/cold"
for _ in 1 2 3 4 5; do
    stop_server
    rm -rf --one-file-system "$work/data" "$run_dir"
    timed_start >> "$work/cold" || { fail 'the server does not start'; exit 1; }
done
row 'exec to /readyz, empty data directory' "$(cut -d' ' -f1 "$work/cold" | median) ms" '<= 100 ms' '4200-5400 ms' 'poll every 1 ms, median of 5'
row 'exec to Node Ready, empty data directory' "$(cut -d' ' -f2 "$work/cold" | median) ms" '<= 400 ms' '19000 ms' 'same'
: > "$work/warm"
for _ in 1 2 3 4 5; do
    stop_server
    sleep 0.3
    timed_start >> "$work/warm" || { fail 'the server does not start again'; exit 1; }
done
row 'exec to Node Ready, existing data' "$(cut -d' ' -f2 "$work/warm" | median) ms" '<= 200 ms' '17900 ms' 'same; Ready may be that of before the restart'

eventually 10 'default account' default_account > /dev/null
sleep 3
idle_kib=$(pss_kib "$(server_pid)")
row 'memory of the idle server with node, PSS' "$(awk -v k="$idle_kib" 'BEGIN { printf "%.1f MiB", k / 1024 }')" '<= 20 MiB' '507 MiB' 'smaps_rollup, all processes, after start'
row "idle CPU over $idle_s s, no pods" "$(idle_cpu)" '<= 0.1 %' '4.4 %' 'utime+stime of all processes'
w=$(written "$(server_pid)")
sleep $disk_s
row "bytes written in $disk_s idle seconds" "$(($(written "$(server_pid)") - w)) B" '0 (600 s)' '5 MiB (600 s)' '/proc/PID/io write_bytes'

# one POST at a time at random moments; the watch sees the pod Running. The first pulls the image and is not counted.
cat > "$work/pods.py" << 'END'
import json, random, subprocess, sys, threading, time
kubectl, n = sys.argv[1], int(sys.argv[2])
import base64, re, ssl, http.client, os
text = open(os.environ['KUBECONFIG']).read()
pem = os.environ['KUBECONFIG'] + '.pem'
data = [base64.b64decode(re.search(k + r'-data: (\S+)', text).group(1)) for k in ('client-certificate', 'client-key')]
with open(os.open(pem, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), 'wb') as f: f.write(data[0] + b'\n' + data[1])
ctx = ssl._create_unverified_context(); ctx.load_cert_chain(pem); os.remove(pem)
def connect(): return http.client.HTTPSConnection('127.0.0.1', 6443, context=ctx)
running, lock = {}, threading.Condition()
def watch():
    c = connect(); c.request('GET', '/api/v1/namespaces/default/pods?watch=1'); r = c.getresponse()
    for line in r:
        o = json.loads(line)['object']
        if o.get('status', {}).get('phase') == 'Running':
            with lock: running.setdefault(o['metadata']['name'], time.monotonic()); lock.notify()
threading.Thread(target=watch, daemon=True).start()
c, times = connect(), []
for i in range(n + 1):
    name = 'bench-%d' % i
    if i: time.sleep(random.uniform(0.05, 0.35))
    body = json.dumps({'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {'name': name, 'labels': {'bench': 'pod'}}, 'spec': {
        'terminationGracePeriodSeconds': 0, 'containers': [{'name': 'main', 'image': 'busybox', 'imagePullPolicy': 'IfNotPresent', 'command': ['sleep', '1000000']}]}})
    t = time.monotonic()
    c.request('POST', '/api/v1/namespaces/default/pods', body, {'Content-Type': 'application/json'}); r = c.getresponse(); r.read()
    if r.status != 201: sys.exit('POST: HTTP %d' % r.status)
    with lock:
        if not lock.wait_for(lambda: name in running, 20): sys.exit(name + ' does not run')
    if i: times.append((running[name] - t) * 1000)
times.sort()
print('%.0f / %.0f' % (times[len(times) // 2], times[-1]))
END
# shellcheck disable=SC2046
monitors_before=$(pss_kib $(system_pids))
out=$(python3 "$work/pods.py" "$kubectl_bin" 50 2>&1) || fail "pods: $out"
row 'POST of a pod to running, p50 / max of 50' "$out ms" '<= 40 / 100' '1246 / 2094 ms' 'at random moments, by watch, image present'
sleep 2
# shellcheck disable=SC2046
per_pod=$(awk -v a="$monitors_before" -v b="$(pss_kib $(system_pids))" 'BEGIN { printf "%.2f MiB", (b - a) / 51 / 1024 }')
row 'memory per sleeping busybox pod, PSS' "$per_pod" '<= 0.5 MiB' '3.9 MiB' 'growth of server and monitors over 51 pods'

# up to 100 pods
cat > "$work/scale.yaml" << 'END'
apiVersion: apps/v1
kind: Deployment
metadata: {name: fifty}
spec:
  replicas: 0
  selector: {matchLabels: {app: fifty}}
  template:
    metadata: {labels: {app: fifty}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: main, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "1000000"]}]
END
kubectl apply -f "$work/scale.yaml" > /dev/null && sleep 1
t=$(now_ms)
kubectl scale deployment/fifty --replicas=50 > /dev/null
all_ready() { [ "$(kubectl get deployment fifty -o 'jsonpath={.status.readyReplicas}')" = 50 ]; }
for ((i = 0; i < 1200; i++)); do all_ready && break; sleep 0.02; done
took=$(($(now_ms) - t))
all_ready || fail 'the deployment did not become ready'
row 'Deployment scaled 0 to 50, all Ready' "$(awk -v m=$took 'BEGIN { printf "%.2f s", m / 1000 }')" '<= 3 s' '31-44 s' 'kubectl scale to readyReplicas 50, kubectl included'
sleep 3
row "idle CPU over $idle_s s, 101 pods" "$(idle_cpu)" '<= 0.3 %' '19.1 %' 'utime+stime of all processes'
# shellcheck disable=SC2046
row 'memory with 101 pods, PSS' "$(awk -v k="$(pss_kib $(system_pids))" 'BEGIN { printf "%.1f MiB", k / 1024 }')" '' '1018 MiB' 'server and monitors'
