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
        max_surge_percent: {{ dig "replicas" "surge_percent" 0 . }}
        ray_actor_options:
          num_cpus: {{ dig "resources" "num_cpus" 0.05 . }}
          {{- $devices := include "castalia.devices" . | int }}
          num_gpus: {{ if gt $devices 1 }}0{{ else }}{{ include "castalia.deviceShare" . }}{{ end }}
          memory: {{ include "castalia.bytes" (dig "resources" "memory" "2GiB" .) }}
          {{- if gt $devices 1 }}
          {{- include "castalia.placement" . | nindent 8 }}
          {{- else if dig "resources" "accelerator" "" . }}
          label_selector: {ray.io/accelerator-type: {{ .resources.accelerator | quote }}}
          {{- /* The same again: without it Ray Serve imports the application on such a node, and starts one for that alone. */}}
          fallback_strategy: [{label_selector: {ray.io/accelerator-type: {{ .resources.accelerator | quote }}}}]
          {{- else if eq (include "castalia.deviceShare" . | float64) 0.0 }}
          {{- include "castalia.offDevices" $ | nindent 10 }}
          {{- end }}
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
        {{- if $settings.gateway_spread }}
        max_replicas_per_node: 1
        max_surge_percent: 0
        {{- else }}
        max_surge_percent: 100
        {{- end }}
        ray_actor_options:
          num_cpus: 0.05
          {{- include "castalia.offDevices" . | nindent 10 }}
        {{- include "castalia.lifecycle" $ | nindent 8 }}
{{- end -}}

{{/* How many devices a replica's model is spread over: over 1, each is placed for itself, as services.app says. */}}
{{- define "castalia.devices" -}}
{{- $most := 1 -}}
{{- range .models }}{{ $most = max $most (dig "tensor_parallel" 1 . | int) }}{{ end -}}
{{- $most -}}
{{- end -}}

{{- define "castalia.placement" -}}
{{- $devices := include "castalia.devices" . | int -}}
placement_group_bundles:
  - {CPU: {{ dig "resources" "num_cpus" 0.05 . }}, memory: {{ include "castalia.bytes" (dig "resources" "memory" "2GiB" .) }}, GPU: 1}
  {{- range until (sub $devices 1 | int) }}
  - {GPU: 1}
  {{- end }}
placement_group_strategy: STRICT_PACK
{{- with dig "resources" "accelerator" "" . }}
placement_group_bundle_label_selector: [{ray.io/accelerator-type: {{ . | quote }}}]
{{- end }}
{{- end -}}

{{/* Keeps what needs no device off the nodes that have one: it would keep them from going when they are at rest. */}}
{{- define "castalia.offDevices" -}}
{{- $devices := list -}}
{{- range .Values.services -}}
{{- with dig "resources" "accelerator" "" . }}{{ $devices = append $devices . }}{{ end -}}
{{- end -}}
{{- with $devices | uniq | sortAlpha }}
label_selector: {ray.io/accelerator-type: {{ printf "!in(%s)" (join ", " .) | quote }}}
{{- end -}}
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
  upscale_delay_s: 0
  downscale_delay_s: 0
  policy:
    policy_function: services.scaling.ray_policy:PredictedWait
    policy_kwargs:
      target_wait_s: {{ dig "replicas" "target_wait_s" 5 . }}
      target_busy: {{ dig "replicas" "target_busy" 0.8 . }}
      target_ongoing: {{ dig "replicas" "target_ongoing" 8 . }}
      growth: {{ dig "replicas" "growth" 2 . }}
      release: {{ dig "replicas" "release" 0.8 . }}
      upscale_delay_s: {{ dig "replicas" "upscale_delay_s" 1 . }}
      downscale_delay_s: {{ dig "replicas" "downscale_delay_s" 180 . }}
      idle_s: {{ dig "replicas" "idle_s" 300 . }}
{{- end -}}
{{- end -}}

{{/* MiB of a device by Ray's name of its type, as shared/config/accelerators.py has it: a test compares the two. */}}
{{- define "castalia.deviceMemory" -}}
A10G: 22400
A100: 40000
A100-40G: 40000
A100-80G: 80000
B200: 182000
H20: 97000
H100: 80000
H200: 143000
L4: 22400
L40S: 45400
P4: 7500
RTX-PRO-6000: 97000
T4: 14900
V100: 16000
{{- end -}}

{{/* The devices, or the part of one, that a replica of a service takes, in Ray's ten-thousandths. */}}
{{- define "castalia.deviceShare" -}}
{{- $resources := default dict .resources -}}
{{- $accelerator := default "" $resources.accelerator -}}
{{- $gpus := default 0 $resources.num_gpus -}}
{{- if $resources.gpu_memory -}}
{{- $table := include "castalia.deviceMemory" . | fromYaml -}}
{{- if not $accelerator -}}
{{- fail (printf "service %q: gpu_memory needs accelerator" .name) -}}
{{- else if not (hasKey $table $accelerator) -}}
{{- fail (printf "service %q: the memory of accelerator %q is not known: use num_gpus, or one of %s with gpu_memory" .name $accelerator (keys $table | sortAlpha | join ", ")) -}}
{{- else if $gpus -}}
{{- fail (printf "service %q: gpu_memory and num_gpus both say what part of a device it is" .name) -}}
{{- end -}}
{{- $bytes := include "castalia.bytes" $resources.gpu_memory | int64 -}}
{{- $total := mul (get $table $accelerator | int64) 1048576 -}}
{{- if gt $bytes $total -}}
{{- fail (printf "service %q: gpu_memory is over what accelerator %s has (%d MiB)" .name $accelerator (get $table $accelerator | int64)) -}}
{{- end -}}
{{- divf (div (sub (add (mul $bytes 10000) $total) 1) $total) 10000 -}}
{{- else if and $accelerator (not $gpus) -}}
{{- fail (printf "service %q: accelerator %s needs gpu_memory or num_gpus" .name $accelerator) -}}
{{- else -}}
{{- $gpus -}}
{{- end -}}
{{- end -}}

{{- define "castalia.lifecycle" -}}
health_check_period_s: 2
health_check_timeout_s: 30
graceful_shutdown_wait_loop_s: 1
graceful_shutdown_timeout_s: {{ include "castalia.longest" . }}
{{- end -}}
