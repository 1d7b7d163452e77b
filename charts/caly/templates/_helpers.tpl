{{- define "caly.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "caly.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "caly.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "caly.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The names of objects outside of the release's namespace carry it, so that two releases never meet. */}}
{{- define "caly.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "caly.fullname" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels of every object. Takes (dict "root" $ "component" "operator"). */}}
{{- define "caly.labels" -}}
{{- with .root.Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: caly
{{ include "caly.selector" . }}
{{- end -}}

{{- define "caly.selector" -}}
app.kubernetes.io/name: {{ include "caly.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "caly.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{- define "caly.publicURL" -}}
{{- if .Values.publicURL -}}
{{- .Values.publicURL | trimSuffix "/" -}}
{{- else if and .Values.ingress.enabled .Values.ingress.host -}}
{{- printf "%s://%s" (ternary "https" "http" .Values.ingress.tls.enabled) .Values.ingress.host -}}
{{- else if and .Values.httpRoute.enabled .Values.httpRoute.hostnames -}}
{{- printf "https://%s" (first .Values.httpRoute.hostnames) -}}
{{- else -}}
{{- printf "http://%s-dataplane.%s.svc:%v" (include "caly.fullname" .) .Release.Namespace .Values.dataplane.service.port -}}
{{- end -}}
{{- end -}}

{{/* The platform's own hosts, separated by commas. A wildcard of the HTTPRoute is where tenants' hosts are, and is not one of them. */}}
{{- define "caly.platformHosts" -}}
{{- $hosts := list (urlParse (include "caly.publicURL" .)).hostname -}}
{{- $hosts = append $hosts (printf "%s-dataplane.%s" (include "caly.fullname" .) .Release.Namespace) -}}
{{- if .Values.ingress.enabled -}}
{{- $hosts = append $hosts .Values.ingress.host -}}
{{- end -}}
{{- if .Values.httpRoute.enabled -}}
{{- range .Values.httpRoute.hostnames -}}
{{- if not (hasPrefix "*" .) -}}
{{- $hosts = append $hosts . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- concat $hosts .Values.platformHosts | compact | uniq | join "," -}}
{{- end -}}

{{- define "caly.workNamespace" -}}
{{- if eq .Values.workNamespace.name .Release.Namespace -}}
{{- fail (printf "workNamespace.name must differ from the release's namespace %q: a subject that may read tenant configs must not read the operator's database credentials" .Release.Namespace) -}}
{{- end -}}
{{- .Values.workNamespace.name -}}
{{- end -}}

{{/* The namespace that upload pods run in. The data plane cannot read its Secrets. */}}
{{- define "caly.uploadNamespace" -}}
{{- $name := (.Values.uploadNamespace).name | default "caly-uploads" -}}
{{- if or (eq $name .Release.Namespace) (eq $name .Values.workNamespace.name) -}}
{{- fail (printf "uploadNamespace.name is %q: it must differ from workNamespace.name and from the release's namespace, since the data plane must not read upload credentials" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* The labels that the operator gives upload pods. */}}
{{- define "caly.uploadSelector" -}}
app.kubernetes.io/component: upload
app.kubernetes.io/managed-by: caly
{{- end -}}

{{/* An ID of pods; empty if it is left to the platform. Takes (dict "root" $ "field" name). */}}
{{- define "caly.podID" -}}
{{- $given := .root.Values.podSecurityContext | default dict -}}
{{- with ternary (int64 (index $given .field)) (int64 65532) (hasKey $given .field) }}{{ . }}{{ end -}}
{{- end -}}

{{- define "caly.podSecurityContext" -}}
runAsNonRoot: true
{{- range $field := list "runAsUser" "runAsGroup" "fsGroup" }}
{{- with include "caly.podID" (dict "root" $ "field" $field) }}
{{ $field }}: {{ . }}
{{- end }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* What upload pods have beyond the operator's own template: a patch of it, in JSON. */}}
{{- define "caly.uploadPodTemplate" -}}
{{- $v := .Values.upload -}}
{{- $context := dict -}}
{{- range $field := list "runAsUser" "runAsGroup" "fsGroup" -}}
{{- $id := include "caly.podID" (dict "root" $ "field" $field) -}}
{{- $_ := set $context $field (empty $id | ternary nil (int64 $id)) -}}
{{- end -}}
{{- $env := prepend ($v.extraEnv | default list) (dict "name" "CALY_LOG_LEVEL" "value" ($v.logLevel | default "info")) -}}
{{- if $v.pprof }}{{- $env = prepend $env (dict "name" "CALY_PPROF" "value" "true") }}{{ end -}}
{{- $upload := dict "name" "upload" -}}
{{- $cas := include "caly.trustedCAs.env" . | fromYamlArray -}}
{{- with $cas }}{{- $_ := set $upload "volumeMounts" (include "caly.trustedCAs.mount" $ | fromYamlArray) }}{{ end -}}
{{- $_ := set $upload "env" (concat $env $cas) -}}
{{- with $v.resources }}{{- $_ := set $upload "resources" . }}{{ end -}}
{{- $spec := dict "securityContext" $context "containers" (list $upload) -}}
{{- with $cas }}
{{- $_ := set $spec "volumes" (include "caly.trustedCAs.volume" (dict "root" $ "name" (include "caly.uploadTrustedCAs" $)) | fromYamlArray) }}
{{- end -}}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "priorityClassName" -}}
{{- with index $v $field }}{{- $_ := set $spec $field . }}{{ end -}}
{{- end -}}
{{- $labels := merge dict ($v.podLabels | default dict) .Values.commonLabels -}}
{{- dict "metadata" (dict "labels" $labels "annotations" ($v.podAnnotations | default dict)) "spec" $spec | toJson -}}
{{- end -}}

{{- define "caly.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The volume with a database URL. Takes (dict "root" $ "secret" name). */}}
{{- define "caly.databaseVolume" -}}
- name: database
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    items: [{key: {{ .root.Values.database.key | quote }}, path: url}]
{{- end -}}

{{/* Where pods run. Takes the component's values. */}}
{{- define "caly.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Secrets that the data plane mounts below /etc/caly, by the folder's name. */}}
{{- define "caly.dataplaneSecrets" -}}
{{- with .Values.api.monitoringTokenSecret }}
monitoring: {{ . }}
{{- end }}
{{- if .Values.mail.address }}
{{- with .Values.mail.credentialsSecret }}
smtp: {{ . }}
{{- end }}
{{- with .Values.mail.caSecret }}
smtp-ca: {{ . }}
{{- end }}
{{- end }}
{{- with .Values.dataplane.tls.secretName }}
tls: {{ . }}
{{- end }}
{{- end -}}

{{/* What the outside may ask the data plane for. */}}
{{- define "caly.publicPaths" -}}
[/webhooks/exotel, /audio/exotel, /api, /t, /docs, /openapi.json, /.well-known/jwks.json]
{{- end -}}

{{/*
Private authorities. Go reads the directories of SSL_CERT_DIR in addition to the image's bundle, once, so pods that run are replaced when
they change. Each of the four parts is empty without trustedCAs; the volume takes (dict "root" $ "name" ConfigMap).
*/}}
{{- define "caly.uploadTrustedCAs" -}}{{ include "caly.clusterName" . }}-trusted-cas{{- end -}}

{{- define "caly.trustedCAs.annotation" -}}
{{- with trim (.Values.trustedCAs | default "") }}
caly.dev/trusted-cas: {{ sha256sum . | trunc 16 | quote }}
{{- end }}
{{- end -}}

{{- define "caly.trustedCAs.env" -}}
{{- if trim (.Values.trustedCAs | default "") }}
- {name: SSL_CERT_DIR, value: /etc/caly/trusted-cas}
{{- end }}
{{- end -}}

{{- define "caly.trustedCAs.mount" -}}
{{- if trim (.Values.trustedCAs | default "") }}
- {name: trusted-cas, mountPath: /etc/caly/trusted-cas, readOnly: true}
{{- end }}
{{- end -}}

{{- define "caly.trustedCAs.volume" -}}
{{- if trim (.root.Values.trustedCAs | default "") }}
- name: trusted-cas
  configMap: {name: {{ .name }}}
{{- end }}
{{- end -}}

{{/*
What pods cannot start without: a list of keys of Secrets in the release's namespace, without those of preflight.except. kind is a word of
"caly preflight --help", value is the chart's value that names the Secret.
*/}}
{{- define "caly.requiredSecrets" -}}
{{- $db := .Values.database -}}
{{- $all := list -}}
{{- if .Values.migrations.enabled -}}
{{- $all = append $all (dict "secret" $db.ownerSecret "key" $db.key "kind" "database-url" "value" "database.ownerSecret") -}}
{{- end -}}
{{- $all = append $all (dict "secret" $db.operatorSecret "key" $db.key "kind" "database-url" "value" "database.operatorSecret") -}}
{{- $all = append $all (dict "secret" $db.dataplaneSecret "key" $db.key "kind" "database-url" "value" "database.dataplaneSecret") -}}
{{- with .Values.api.monitoringTokenSecret -}}
{{- $all = append $all (dict "secret" . "key" "token" "kind" "token" "value" "api.monitoringTokenSecret") -}}
{{- end -}}
{{- if and .Values.api.testTokenSecret (eq .Values.api.mode "development") -}}
{{- $all = append $all (dict "secret" .Values.api.testTokenSecret "key" "token" "kind" "text" "value" "api.testTokenSecret") -}}
{{- end -}}
{{- if .Values.mail.address -}}
{{- with .Values.mail.credentialsSecret -}}
{{- range $key := list "username" "password" -}}
{{- $all = append $all (dict "secret" $.Values.mail.credentialsSecret "key" $key "kind" "text" "value" "mail.credentialsSecret") -}}
{{- end -}}
{{- end -}}
{{- with .Values.mail.caSecret -}}
{{- $all = append $all (dict "secret" . "key" "ca.crt" "kind" "certificates" "value" "mail.caSecret") -}}
{{- end -}}
{{- end -}}
{{- with .Values.dataplane.tls.secretName -}}
{{- $all = append $all (dict "secret" . "key" "tls.crt" "kind" "certificates" "value" "dataplane.tls.secretName") -}}
{{- $all = append $all (dict "secret" . "key" "tls.key" "kind" "text" "value" "dataplane.tls.secretName") -}}
{{- end -}}
{{- $wanted := list -}}
{{- range $all -}}
{{- if not (has .secret ($.Values.preflight).except) -}}{{- $wanted = append $wanted . -}}{{- end -}}
{{- end -}}
{{- toYaml $wanted -}}
{{- end -}}

{{/*
Fails where a key of a Secret is missing, with all of their names. Only an installation that reaches the cluster can check this: elsewhere
lookup returns nothing at all, and the Job finds them. A list from the API server has items even if it is empty.
*/}}
{{- define "caly.checkSecrets" -}}
{{- $missing := list -}}
{{- if hasKey (lookup "v1" "Secret" .Release.Namespace "") "items" -}}
{{- range include "caly.requiredSecrets" . | fromYamlArray -}}
{{- $secret := lookup "v1" "Secret" $.Release.Namespace .secret -}}
{{- if not $secret -}}
{{- $missing = append $missing (printf "the Secret %s does not exist (%s)" .secret .value) -}}
{{- else if not (get ($secret.data | default dict) .key) -}}
{{- $missing = append $missing (printf "the Secret %s lacks the key %s (%s)" .secret .key .value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $missing | uniq -}}
{{- fail (printf "\n\nIn the namespace %s:\n  - %s\nCreate what is missing, or name in preflight.except what is created during the installation.\n" $.Release.Namespace (join "\n  - " .)) -}}
{{- end -}}
{{- end -}}
