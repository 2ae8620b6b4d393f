{{/* Every worker group as one list: name, pool, and gpus, gpuResource, accelerator and runtimeClass where it has devices. */}}
{{- define "castalia.groups" -}}
- {name: cpu, pool: {{ toJson .Values.workers }}}
{{- range .Values.gpuGroups }}
- name: {{ .name }}
  pool: {{ toJson . }}
  gpus: {{ .gpus | default 1 }}
  gpuResource: {{ .gpuResource | default "nvidia.com/gpu" }}
  accelerator: {{ .accelerator | quote }}
  runtimeClass: {{ .runtimeClassName | default "" | quote }}
{{- end }}
{{- end -}}

{{/* The most pods of a group: without an autoscaler nobody adds any. Takes root and pool. */}}
{{- define "castalia.mostPods" -}}
{{- ternary .pool.maxReplicas .pool.minReplicas .root.Values.autoscaler.enabled | int -}}
{{- end -}}

{{/* One worker group of a RayCluster: root, and what castalia.groups says of it. */}}
{{- define "castalia.workerGroup" -}}
- groupName: {{ .name }}
  replicas: {{ .pool.minReplicas | int }}
  minReplicas: {{ .pool.minReplicas | int }}
  maxReplicas: {{ include "castalia.mostPods" . }}
  {{- if and (eq .name "cpu") .root.Values.autoscaler.enabled }}
  # Clients come by these pods: one that has lost its last replica stays until the longest stream through it has ended.
  idleTimeoutSeconds: {{ add (include "castalia.longest" .root) .root.Values.autoscaler.idleTimeoutSeconds }}
  {{- end }}
  rayStartParams: {object-store-memory: {{ include "castalia.objectStore" .pool | quote }}}
  {{- with .accelerator }}
  # Ray's autoscaler reads it here, before there is any pod of the group.
  labels: {ray.io/accelerator-type: {{ . | quote }}}
  {{- end }}
  template:
    {{- $pod := dict "component" "worker" "container" "ray-worker" "serves" true }}
    {{- include "castalia.podTemplate" (merge $pod .) | nindent 4 }}
{{- end -}}

{{/*
Refuses a service that no group has room for, since its replicas would wait for ever: Ray's autoscaler adds the pods that
it can. A replica's memory is counted against the pod's limit, which KubeRay gives Ray as its memory.
*/}}
{{- define "castalia.checkPlacement" -}}
{{- $root := . -}}
{{- $names := dict "cpu" true -}}
{{- range .Values.gpuGroups -}}
{{- if hasKey $names .name -}}
{{- fail (printf "gpuGroups: name %q is used twice" .name) -}}
{{- end -}}
{{- $_ := set $names .name true -}}
{{- end -}}
{{- $groups := include "castalia.groups" . | fromYamlArray -}}
{{- range $groups -}}
{{- if gt (int .pool.minReplicas) (int .pool.maxReplicas) -}}
{{- fail (printf "group %q: minReplicas (%d) is over maxReplicas (%d)" .name (int .pool.minReplicas) (int .pool.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- range $service := .Values.services -}}
{{- if ne .family "upstream" -}}
{{- $share := include "castalia.deviceShare" . | float64 -}}
{{- $accelerator := dig "resources" "accelerator" "" . | default "" -}}
{{- $cpus := dig "resources" "num_cpus" 0.05 . | default 0.05 | float64 -}}
{{- $memory := include "castalia.bytes" (dig "resources" "memory" "2GiB" . | default "2GiB") | int64 -}}
{{- $found := "" -}}
{{- $seen := list -}}
{{- range $groups -}}
{{- $devices := .gpus | default 0 | float64 -}}
{{- $pods := include "castalia.mostPods" (dict "root" $root "pool" .pool) | int -}}
{{- $has := printf "%s (up to %d pods of %s CPUs, %s" .name $pods .pool.resources.cpu .pool.resources.memory -}}
{{- $seen = append $seen (ternary (printf "%s, %d %s)" $has (int .gpus) .accelerator) (printf "%s)" $has) (gt $devices 0.0)) -}}
{{- $bytes := include "castalia.bytes" .pool.resources.memory | int64 -}}
{{- /* What needs no device waits for no pod that has some: Ray keeps it off those. */ -}}
{{- $fits := and (le $share $devices) (or (gt $share 0.0) (eq $devices 0.0)) (le $cpus (float64 .pool.resources.cpu)) (le $memory $bytes) -}}
{{- if and $fits (gt $pods 0) (or (not $accelerator) (eq $accelerator (.accelerator | default ""))) -}}
{{- $found = .name -}}
{{- end -}}
{{- end -}}
{{- if not $found -}}
{{- $asks := printf "%v CPUs, %v bytes of memory" $cpus $memory -}}
{{- if gt $share 0.0 -}}
{{- $asks = printf "%v GPUs%s, %s" $share (ternary (printf " of accelerator %s" $accelerator) "" (ne $accelerator "")) $asks -}}
{{- end -}}
{{- fail (printf "service %q: no group has room for a replica of it, which takes %s; the groups are: %s" $service.name $asks (join ", " $seen)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
