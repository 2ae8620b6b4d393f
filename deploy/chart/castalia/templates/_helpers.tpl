{{/* Names, labels, and the sizes that Kubernetes and Ray spell differently. */}}

{{- define "castalia.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 47 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 47 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "castalia.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "castalia.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "castalia.selectorLabels" . }}
{{- end -}}

{{- define "castalia.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A byte size as pydantic's ByteSize reads it (2GiB, 12GB, 268435456), in bytes. */}}
{{- define "castalia.bytes" -}}
{{- if kindIs "string" . -}}
{{- $number := regexFind "^[0-9]+(\\.[0-9]+)?" . -}}
{{- $unit := . | trimPrefix $number | trim | lower | trimSuffix "b" -}}
{{- $units := dict "" 1 "k" 1e3 "m" 1e6 "g" 1e9 "t" 1e12 "ki" 1024 "mi" 1048576 "gi" 1073741824 "ti" 1099511627776 -}}
{{- if not (hasKey $units $unit) -}}
{{- fail (printf "%q is no byte size" .) -}}
{{- end -}}
{{- mulf (float64 $number) (float64 (get $units $unit)) | floor | int64 -}}
{{- else -}}
{{- int64 . -}}
{{- end -}}
{{- end -}}

{{/* Bytes of Ray's object store, which it would put on a slower disk if it were over /dev/shm: a tenth is left. Takes a pool. */}}
{{- define "castalia.objectStore" -}}
{{- include "castalia.bytes" .shm | int64 | mulf 0.9 | int64 -}}
{{- end -}}

{{/* Seconds in which every stream has ended: the longest request and a margin, as services.app counts it. */}}
{{- define "castalia.longest" -}}
{{- add (ceil (float64 (default 600 .Values.settings.timeout_s))) 30 -}}
{{- end -}}

{{/* Seconds that a pod is given to finish its streams: its drain, its preStop, and a margin. */}}
{{- define "castalia.terminationGrace" -}}
{{- add (include "castalia.longest" .) (include "castalia.preStop" .) 15 -}}
{{- end -}}

{{/* Seconds between a pod's leaving the endpoints and Ray's beginning to stop. */}}
{{- define "castalia.preStop" -}}15{{- end -}}

{{/* Takes the user's and group's id. */}}
{{- define "castalia.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "castalia.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Requests equal limits. Takes resources, and gpus and gpuResource where there are some. */}}
{{- define "castalia.resources" -}}
requests: {{- include "castalia.quantities" . | nindent 2 }}
limits: {{- include "castalia.quantities" . | nindent 2 }}
{{- end -}}

{{- define "castalia.quantities" -}}
cpu: {{ .resources.cpu | quote }}
memory: {{ .resources.memory }}
{{- with .gpus }}
{{ $.gpuResource }}: {{ . | toString | quote }}
{{- end }}
{{- end -}}

{{- define "castalia.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "castalia.serviceAccountName" -}}
{{- with .Values.serviceAccount -}}
{{- .name | default (ternary (include "castalia.fullname" $) "default" .create) -}}
{{- end -}}
{{- end -}}

{{/* The claim that all workers keep fetched weights in; empty: each has its own folder. */}}
{{- define "castalia.cacheClaim" -}}
{{- with .Values.modelCache -}}
{{- .existingClaim | default (ternary (printf "%s-models" (include "castalia.fullname" $)) "" .createClaim) -}}
{{- end -}}
{{- end -}}
