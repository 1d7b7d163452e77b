{{/* What NOTES.txt warns of: a list of sentences, each with the value to change. */}}
{{- define "caly.warnings" -}}
{{- $v := .Values -}}
{{- $w := list -}}
{{- $routed := or $v.ingress.enabled $v.httpRoute.enabled -}}
{{- $url := include "caly.publicURL" . -}}
{{- if not (or $v.publicURL (and $v.ingress.enabled $v.ingress.host) (and $v.httpRoute.enabled $v.httpRoute.hostnames)) -}}
{{- $w = append $w "publicURL: Exotel cannot reach the address above. Enable ingress, or httpRoute with a host name, or set publicURL to where your own router leads from." -}}
{{- else if hasPrefix "http://" $url -}}
{{- $w = append $w (printf "%s: webhooks and audio streams travel unencrypted." $url) -}}
{{- end -}}
{{- if and (not $v.dataplane.trustedProxies) (or $routed $v.publicURL) -}}
{{- $w = append $w "dataplane.trustedProxies is empty: every client has the address of the proxy in front. Tenants with allowedCIDRs or signed URLs reject their webhooks, and all clients share the limits of one address. Name the proxy's addresses." -}}
{{- end -}}
{{- range $v.dataplane.trustedProxies -}}
{{- if regexMatch "^(0\\.0\\.0\\.0|::|10\\.0\\.0\\.0)/(0|8)$" . -}}
{{- $w = append $w (printf "dataplane.trustedProxies has %s: any pod or client there can forge its address. Name the proxies only." .) -}}
{{- end -}}
{{- end -}}
{{- if not $v.mail.address -}}
{{- $w = append $w "mail.address is empty: people cannot register, confirm their address or reset a password; these requests are answered 503." -}}
{{- else if has $v.mail.tls (list "none" "starttls-opportunistic") -}}
{{- $w = append $w (printf "mail.tls: %q leaves codes and links unencrypted, or may do so." $v.mail.tls) -}}
{{- end -}}
{{- if eq $v.api.mode "development" -}}
{{- $w = append $w "api.mode is development: answers show the causes of errors. Never use it on the Internet." -}}
{{- end -}}
{{- if $v.sources.allowHTTP -}}
{{- $w = append $w "sources.allowHTTP is on: recordings may travel unencrypted. Meant for trials." -}}
{{- end -}}
{{- if ($v.storage).allowHTTP -}}
{{- $w = append $w "storage.allowHTTP is on: recordings may travel unencrypted to the stores. Meant for trials." -}}
{{- end -}}
{{- if not ($v.networkPolicies).enabled -}}
{{- $w = append $w "networkPolicies.enabled is false: nothing but your own policies bounds what pods reach." -}}
{{- else -}}
{{- if not $v.networkPolicies.database.to -}}
{{- $w = append $w "networkPolicies.database.to is empty: PostgreSQL's port is open at every address. Name your database there." -}}
{{- end -}}
{{- if and $routed (not $v.networkPolicies.dataplane.from) -}}
{{- $w = append $w "networkPolicies.dataplane.from is empty: pods can reach the data plane without the proxy in front. Name the proxy's namespace." -}}
{{- end -}}
{{- end -}}
{{- if not $v.migrations.enabled -}}
{{- $w = append $w "migrations.enabled is false: run \"caly migrate up\" before each upgrade." -}}
{{- end -}}
{{- if not ($v.preflight).enabled -}}
{{- $w = append $w "preflight.enabled is false: pods that lack a Secret wait for it in silence." -}}
{{- end -}}
{{- if not ((($v.metrics).rules).enabled) -}}
{{- $w = append $w "metrics.rules.enabled is false: no alert of the chart reports a fault. See docs/how-to/watch-caly.md." -}}
{{- end -}}
{{- if and (not $v.dataplane.autoscaling.enabled) (not (kindIs "invalid" $v.dataplane.replicas)) (lt (int $v.dataplane.replicas) 2) -}}
{{- $w = append $w "dataplane.replicas is below 2: while its pod restarts, webhooks and calls find no pod." -}}
{{- end -}}
{{- toYaml $w -}}
{{- end -}}
