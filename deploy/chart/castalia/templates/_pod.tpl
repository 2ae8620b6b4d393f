{{/*
The pod template that head and workers share: restricted by Pod Security's measure, read-only but for /tmp, /dev/shm and
the cache. Takes root, component, container, pool (resources, shm, cache, placement), gpus, and serves: whether replicas
run there.
*/}}
{{- define "castalia.podTemplate" -}}
metadata:
  labels:
    {{- /* No chart version here: a changed pod template builds a new Ray cluster. */}}
    {{- include "castalia.selectorLabels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "castalia.terminationGrace" .root }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: {type: RuntimeDefault}
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with .pool.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .pool.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .container }}
      image: {{ include "castalia.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      env: {{- include "castalia.env" .root | nindent 8 }}
        {{- if .serves }}
        {{- with .root.Values.gateway.storeSecret }}
        {{- $store := . }}
        {{- range $variable, $entry := dict "CASTALIA_DATABASE_URL" "database-url" "CASTALIA_REDIS_URL" "redis-url" }}
        - name: {{ $variable }}
          valueFrom:
            secretKeyRef: {name: {{ $store | quote }}, key: {{ $entry }}, optional: true}
        {{- end }}
        {{- end }}
        {{- range .root.Values.gateway.upstreamSecrets }}
        - name: {{ .env }}
          valueFrom:
            secretKeyRef: {name: {{ .secret | quote }}, key: {{ .key | quote }}}
        {{- end }}
        {{- end }}
      resources:
        {{- range $kind := list "requests" "limits" }}
        {{ $kind }}:
          cpu: {{ $.pool.resources.cpu | quote }}
          memory: {{ $.pool.resources.memory }}
          {{- with $.gpus }}
          nvidia.com/gpu: {{ . | quote }}
          {{- end }}
        {{- end }}
      {{- if .serves }}
      ports:
        - {name: http, containerPort: 8000}
      # Crosses the data path (HAProxy, gateway, replicas), which Ray Serve's own health page does not.
      readinessProbe:
        httpGet: {path: /readyz, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      lifecycle:
        preStop:
          exec:
            # Endpoints lose the pod before Ray begins to stop.
            command: [sleep, "15"]
      {{- end }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: shm, mountPath: /dev/shm}
        {{- if .serves }}
        - {name: cache, mountPath: /var/lib/castalia}
        {{- if .root.Values.gateway.apiKeysSecret }}
        - {name: api-keys, mountPath: /etc/castalia, readOnly: true}
        {{- end }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    - name: shm
      emptyDir: {medium: Memory, sizeLimit: {{ .pool.shm }}}
    {{- if .serves }}
    - name: cache
      emptyDir: {sizeLimit: {{ .pool.cache }}}
    {{- with .root.Values.gateway.apiKeysSecret }}
    - name: api-keys
      secret:
        secretName: {{ . }}
        items:
          - {key: keys, path: keys}
    {{- end }}
    {{- end }}
{{- end -}}

{{/* The same on head and workers: Ray Serve reads its own variables in every one of its processes. */}}
{{- define "castalia.env" -}}
{{- $settings := .Values.settings -}}
- {name: HOME, value: /tmp}
- {name: CASTALIA_HOME, value: /var/lib/castalia}
- {name: CASTALIA_HOST, value: "0.0.0.0"}
{{- if .Values.gateway.apiKeysSecret }}
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
- {name: RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S, value: {{ include "castalia.longest" . | quote }}}
# No answer takes longer.
- {name: RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S, value: {{ include "castalia.longest" . | quote }}}
{{- end -}}
