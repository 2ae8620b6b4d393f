{{/* One worker group: root, group (its name), pool, and gpus where it has some. */}}
{{- define "castalia.workerGroup" -}}
- groupName: {{ .group }}
  replicas: {{ .pool.replicas }}
  minReplicas: {{ .pool.replicas }}
  maxReplicas: {{ .pool.replicas }}
  rayStartParams: {}
  template:
    {{- $pod := dict "component" "worker" "container" "ray-worker" "serves" true }}
    {{- include "castalia.podTemplate" (merge $pod .) | nindent 4 }}
{{- end -}}

{{- define "castalia.wantsGpus" -}}
{{- range .Values.services -}}
{{- if gt (float64 (dig "resources" "num_gpus" 0 .)) 0.0 }}yes{{ end -}}
{{- end -}}
{{- end -}}
