{{/*
Parts of NetworkPolicies. Each egress rule is one entry of a list. A rule without peers matches every address: network plugins do not agree on
whether an address range covers nodes and pods, so "everything" is never written as 0.0.0.0/0 here.
*/}}

{{/* Entries "protocol, port" for TCP. Takes a list of ports. */}}
{{- define "caly.tcpPorts" -}}
{{- range . }}
- {protocol: TCP, port: {{ int . }}}
{{- end }}
{{- end -}}

{{- define "caly.egress.dns" -}}
{{- with .Values.networkPolicies.dns }}
- ports:
    {{- range .ports }}
    - {protocol: UDP, port: {{ int . }}}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
  {{- with .to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "caly.egress.apiServer" -}}
{{- with .Values.networkPolicies.apiServer }}
- ports: {{- include "caly.tcpPorts" .ports | trim | nindent 4 }}
  {{- with .to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "caly.egress.database" -}}
{{- with .Values.networkPolicies.database }}
- ports: {{- include "caly.tcpPorts" .ports | trim | nindent 4 }}
  {{- with .to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "caly.egress.mail" -}}
{{- if .Values.mail.address }}
- ports: {{- include "caly.tcpPorts" (list (splitList ":" .Values.mail.address | last)) | trim | nindent 4 }}
  {{- with .Values.networkPolicies.mail.to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "caly.egress.proxy" -}}
{{- with (.Values.egressProxy).url }}
{{- $port := regexFind ":[0-9]+/?$" . | trimAll ":/" | default (ternary "443" "80" (hasPrefix "https:" .)) }}
{{- $v4 := regexFind "//([0-9]{1,3}\\.){3}[0-9]{1,3}(:[0-9]+)?/?$" . | regexFind "([0-9]{1,3}\\.){3}[0-9]{1,3}" }}
{{- $v6 := regexFind "\\[[0-9A-Fa-f:.]+\\]" . | trimAll "[]" }}
- ports: {{- include "caly.tcpPorts" (list $port) | trim | nindent 4 }}
  to:
    {{- with ($.Values.networkPolicies.egressProxy).to }}
    {{- toYaml . | nindent 4 }}
    {{- else }}
    {{- if $v4 }}
    - ipBlock: {cidr: {{ $v4 }}/32}
    {{- else if $v6 }}
    - ipBlock: {cidr: "{{ $v6 }}/128"}
    {{- else }}
    {{- fail "networkPolicies.egressProxy.to is needed with egressProxy.url: name the proxy's pods or addresses, or set networkPolicies.enabled=false" }}
    {{- end }}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "caly.egress.tracing" -}}
{{- with (.Values.tracing).endpoint }}
{{- $authority := regexFind "//[^/]+" . }}
{{- $port := regexFind ":[0-9]+$" $authority | trimPrefix ":" | default (ternary "443" "80" (hasPrefix "https:" .)) }}
{{- $v := ($.Values.networkPolicies).tracing | default dict }}
- ports: {{- include "caly.tcpPorts" ($v.ports | default (list $port)) | trim | nindent 4 }}
  {{- with $v.to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The Internet without private ranges, and the private ranges that the platform allows. Takes (dict "root" $ "cidrs" list). */}}
{{- define "caly.egress.internet" -}}
{{- $v4 := list -}}
{{- $v6 := list -}}
{{- range .root.Values.networkPolicies.privateCIDRs -}}
{{- if contains ":" . -}}{{- $v6 = append $v6 . -}}{{- else -}}{{- $v4 = append $v4 . -}}{{- end -}}
{{- end -}}
- ports: [{protocol: TCP}]
  to:
    - ipBlock:
        cidr: 0.0.0.0/0
        {{- with $v4 }}
        except: {{- toYaml . | nindent 10 }}
        {{- end }}
    - ipBlock:
        cidr: ::/0
        {{- with $v6 }}
        except: {{- toYaml . | nindent 10 }}
        {{- end }}
    {{- range concat .cidrs .root.Values.sources.allowedCIDRs ((.root.Values.storage).allowedCIDRs | default list) | uniq }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
{{- end -}}

{{/* Takes (dict "root" $ "component" name "namespace" namespace "selector" labels), and for a hook "hook" (dict "on" hooks "weight" weight). */}}
{{- define "caly.networkPolicyHead" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include (ternary "caly.fullname" "caly.clusterName" (eq .namespace .root.Release.Namespace)) .root }}-{{ .component }}
  namespace: {{ .namespace }}
  labels: {{- include "caly.labels" (dict "root" .root "component" .component) | nindent 4 }}
  {{- with .hook }}
  annotations:
    helm.sh/hook: {{ .on }}
    helm.sh/hook-weight: {{ .weight | quote }}
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
  {{- end }}
spec:
  podSelector:
    matchLabels: {{- .selector | nindent 6 }}
  policyTypes: [Ingress, Egress]
{{- end -}}

{{/*
Fails where a component's connection URL names a port that its policy would close. Only an installation that reaches the cluster can check this:
elsewhere the Secret is not found. The message must not contain the URL.
*/}}
{{- define "caly.checkDatabasePorts" -}}
{{- $ports := list -}}
{{- range .Values.networkPolicies.database.ports -}}{{- $ports = append $ports (toString (int .)) -}}{{- end -}}
{{- range $name := list .Values.database.operatorSecret .Values.database.dataplaneSecret -}}
{{- $data := (lookup "v1" "Secret" $.Release.Namespace $name).data | default dict -}}
{{- $hosts := get $data $.Values.database.key | default "" | b64dec | regexFind "@[^/?]*" -}}
{{- range regexFindAll ":[0-9]+(,|$)" $hosts -1 -}}
{{- $port := regexFind "[0-9]+" . -}}
{{- if not (has $port $ports) -}}
{{- fail (printf "networkPolicies.database.ports lacks %s, the port in Secret %s: add it, or set networkPolicies.enabled=false" $port $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
