{{/*
One small server with a disk, and its Service. Takes root, name, server (its values), port, uid, env, and args, data (where it
keeps its files), writable (more folders), probe (a command).
*/}}
{{- define "castalia.stateful" -}}
{{- $fullname := printf "%s-%s" (include "castalia.fullname" .root) .name -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ $fullname }}
  labels:
    {{- include "castalia.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  selector:
    {{- include "castalia.selectorLabels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
  ports:
    - {name: {{ .name }}, port: {{ .port }}, targetPort: {{ .name }}, protocol: TCP}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $fullname }}
  labels:
    {{- include "castalia.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  serviceName: {{ $fullname }}
  replicas: 1
  selector:
    matchLabels:
      {{- include "castalia.selectorLabels" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .name }}
  template:
    metadata:
      labels:
        {{- include "castalia.selectorLabels" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .name }}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      securityContext: {{- include "castalia.podSecurity" .uid | nindent 8 }}
      {{- with include "castalia.pullSecrets" .root }}{{ . | nindent 6 }}{{ end }}
      containers:
        - name: {{ .name }}
          {{- with .server.image }}
          image: {{ ternary (printf "%s@%s" .repository .digest) (printf "%s:%s" .repository .tag) (ne .digest "") }}
          {{- end }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          securityContext: {{- include "castalia.containerSecurity" .root | nindent 12 }}
          {{- with .args }}
          args: {{- toYaml . | nindent 12 }}
          {{- end }}
          env: {{- toYaml .env | nindent 12 }}
          ports:
            - {name: {{ .name }}, containerPort: {{ .port }}}
          readinessProbe:
            exec: {command: {{ toJson .probe }}}
            periodSeconds: 5
            timeoutSeconds: 5
          livenessProbe:
            tcpSocket: {port: {{ .name }}}
            periodSeconds: 20
            timeoutSeconds: 5
          resources: {{- include "castalia.resources" (dict "resources" .server.resources) | nindent 12 }}
          volumeMounts:
            - {name: data, mountPath: {{ .data }}}
            {{- range $i, $path := .writable }}
            - {name: run, mountPath: {{ $path }}, subPath: run-{{ $i }}}
            {{- end }}
      volumes:
        - name: run
          emptyDir: {}
  volumeClaimTemplates:
    - metadata:
        name: data
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .server.storageClassName }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests: {storage: {{ .server.size }}}
{{- end -}}

{{- define "castalia.passwordEnv" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef: {name: {{ .secret.name | quote }}, key: {{ .secret.key | quote }}}
{{- end -}}
