#!/bin/bash
# ingress.sh - from the ports of the node through an Ingress to pods: hosts, paths, uploads, upgrades, TLS by Secret.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
has openssl || skip 'needs openssl'
start_registry_here
start_server
eventually 10 'there is a default account' default_account

apply << 'END'
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: busybox
        command: [sh, -c, 'mkdir -p /www/cgi-bin; printf "#!/bin/sh\necho; hostname; echo for \$HTTP_X_FORWARDED_FOR by \$HTTP_X_FORWARDED_PROTO; wc -c\n" > /www/cgi-bin/who; chmod +x /www/cgi-bin/who; exec httpd -f -h /www -p 8080']
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  tls: [{hosts: [secure.test], secretName: cert}]
  rules:
  - host: web.test
    http: {paths: [{path: /cgi-bin, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}]}
  - host: secure.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
END
check 'the deployment is available' kubectl rollout status deployment/web --timeout=20s
ask() { curl -sS -m 5 --noproxy '*' --resolve "*:80:$node_ip" --resolve "*:443:$node_ip" "$@"; }
status() { ask -o "$work/body" -w '%{http_code}' "$@"; }
answers() { [ "$(status "$2")" = "$1" ]; }
names() { for ((n = 0; n < 20; n++)); do ask http://web.test/cgi-bin/who | head -n 1; done | sort -u | wc -l; }

eventually 5 'a path of a host' answers 200 http://web.test/cgi-bin/who
says '^web-' 'a pod answers' ask http://web.test/cgi-bin/who
says "^for $node_ip by http\$" 'the pod learns who asks' ask http://web.test/cgi-bin/who
is 2 'both pods answer' names
is 404 'another path' status http://web.test/other
is 404 'another host' status http://other.test/cgi-bin/who
head -c 9000000 /dev/zero > "$work/big"
says '^9000000$' 'a large upload' ask -X POST --data-binary "@$work/big" http://web.test/cgi-bin/who
is "$node_ip" 'the status names the node' jsonpath ingress/web '{.status.loadBalancer.ingress[0].ip}'
is dory 'the class is there, and the default' jsonpath ingressclass/dory '{.metadata.name}'

refuses 'certificate|unable|SSL' 'no certificate for the host yet' ask --cacert "$work/registries.yaml" https://secure.test/cgi-bin/who
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=secure.test \
    -addext subjectAltName=DNS:secure.test -keyout "$work/key.pem" -out "$work/cert.pem" 2> /dev/null
check 'a TLS secret' kubectl create secret tls cert --cert="$work/cert.pem" --key="$work/key.pem"
secure() { ask --cacert "$work/cert.pem" "https://secure.test/cgi-bin/who"; }
eventually 5 'the certificate of the Secret is used' secure
says 'by https$' 'the pod learns it was TLS' secure

check 'no pods' kubectl scale deployment/web --replicas=0
eventually 10 'no pod, no service' answers 503 http://web.test/cgi-bin/who
check 'the Ingress goes' kubectl delete ingress/web
eventually 5 'no Ingress, no route' answers 404 http://web.test/cgi-bin/who
