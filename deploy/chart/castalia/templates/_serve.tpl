{{/*
serveConfigV2: what services.app.serve_config makes of the same services, which a test compares. One difference: byte sizes
in user_config stay as they are written, and the replicas read them.
*/}}
{{- define "castalia.serveConfig" -}}
{{- $settings := .Values.settings -}}
proxy_location: EveryNode
http_options: {host: "0.0.0.0", port: 8000}
logging_config:
  encoding: JSON
  log_level: {{ default "INFO" $settings.log_level }}
  enable_access_log: false
applications:
  {{- range .Values.services }}
  {{- if ne .family "upstream" }}
  - name: {{ .name }}
    route_prefix: null
    import_path: services.app:model_app
    args: {service: {{ .name }}}
    deployments:
      - name: Replica
        user_config: {{- toYaml . | nindent 10 }}
        max_ongoing_requests: 65536
        max_queued_requests: -1
        request_router_config: {request_router_class: services.affinity_router.AffinityRouter}
        {{- include "castalia.replicas" . | nindent 8 }}
        ray_actor_options:
          num_cpus: {{ dig "resources" "num_cpus" 0.05 . }}
          num_gpus: {{ dig "resources" "num_gpus" 0 . }}
          memory: {{ include "castalia.bytes" (dig "resources" "memory" "2GiB" .) }}
        {{- include "castalia.lifecycle" $ | nindent 8 }}
  {{- end }}
  {{- end }}
  - name: gateway
    route_prefix: /
    import_path: services.app:gateway_app
    deployments:
      - name: Gateway
        user_config:
          services: {{- toYaml .Values.services | nindent 12 }}
          {{- with .Values.routes }}
          routes: {{- toYaml . | nindent 12 }}
          {{- end }}
        max_ongoing_requests: 65536
        num_replicas: {{ .Values.settings.gateway_replicas | default 1 }}
        max_surge_percent: 100
        ray_actor_options: {num_cpus: 0.05}
        {{- include "castalia.lifecycle" $ | nindent 8 }}
{{- end -}}

{{- define "castalia.replicas" -}}
{{- $min := dig "replicas" "min" 1 . | int -}}
{{- $max := dig "replicas" "max" 1 . | int -}}
{{- if eq $min $max -}}
num_replicas: {{ $max }}
{{- else -}}
autoscaling_config:
  min_replicas: {{ $min }}
  max_replicas: {{ $max }}
  target_ongoing_requests: {{ dig "replicas" "target_ongoing" 8 . }}
  metrics_interval_s: 1
  look_back_period_s: 2
{{- end -}}
{{- end -}}

{{- define "castalia.lifecycle" -}}
health_check_period_s: 2
health_check_timeout_s: 30
graceful_shutdown_wait_loop_s: 1
graceful_shutdown_timeout_s: {{ include "castalia.longest" . }}
{{- end -}}
