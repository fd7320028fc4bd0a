#!/bin/bash
# services.sh - every way to a Service, and cluster DNS.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
start_registry_here
start_server
eventually 10 'there is a default account' default_account

apply << 'END'
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: busybox
        # answers with its own name and who asked
        command: [sh, -c, 'mkdir -p /www/cgi-bin; printf "#!/bin/sh\necho; hostname; echo from \$REMOTE_ADDR\n" > /www/cgi-bin/who; chmod +x /www/cgi-bin/who; exec httpd -f -h /www -p 8080']
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: node-port}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec: {sessionAffinity: ClientIP, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: busybox, command: [sleep, "1000"]}]}
END
check 'the deployment is available' kubectl rollout status deployment/web --timeout=20s
check 'the client runs' kubectl wait --for=condition=Ready pod/client --timeout=10s
cluster_ip=$(jsonpath service/web '{.spec.clusterIP}')
in_client() { kubectl exec client -- "$@"; }
fetch() { in_client wget -q -O - "$@"; }

# names COUNT COMMAND...: how many different pods answer COUNT calls
names() {
    local n=$1
    shift
    for ((; n > 0; n--)); do "$@" 2> /dev/null | head -n 1; done | sort -u | wc -l
}
eventually 5 'ClusterIP from the node' web -f "http://$cluster_ip/cgi-bin/who"
is 3 'all three pods answer' names 40 web "http://$cluster_ip/cgi-bin/who"
says '^web-' 'ClusterIP from a pod' fetch "http://$cluster_ip/cgi-bin/who"
pod=$(kubectl get pods -l app=web -o 'jsonpath={.items[0].metadata.name}')
is 3 'hairpin: a pod reaches its own Service, itself included' names 40 kubectl exec "$pod" -- wget -q -O - "http://$cluster_ip/cgi-bin/who"
pod_ip=$(jsonpath "pod/$pod" '{.status.podIP}')
client_ip=$(jsonpath pod/client '{.status.podIP}')
says "from .*$client_ip" 'pod to pod keeps the source address' fetch "http://$pod_ip:8080/cgi-bin/who"
says "from .*$client_ip" 'pod to Service keeps it too' fetch "http://$cluster_ip/cgi-bin/who"

says '^web-' 'NodePort by the node address' web "http://$node_ip:30080/cgi-bin/who"
says '^web-' 'NodePort from a pod' fetch "http://$node_ip:30080/cgi-bin/who"
is 1 'session affinity: one pod answers all' names 20 web "http://$(jsonpath service/sticky '{.spec.clusterIP}')/cgi-bin/who"
refuses "refused|Couldn't connect" 'without endpoints: refused at once' web "http://$(jsonpath service/empty '{.spec.clusterIP}')/"
refuses 'refused' 'the same from a pod' fetch "http://$(jsonpath service/empty '{.spec.clusterIP}')/"

resolve() { in_client nslookup -type="$2" "$1"; }
says "Address.*$cluster_ip" 'DNS: a Service by its full name' resolve web.default.svc.cluster.local a
says '^web-' 'DNS: by its short name' fetch http://web/cgi-bin/who
says '^web-' 'DNS: with its namespace' fetch http://web.default/cgi-bin/who
is 3 'DNS: the addresses of a headless Service' sh -c "'$kubectl_bin' exec client -- nslookup -type=a headless.default.svc.cluster.local | grep -c 'Address: *10\.42\.'"
says '8080 ' 'DNS: SRV' resolve _http._tcp.headless.default.svc.cluster.local srv
says 'web.default.svc.cluster.local' 'DNS: PTR of a ClusterIP' in_client nslookup "$cluster_ip"
says 'canonical name|web.default' 'DNS: ExternalName' resolve outside.default.svc.cluster.local a
refuses 'NXDOMAIN|find' 'DNS: no such Service' resolve nothing.default.svc.cluster.local a
says 'nameserver 10.43.0.10' 'resolv.conf of pods' in_client cat /etc/resolv.conf
says 'search default.svc.cluster.local svc.cluster.local cluster.local' 'its search list' in_client cat /etc/resolv.conf

check 'a scaled Deployment' kubectl scale deployment/web --replicas=1
one_left() { [ "$(kubectl get endpoints web -o 'jsonpath={.subsets[*].addresses[*].ip}' 2> /dev/null | wc -w)" = 1 ]; }
eventually 10 'endpoints follow' one_left
sleep 0.3
is 1 'only that one answers' names 20 web -f "http://$cluster_ip/cgi-bin/who"
check 'a deleted Service' kubectl delete service node-port
closed() { ! web "http://$node_ip:30080/"; }
eventually 5 'its port is closed' closed
