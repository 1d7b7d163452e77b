#!/usr/bin/env bash
# Lints the chart, renders it as an ordinary and as a full installation, validates both against the cluster's own schemas, and
# checks that values which cannot work are refused. The samples are validated as well.
set -euo pipefail
cd "$(dirname "$0")/.."

PATH=$(test/cluster/build.sh helm kubectl):$PATH
chart=charts/caly

render() { helm template caly "$chart" --namespace caly-system "$@"; }

helm lint --strict "$chart"
render | hack/kubeconform.sh
render --values "$chart/ci/full-values.yaml" | hack/kubeconform.sh
render | hack/kubescore.sh
for sample in config/samples config/demo; do
  kubectl kustomize "$sample" | hack/kubeconform.sh
done

# refuse WANT ARGS...: rendering must fail, and say WANT.
refuse() {
  local want=$1 said
  shift
  if said=$(render "$@" 2>&1); then
    echo "the chart accepts $*" >&2
    exit 1
  elif [[ $said != *"$want"* ]]; then
    echo "the chart refuses $* without saying '$want': $said" >&2
    exit 1
  fi
}
refuse "additional properties 'imagee' not allowed" --set imagee.tag=x
refuse "workNamespace.name must differ" --set workNamespace.name=caly-system
refuse "uploadNamespace.name is" --set uploadNamespace.name=caly-system
refuse "uploadNamespace.name is" --set uploadNamespace.name=caly-work
refuse "ingress.host is needed" --set ingress.enabled=true
refuse "httpRoute.parentRefs is needed" --set httpRoute.enabled=true
refuse "mail.from is needed" --set mail.address=smtp.example.com:587
refuse "/api/mode" --set api.mode=test
refuse "publicURL" --set publicURL=ftp://example.com
refuse "egressProxy" --set egressProxy.url=http://user:password@proxy.example:3128
refuse "/limits/minBackfillInterval" --set limits.minBackfillInterval=often
refuse "/dataplane/maxStreams" --set dataplane.maxStreams=0
refuse "/dataplane/maxCaptureBytes" --set dataplane.maxCaptureBytes=1
refuse "/dataplane/passwordHashMemory" --set dataplane.passwordHashMemory=1
refuse "/dataplane/cleanupInterval" --set dataplane.cleanupInterval=never
refuse "/dataplane/allowedAgentCIDRs" --set 'dataplane.allowedAgentCIDRs={10.0.0.1}'
refuse "/storage/allowedCIDRs" --set 'storage.allowedCIDRs={10.0.0.1}'
refuse "/storage/webIdentity/audiences" --set 'storage.webIdentity.audiences={a b}'
refuse "minReplicas must not be above maxReplicas" --set dataplane.autoscaling.enabled=true,dataplane.autoscaling.minReplicas=11
refuse "streamsPerPod must not be above" --set dataplane.autoscaling.enabled=true,dataplane.maxStreams=700

