#!/bin/bash
# ingress.sh - hosts, paths, TLS by server name, headers, and what has no backend.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
: "${work:?}" "${node_ip:?}"
has openssl || skip 'needs openssl'
start_registry_here
start_server
eventually 10 'there is a default account' default_account
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=one.example \
    -addext subjectAltName=DNS:one.example -keyout "$work/tls.key" -out "$work/tls.crt" 2> /dev/null || skip 'openssl cannot make a certificate'
kubectl create secret tls one --cert="$work/tls.crt" --key="$work/tls.key" > /dev/null || fail 'secret'
for app in one two; do
    apply << END
apiVersion: v1
kind: Pod
metadata: {name: $app, labels: {app: $app}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: busybox
    command:
    - sh
    - -c
    - |
      mkdir -p /www/cgi-bin /www/deep
      echo $app > /www/index.html
      echo $app-deep > /www/deep/index.html
      echo '#!/bin/sh' > /www/cgi-bin/env
      echo 'printf "Content-Type: text/plain\\r\\n\\r\\n"; env' >> /www/cgi-bin/env
      chmod +x /www/cgi-bin/env
      exec httpd -f -h /www -p 8080
---
apiVersion: v1
kind: Service
metadata: {name: $app}
spec: {selector: {app: $app}, ports: [{port: 80, targetPort: 8080}]}
END
done
apply << 'END'
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: hosts}
spec:
  tls: [{hosts: [one.example], secretName: one}]
  rules:
  - host: one.example
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: one, port: {number: 80}}}}
      - {path: /deep, pathType: Prefix, backend: {service: {name: two, port: {number: 80}}}}
  - host: "*.wild.example"
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: two, port: {number: 80}}}}]}
  - host: gone.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: gone, port: {number: 80}}}}]}
END
check 'the pods run' kubectl wait --for=condition=Ready pod/one pod/two --timeout=20s
at() { web -H "Host: $1" "http://$node_ip$2"; }
code() { web -o /dev/null -w '%{http_code}' -H "Host: $1" "http://$node_ip$2"; }
served() { [ "$(at one.example /)" = one ]; }
eventually 5 'by host' served
is two-deep 'by path, the longest first' at one.example /deep/
is two 'by wildcard' at a.wild.example /
is 404 'no such host' code other.example /
is 503 'a Service that is not there' code gone.example /
says 'HTTP_X_FORWARDED_FOR=' 'the client is told of' at one.example /cgi-bin/env
says 'HTTP_HOST=one.example' 'the host is kept' at one.example /cgi-bin/env
is one 'TLS with the certificate of the Secret' web --cacert "$work/tls.crt" --resolve "one.example:443:$node_ip" https://one.example/
refuses 'certificate|SSL' 'another name gets another certificate' web --cacert "$work/tls.crt" --resolve "a.wild.example:443:$node_ip" https://a.wild.example/
is "$node_ip" 'the address is in its status' jsonpath ingress/hosts '{.status.loadBalancer.ingress[0].ip}'
kubectl delete pod two > /dev/null
unavailable() { [ "$(code a.wild.example /)" = 503 ]; }
eventually 5 'without pods: 503' unavailable
kubectl delete ingress hosts > /dev/null
missing() { [ "$(code one.example /)" = 404 ]; }
eventually 5 'a deleted Ingress is gone' missing
