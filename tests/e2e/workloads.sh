#!/bin/bash
# workloads.sh - what pods are made of: init containers, environment, volumes, probes, restarts, exit codes, memory limits.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
: "${work:?}"
start_registry_here
start_server
eventually 10 'there is a default account' default_account
apply << 'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, file.txt: "one\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: secrets}
stringData: {password: hunter2}
---
apiVersion: v1
kind: Pod
metadata: {name: full, labels: {who: me}}
spec:
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: first, image: busybox, command: [sh, -c, 'echo first > /shared/log'], volumeMounts: [{name: shared, mountPath: /shared}]}
  - {name: second, image: busybox, command: [sh, -c, 'echo second >> /shared/log'], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
  - name: main
    image: busybox
    command: [sleep, "1000"]
    env:
    - {name: PLAIN, value: "$(COLOUR)-ish"}
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: secrets, key: password}}}
    - {name: MY_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: MY_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: LATER, value: "$(COLOUR)-ish"}
    envFrom: [{prefix: ALL_, configMapRef: {name: settings}}]
    volumeMounts:
    - {name: shared, mountPath: /shared}
    - {name: config, mountPath: /config}
    - {name: secret, mountPath: /secret, readOnly: true}
    - {name: all, mountPath: /all}
    - {name: host, mountPath: /host}
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: config, configMap: {name: settings}}
  - {name: secret, secret: {secretName: secrets, defaultMode: 256}}
  - name: all
    projected: {sources: [{configMap: {name: settings}}, {secret: {name: secrets}}, {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]}
  - {name: host, hostPath: {path: /etc, type: Directory}}
---
apiVersion: v1
kind: Pod
metadata: {name: fails}
spec:
  restartPolicy: Never
  containers: [{name: main, image: busybox, command: [sh, -c, 'echo why > /dev/termination-log; exit 7']}]
---
apiVersion: v1
kind: Pod
metadata: {name: succeeds}
spec: {restartPolicy: OnFailure, containers: [{name: main, image: busybox, command: ["true"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: crashes}
spec: {containers: [{name: main, image: busybox, command: [sh, -c, 'echo bye; exit 1']}]}
---
apiVersion: v1
kind: Pod
metadata: {name: hungry}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: busybox, command: [sh, -c, 'a=x; while true; do a=$a$a; done'], resources: {limits: {memory: 32Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'touch /tmp/live; exec httpd -f -p 8080 -h /tmp']
    readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1}
    livenessProbe: {httpGet: {path: /live, port: 8080}, periodSeconds: 1, failureThreshold: 2}
END
check 'a pod with everything runs' kubectl wait --for=condition=Ready pod/full --timeout=20s
in_full() { kubectl exec full -c main -- "$@"; }
is $'first\nsecond' 'init containers ran in order; emptyDir is shared' in_full cat /shared/log
is 'blue hunter2 full blue-ish' 'environment: ConfigMap, Secret, field, reference' in_full sh -c 'echo $COLOUR $PASSWORD $MY_NAME $LATER'
is 'blue' 'environment of a whole ConfigMap' in_full sh -c 'echo $ALL_colour'
is "$(jsonpath pod/full '{.status.podIP}')" 'environment: the address of the pod' in_full sh -c 'echo $MY_IP'
is one 'configMap volume' in_full cat /config/file.txt
is '400' 'mode of a secret volume' in_full stat -L -c %a /secret/password
is 'bluehunter2who="me"' 'projected volume' in_full cat /all/colour /all/password /all/labels
check 'hostPath' in_full test -e /host/hostname
says '^eyJ' 'service account token' in_full cat /var/run/secrets/kubernetes.io/serviceaccount/token
kubectl patch configmap settings --type=merge -p '{"data":{"file.txt":"two\n"}}' > /dev/null
updated() { [ "$(in_full cat /config/file.txt)" = two ]; }
eventually 90 'a changed ConfigMap reaches the volume' updated

phase() { eventually 20 "pod $1 is $2" phase_is "$1" "$2"; }
phase fails Failed
is '7 Error why' 'exit code, reason and termination message' sh -c "'$kubectl_bin' get pod fails -o 'jsonpath={.status.containerStatuses[0].state.terminated.exitCode} {.status.containerStatuses[0].state.terminated.reason} {.status.containerStatuses[0].state.terminated.message}' | tr -d '\n'"
phase succeeds Succeeded
phase hungry Failed
is '137 OOMKilled' 'killed for memory' jsonpath pod/hungry '{.status.containerStatuses[0].state.terminated.exitCode} {.status.containerStatuses[0].state.terminated.reason}'
backing_off() { [ "$(jsonpath pod/crashes '{.status.containerStatuses[0].state.waiting.reason}')" = CrashLoopBackOff ]; }
eventually 20 'CrashLoopBackOff' backing_off
is bye 'logs --previous' kubectl logs crashes --previous

check 'a pod that is not ready is not' test "$(jsonpath pod/probed '{.status.conditions[?(@.type=="Ready")].status}')" = False
check 'touch' kubectl exec probed -- touch /tmp/ready
eventually 5 'exec probe: ready' ready probed
kubectl exec probed -- rm /tmp/live /tmp/ready
restarted() { [ "$(jsonpath pod/probed '{.status.containerStatuses[0].restartCount}')" -ge 1 ]; }
eventually 15 'a failing HTTP liveness probe restarts the container' restarted
check 'deleting' kubectl delete pods --all --timeout=40s
is '' 'nothing is left of them' kubectl get pods -o name
