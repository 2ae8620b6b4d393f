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

{{/* Seconds in which every stream has ended: the longest request and a margin, as services.app counts it. */}}
{{- define "castalia.longest" -}}
{{- add (ceil (float64 (default 600 .Values.settings.timeout_s))) 30 -}}
{{- end -}}

{{/* Seconds that a pod is given to finish its streams: its drain, its preStop, and a margin. */}}
{{- define "castalia.terminationGrace" -}}
{{- add (include "castalia.longest" .) 30 -}}
{{- end -}}

{{/* What JSON Schema cannot say of the services and routes; the fleet itself refuses the same, and more. */}}
{{- define "castalia.check" -}}
{{- $names := dict "gateway" true -}}
{{- $ids := dict -}}
{{- $variables := dict -}}
{{- if .Values.gateway.storeSecret -}}
{{- $variables = dict "CASTALIA_DATABASE_URL" true "CASTALIA_REDIS_URL" true -}}
{{- else if not .Values.gateway.apiKeysSecret -}}
{{- fail "gateway.apiKeysSecret is empty, and gateway.storeSecret names no store that keys could be in" -}}
{{- else if gt (int .Values.settings.gateway_replicas) 1 -}}
{{- fail "settings.gateway_replicas is over 1: several gateways need one store; name its Secret in gateway.storeSecret" -}}
{{- end -}}
{{- range .Values.gateway.upstreamSecrets -}}
{{- if hasKey $variables .env -}}
{{- fail (printf "gateway.upstreamSecrets: env %q is used twice" .env) -}}
{{- end -}}
{{- $_ := set $variables .env true -}}
{{- end -}}
{{- range .Values.services -}}
{{- if hasKey $names .name -}}
{{- fail (printf "service name %q is reserved or used twice" .name) -}}
{{- end -}}
{{- $_ := set $names .name true -}}
{{- if and .secret_env (not (hasKey $variables .secret_env)) -}}
{{- fail (printf "service %q: secret_env %q is not in gateway.upstreamSecrets" .name .secret_env) -}}
{{- end -}}
{{- if gt (int (dig "replicas" "min" 1 .)) (int (dig "replicas" "max" 1 .)) -}}
{{- fail (printf "service %q: replicas.min is over replicas.max" .name) -}}
{{- end -}}
{{- range .models -}}
{{- if hasKey $ids .id -}}
{{- fail (printf "model id %q is used twice" .id) -}}
{{- end -}}
{{- $_ := set $ids .id true -}}
{{- end -}}
{{- end -}}
{{- $routes := dict -}}
{{- range .Values.routes -}}
{{- if or (hasKey $ids .name) (hasKey $routes .name) -}}
{{- fail (printf "route %q: a model or another route has this name" .name) -}}
{{- end -}}
{{- $_ := set $routes .name true -}}
{{- $models := default list .fallbacks -}}
{{- range .targets -}}{{- $models = append $models .model -}}{{- end -}}
{{- with .mirror -}}{{- $models = append $models .model -}}{{- end -}}
{{- $name := .name -}}
{{- range $models -}}
{{- if not (hasKey $ids .) -}}
{{- fail (printf "route %q leads to %q, which is no model" $name .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