# expect TEMPLATE TEXT ARGS...: what is rendered of a template must have the text; with "!" in front it must not.
expect() {
  local template=$1 text=$2 rendered not=has
  shift 2
  if [[ $text == '!'* ]]; then text=${text#!} not=lacks; fi
  rendered=$(render --show-only "templates/$template.yaml" "$@")
  if [[ $not == has && $rendered != *"$text"* || $not == lacks && $rendered == *"$text"* ]]; then
    echo "rendered with ${*:-the defaults}, $template.yaml $([[ $not == has ]] && echo lacks || echo has) '$text'" >&2
    exit 1
  fi
}
# Tokens of ServiceAccounts are for a platform that wants web identity.
expect operator '!--web-identity-audiences'
expect rbac-operator '!serviceaccounts'
expect operator '--web-identity-audiences=sts.amazonaws.com' --set storage.webIdentity.enabled=true
expect rbac-operator 'serviceaccounts/token' --set storage.webIdentity.enabled=true
expect rbac-operator 'serviceaccounts/token' --set 'storage.webIdentity.enabled=true,watchNamespaces={acme}'
# The admin API: rights of the operator and of people with it, and nothing without it.
expect operator '--admin-port=8443'
expect operator '{name: admin, containerPort: 8443}'
expect operator '--admin-port=9443' --set operator.adminAPI.port=9443
expect rbac-operator 'subjectaccessreviews'
expect rbac-operator 'subjectaccessreviews' --set 'watchNamespaces={acme}'
expect rbac-users 'aggregate-to-view: "true"'
expect rbac-users '!aggregate-to' --set operator.adminAPI.aggregateRoles=false
if render --set operator.adminAPI.enabled=false | grep -E 'admin-port|name: admin|subjectaccessreviews|extension-apiserver|portforward' >/dev/null; then
  echo "the chart has parts of an admin API that is switched off" >&2
  exit 1
fi
refuse "/operator/adminAPI/port" --set operator.adminAPI.port=443
# Dashboards: a ConfigMap each, with the links that the values say.
if render | grep 'grafana_dashboard' >/dev/null; then
  echo "the chart makes dashboards that are switched off" >&2
  exit 1
fi
[[ $(render --set metrics.dashboards.enabled=true | grep -c 'grafana_dashboard: "1"') == $(find "$chart/dashboards" -name '*.json' | wc -l) ]] ||
  { echo "the chart must have a ConfigMap with Grafana's label for each dashboard" >&2; exit 1; }
expect dashboards 'grafana_folder: Caly' --values "$chart/ci/full-values.yaml"
expect dashboards 'https://docs.example.com/caly/runbooks/README.md' --values "$chart/ci/full-values.yaml"
expect dashboards '!github.com' --values "$chart/ci/full-values.yaml"
refuse "/metrics/dashboards/docsURL" --set metrics.dashboards.enabled=true,metrics.dashboards.docsURL=docs
# What upload and migration pods need of a platform. OpenShift assigns the IDs itself.
expect operator '"runAsUser\":65532'
expect operator '"resources\":{\"limits\":{\"memory\":\"256Mi\"}'
expect operator '"fsGroup\":65532,\"runAsGroup\":65532,\"runAsUser\":65532'
platform=(--set "podSecurityContext.runAsUser=0,podSecurityContext.runAsGroup=0,podSecurityContext.fsGroup=0")
expect operator '"fsGroup\":null,\"runAsGroup\":null,\"runAsUser\":null' "${platform[@]}"
for template in operator dataplane migrate-job; do
  for field in runAsUser runAsGroup fsGroup; do
    expect "$template" "$field: 65532"
    expect "$template" "!$field: " "${platform[@]}"
    expect "$template" "!$field: " --values "$chart/ci/full-values.yaml" "${platform[@]}"
  done
  expect "$template" "runAsNonRoot: true" "${platform[@]}"
done
expect operator '"linkerd.io/inject\":\"enabled\"' --set 'upload.podAnnotations.linkerd\.io/inject=enabled'
expect migrate-job 'sidecar.istio.io/inject: "false"'
expect migrate-job 'priorityClassName: low' --set migrations.priorityClassName=low
# An autoscaler outside the chart owns the number of pods, which an upgrade must not reset. It has more than one pod.
expect dataplane 'replicas: 2'
expect dataplane '!replicas:' --set dataplane.replicas=null
expect dataplane 'PodDisruptionBudget' --set dataplane.replicas=null
expect dataplane '!PodDisruptionBudget' --set dataplane.replicas=1
expect dataplane '!ipFamilyPolicy'
expect dataplane 'ipFamilyPolicy: RequireDualStack' --set dataplane.service.ipFamilyPolicy=RequireDualStack
refuse "/dataplane/service/ipFamilyPolicy" --set dataplane.service.ipFamilyPolicy=Both
# The policies open the port of an egress proxy only to where the proxy is.
refuse "networkPolicies.egressProxy.to is needed" --set egressProxy.url=http://proxy.example:3128
refuse "networkPolicies.egressProxy.to is needed" --set egressProxy.url=http://10.9.0.7.nip.io:3128
expect dataplane '--egress-proxy=http://proxy.example:3128' --set egressProxy.url=http://proxy.example:3128,networkPolicies.enabled=false
expect networkpolicies 'cidr: 10.9.0.0/24' \
  --set egressProxy.url=http://proxy.example:3128,networkPolicies.egressProxy.to[0].ipBlock.cidr=10.9.0.0/24
expect networkpolicies 'cidr: 10.9.0.7/32' --set egressProxy.url=http://10.9.0.7:3128
expect networkpolicies 'cidr: "fd00::7/128"' --set 'egressProxy.url=http://[fd00::7]:3128'
expect networkpolicies 'port: 80' --set egressProxy.url=http://10.9.0.7
# Tracing is off by default. With it, each program sends its traces, and only the collector's port is opened.
expect dataplane '!trace-'
expect operator '!trace-'
expect dataplane '--trace-endpoint=http://collector:4318' --set tracing.endpoint=http://collector:4318
expect operator '--trace-sample-ratio=0.5' --set tracing.endpoint=http://collector:4318,tracing.sampleRatio=0.5
expect networkpolicies 'port: 4318' --set tracing.endpoint=http://collector:4318/otlp
expect networkpolicies 'port: 14318' --set tracing.endpoint=https://collector,networkPolicies.tracing.ports[0]=14318
refuse "tracing/endpoint" --set tracing.endpoint=http://user:password@collector:4318
refuse "tracing/sampleRatio" --set tracing.sampleRatio=2
# Where stores may be is the platform's decision, and all programs that ask them know it. Upload pods get the operator's.
expect operator "!STORAGE"
expect operator '{name: CALY_ALLOWED_STORAGE_CIDRS, value: "10.3.0.0/16,fd03::/16"}' --set 'storage.allowedCIDRs={10.3.0.0/16,fd03::/16}'
expect operator '{name: CALY_ALLOW_HTTP_STORAGE, value: "true"}' --set storage.allowHTTP=true
expect dataplane "!storage"
expect dataplane "--allowed-storage-cidrs=10.3.0.0/16" --set 'storage.allowedCIDRs={10.3.0.0/16}'
expect dataplane "--allow-http-storage" --set storage.allowHTTP=true
# A pod may end as slowly as its slowest part: 5 s before SIGTERM, the longer of requests (5 + 20) and streams, 35 s for the rest.
expect dataplane "terminationGracePeriodSeconds: 100"
expect dataplane "terminationGracePeriodSeconds: 65" --set dataplane.streamGraceSeconds=10
expect dataplane "terminationGracePeriodSeconds: 3640" --set dataplane.streamGraceSeconds=3600
expect dataplane "--stream-grace=3600s" --set dataplane.streamGraceSeconds=3600
expect dataplane "emptyDir: {sizeLimit: 2415919104}"
expect dataplane "--max-capture-bytes=4294967296" --values "$chart/ci/full-values.yaml"
expect dataplane "--password-hash-memory=0"
expect dataplane "--password-hash-memory=67108864" --values "$chart/ci/full-values.yaml"
# Profiles are off by default.
for component in operator dataplane; do
  expect "$component" "!pprof"
  expect "$component" "- --pprof" --set "$component.pprof=true"
done
expect operator "CALY_PPROF" --set upload.pprof=true
expect dataplane "replicas: 2"
expect dataplane "rollingUpdate: {maxUnavailable: 0, maxSurge: 1}"
expect dataplane "kind: PodDisruptionBudget"
expect dataplane "!kind: PodDisruptionBudget" --set dataplane.replicas=1
expect dataplane "!replicas: " --set dataplane.autoscaling.enabled=true
expect dataplane "kind: PodDisruptionBudget" --set dataplane.autoscaling.enabled=true,dataplane.replicas=1
expect routes "timeouts: {request: 0s" --values "$chart/ci/full-values.yaml"
expect routes "!timeouts:" --values "$chart/ci/full-values.yaml" --set httpRoute.streamTimeout=
expect routes "path: /audio/exotel" --set ingress.enabled=true,ingress.host=caly.example.com

# Who may reach what: one policy for each component, one for the rest of the work namespace and of the upload namespace.
# No rule is empty, which would allow everything.
[[ $(render --show-only templates/networkpolicies.yaml | grep -c '^kind: NetworkPolicy') == 5 ]] || { echo "the chart must have five NetworkPolicies" >&2; exit 1; }
expect networkpolicies "app.kubernetes.io/component: upload
      app.kubernetes.io/managed-by: caly
  policyTypes: [Ingress, Egress]
  egress:"
expect networkpolicies "podSelector: {}
  policyTypes: [Ingress, Egress]"
expect networkpolicies "- 169.254.0.0/16"
expect networkpolicies "- 64:ff9b::a83f:8110/128"
expect networkpolicies "kubernetes.io/metadata.name: monitoring"
expect networkpolicies "!: []"
expect networkpolicies "!port: 587"
expect networkpolicies "port: 587" --values "$chart/ci/full-values.yaml"
expect networkpolicies "cidr: \"10.2.0.0/16\"" --values "$chart/ci/full-values.yaml"
expect networkpolicies "!port: 8081" --set networkPolicies.monitoring.from=null
if render --set networkPolicies.enabled=false | grep '^kind: NetworkPolicy' >/dev/null; then
  echo "the chart makes NetworkPolicies that are switched off" >&2
  exit 1
fi
refuse "/networkPolicies/database/ports" --set 'networkPolicies.database.ports={}'
refuse "/networkPolicies/database" --set networkPolicies.database.port=5432
refuse "/networkPolicies/dataplane/from/0" --set 'networkPolicies.dataplane.from[0].cidr=10.0.0.0/8'

# Objects of the Prometheus Operator only where they are wanted, since its CRDs may be missing.
if render | grep 'monitoring.coreos.com' >/dev/null; then
  echo "the chart makes objects of the Prometheus Operator by default" >&2
  exit 1
fi
full=(--values "$chart/ci/full-values.yaml")
[[ $(render "${full[@]}" --show-only templates/podmonitors.yaml | grep -c '^kind: PodMonitor') == 3 ]] || { echo "the chart must have three PodMonitors" >&2; exit 1; }
for scraped in "- port: metrics" "- port: internal" "matchNames: [caly-uploads]" "replacement: caly-upload" "interval: 30s" "release: prometheus"; do
  expect podmonitors "$scraped" "${full[@]}"
done
expect rules "interval: 1m" "${full[@]}"
expect rules "runbook_url: https://runbooks.example.com/caly/CalyDatabaseDown.md" "${full[@]}"
expect rules "!github.com" "${full[@]}"
expect rules "!interval:" --set metrics.rules.enabled=true
[[ $(render "${full[@]}" --show-only templates/rules.yaml | grep -c -- '- alert: \|^ *alert: ') == $(cat "$chart"/files/rules/*.yaml | grep -c -- '- alert: ') ]] ||
  { echo "the PrometheusRule must have each alert of $chart/files/rules" >&2; exit 1; }
refuse "/metrics/podMonitors/interval" --set metrics.podMonitors.interval=often
# Nothing connects to upload pods unless they are scraped.
for scraped in false true; do
  want=$([[ $scraped == true ]] && echo 3 || echo 2)
  [[ $(render --show-only templates/networkpolicies.yaml --set "metrics.podMonitors.enabled=$scraped" | grep -c '^ *- ports: .*port: 8080}') == "$want" ]] ||
    { echo "with metrics.podMonitors.enabled=$scraped, $want policies must open port 8080" >&2; exit 1; }
done

# The hooks: a Job that fails where a Secret is missing, and the pod of helm test. Neither has a token for the Kubernetes API.
expect preflight-job '"--require=database-url:caly-database-owner/url:database.ownerSecret"'
expect preflight-job '!caly-database-owner' --set migrations.enabled=false
expect preflight-job '"--require=text:caly-smtp/password:mail.credentialsSecret"' --values "$chart/ci/full-values.yaml"
expect preflight-job '"--require=text:caly-tls/tls.key:dataplane.tls.secretName"' --values "$chart/ci/full-values.yaml"
expect preflight-job '!caly-tls' --values "$chart/ci/full-values.yaml" --set 'preflight.except={caly-tls}'
expect tests/smoke '--service=http://caly-dataplane:80'
expect tests/smoke '--service=https://caly-dataplane:80' --values "$chart/ci/full-values.yaml"
refuse "/preflight/except" --set preflight.except=caly-tls
refuse "/tests/within" --set tests.within=soon

# note TEXT ARGS...: what an installation prints must have the text; with "!" in front it must not.
note() {
  local text=$1 said not=has
  shift
  if [[ $text == '!'* ]]; then text=${text#!} not=lacks; fi
  said=$(helm install caly "$chart" --namespace caly-system --dry-run=client "$@" | sed -n '/^NOTES:/,$p')
  if [[ $not == has && $said != *"$text"* || $not == lacks && $said == *"$text"* ]]; then
    echo "installed with ${*:-the defaults}, the notes $([[ $not == has ]] && echo lack || echo have) '$text': $said" >&2
    exit 1
  fi
}
ingress=(--set ingress.enabled=true --set ingress.host=caly.example.com)
note "publicURL: Exotel cannot reach"
note "!publicURL: Exotel cannot reach" "${ingress[@]}"
note "!trustedProxies"
note "trustedProxies is empty" "${ingress[@]}"
note "trustedProxies is empty" --set publicURL=https://caly.example.com
note "!trustedProxies" "${ingress[@]}" --set 'dataplane.trustedProxies={192.168.10.0/28}'
note "trustedProxies has 0.0.0.0/0" --set 'dataplane.trustedProxies={0.0.0.0/0}'
note "mail.address is empty"
note "mail.tls: \"none\"" --set mail.address=smtp:25,mail.from=a@example.com,mail.tls=none
note "travel unencrypted" --set publicURL=http://caly.example.com
note "dataplane.from is empty" "${ingress[@]}"
note "api.mode is development" --set api.mode=development
note "preflight.enabled is false" --set preflight.enabled=false
note "run \"caly migrate up\"" --set migrations.enabled=false
note "dataplane.replicas is below 2" --set dataplane.replicas=1
note "!To decide before" "${ingress[@]}" --set mail.address=smtp:587,mail.from=a@example.com,metrics.rules.enabled=true \
  --set 'dataplane.trustedProxies={192.168.10.0/28}' --set networkPolicies.database.to[0].ipBlock.cidr=10.0.0.5/32 \
  --set networkPolicies.dataplane.from[0].ipBlock.cidr=192.168.10.0/28

# Who may do what must not grow unseen: the data plane reads the work namespace's Secrets and nothing else.
rights=$(render --show-only templates/rbac-dataplane.yaml)
if [[ $(grep -cE '^ +verbs: ' <<<"$rights") != 1 || $rights != *'verbs: [get, list, watch]'* ]]; then
  echo "the data plane has got more rights than to read the Secrets of the work namespace" >&2
  exit 1
fi

# Each flag that the chart gives to a component must be one that it has: else its pods would not start. Those that it gives in the
# environment would go unseen.
for component in operator dataplane preflight smoke; do
  template=$component
  if [[ $component == preflight ]]; then template=preflight-job; elif [[ $component == smoke ]]; then template=tests/smoke; fi
  known=$(go run ./cmd/caly "$component" --help)
  while read -r flag; do
    if ! grep -qE -- "^ +$flag( |$)" <<<"$known"; then
      echo "the chart starts the $component with $flag, which it does not know" >&2
      exit 1
    fi
  done < <(render --values "$chart/ci/full-values.yaml" --show-only "templates/$template.yaml" |
    grep -oE '^ +- "?--[a-z-]+|name: CALY_[A-Z_]+' | grep -v CALY_LOG_LEVEL | sed -e 's/name: CALY_/--/' -e 'y/ABCDEFGHIJKLMNOPQRSTUVWXYZ_/abcdefghijklmnopqrstuvwxyz-/' |
    grep -oE -- '--[a-z-]+')
done
