{{/* Of head and workers: Ray Serve reads its own variables in every one of its processes. Takes root, serves. */}}
{{- define "castalia.env" -}}
{{- $settings := .root.Values.settings -}}
- {name: HOME, value: /tmp}
- {name: CASTALIA_HOME, value: /var/lib/castalia}
- {name: CASTALIA_HOST, value: "0.0.0.0"}
{{- if .root.Values.gateway.apiKeysSecret }}
- {name: CASTALIA_API_KEYS_FILE, value: /etc/castalia/keys}
{{- end }}
{{- range $name, $value := $settings }}
{{- if not (kindIs "invalid" $value) }}{{/* null: the default, as in models.yaml */}}
{{- /* Helm reads every number as a float64, and writes 2097152 as 2.097152e+06. */}}
{{- $text := toString $value }}
{{- if kindIs "float64" $value }}{{- if eq $value (floor $value) }}{{- $text = toString (int64 $value) }}{{- end }}{{- end }}
- {name: CASTALIA_{{ upper $name }}, value: {{ $text | quote }}}
{{- end }}
{{- end }}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
- {name: RAY_DEDUP_LOGS, value: "0"}
# What a replica has started ends with it, however it ends.
- {name: RAY_process_group_cleanup_enabled, value: "1"}
- {name: RAY_SERVE_ENABLE_HA_PROXY, value: {{ ternary "1" "0" $settings.haproxy | quote }}}
- {name: RAY_SERVE_ENABLE_DIRECT_INGRESS, value: {{ ternary "1" "0" $settings.haproxy | quote }}}
- {name: RAY_SERVE_THROUGHPUT_OPTIMIZED, value: {{ ternary "1" "0" $settings.throughput_optimized | quote }}}
- {name: RAY_SERVE_USE_GRPC_BY_DEFAULT, value: {{ ternary "1" "0" $settings.grpc | quote }}}
- {name: RAY_SERVE_LOG_TO_STDERR, value: "1"}
# Guards every HTTP server that Serve opens, before Serve itself reads a request.
- {name: RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH, value: "services.gateway.ingress:middlewares"}
- {name: RAY_SERVE_SESSION_ID_HEADER_KEY, value: x-session-id}
- {name: RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH, value: "67108864"}
# A reloaded HAProxy cuts the streams that its old process still carries after this long.
- {name: RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S, value: {{ include "castalia.longest" .root | quote }}}
# No answer takes longer.
- {name: RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S, value: {{ include "castalia.longest" .root | quote }}}
# On SIGTERM a node drains for so long before it ends its processes, and their streams. Ray's own is 30 s. The head has no
# streams, and Serve's controller never leaves it: it ends at once.
- {name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, value: {{ ternary (include "castalia.longest" .root) "0" .serves | quote }}}
{{- end -}}


{{/* What workers read from Secrets: where the store is, and the keys of remote servers. */}}
{{- define "castalia.secretEnv" -}}
{{- with .Values.gateway.storeSecret }}
{{- $store := . }}
{{- range $variable, $entry := dict "CASTALIA_DATABASE_URL" "database-url" "CASTALIA_REDIS_URL" "redis-url" }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef: {name: {{ $store | quote }}, key: {{ $entry }}, optional: true}
{{- end }}
{{- end }}
{{- range .Values.gateway.upstreamSecrets }}
- name: {{ .env }}
  valueFrom:
    secretKeyRef: {name: {{ .secret | quote }}, key: {{ .key | quote }}}
{{- end }}
{{- end -}}
