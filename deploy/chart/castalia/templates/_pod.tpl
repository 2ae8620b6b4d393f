{{/*
The pod template that head and workers share: restricted by Pod Security's measure, read-only but for /tmp, /dev/shm and
the cache. Takes root, component, container, pool (resources, shm, placement), serves: whether replicas run there, and of
a group with devices gpus, gpuResource and runtimeClass.
*/}}
{{- define "castalia.podTemplate" -}}
metadata:
  labels:
    {{- /* No chart version here: a changed pod template builds a new Ray cluster. */}}
    {{- include "castalia.selectorLabels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  {{- if .serves }}
  serviceAccountName: {{ include "castalia.serviceAccountName" .root }}
  {{- end }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ ternary (include "castalia.terminationGrace" .root) 30 .serves }}
  securityContext: {{- include "castalia.podSecurity" 10001 | nindent 4 }}
  {{- with .runtimeClass }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with include "castalia.pullSecrets" .root }}{{ . | nindent 2 }}{{ end }}
  {{- with .pool.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .pool.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.topologySpread }}
  {{- if and .enabled $.serves }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: {{ .topologyKey }}
      whenUnsatisfiable: {{ .whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "castalia.selectorLabels" $.root | nindent 10 }}
          app.kubernetes.io/component: worker
  {{- end }}
  {{- end }}
  containers:
    - name: {{ .container }}
      image: {{ include "castalia.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      securityContext: {{- include "castalia.containerSecurity" .root | nindent 8 }}
      env:
        {{- include "castalia.env" . | trim | nindent 8 }}
        {{- with and .serves (include "castalia.secretEnv" .root) }}{{ . | trim | nindent 8 }}{{ end }}
      resources: {{- include "castalia.resources" (dict "resources" .pool.resources "gpus" .gpus "gpuResource" .gpuResource) | nindent 8 }}
      {{- if .serves }}
      ports:
        - {name: http, containerPort: 8000}
        - {name: metrics, containerPort: 8080}
        {{- if .root.Values.settings.haproxy }}
        - {name: haproxy, containerPort: 9101}
        {{- end }}
      # Crosses the data path (HAProxy, gateway, replicas), which Ray Serve's own health page does not.
      readinessProbe:
        httpGet: {path: /readyz, port: http}
        periodSeconds: 5
        timeoutSeconds: 5
        # Ten seconds: HAProxy of a node that Ray leaves answers for thirty.
        failureThreshold: 2
      lifecycle:
        preStop:
          exec:
            # Endpoints lose the pod before Ray begins to stop.
            command: [sleep, {{ include "castalia.preStop" . | quote }}]
      {{- end }}
      volumeMounts: {{- include "castalia.mounts" . | nindent 8 }}
  volumes: {{- include "castalia.volumes" . | nindent 4 }}
{{- end -}}

{{- define "castalia.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: shm, mountPath: /dev/shm}
{{- if .serves }}
- {name: cache, mountPath: /var/lib/castalia}
{{- if include "castalia.cacheClaim" .root }}
- {name: shared-cache, mountPath: /var/lib/castalia/cache}
{{- end }}
{{- if .root.Values.weights.claim }}
- {name: weights, mountPath: {{ .root.Values.weights.mountPath }}, readOnly: true}
{{- end }}
{{- if .root.Values.gateway.apiKeysSecret }}
- {name: api-keys, mountPath: /etc/castalia, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{- define "castalia.volumes" -}}
- name: tmp
  emptyDir: {}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ .pool.shm }}}
{{- if .serves }}
- name: cache
  emptyDir: {sizeLimit: {{ .root.Values.modelCache.size }}}
{{- with include "castalia.cacheClaim" .root }}
- name: shared-cache
  persistentVolumeClaim: {claimName: {{ . }}}
{{- end }}
{{- with .root.Values.weights.claim }}
- name: weights
  persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
{{- end }}
{{- with .root.Values.gateway.apiKeysSecret }}
- name: api-keys
  secret:
    secretName: {{ . }}
    items:
      - {key: keys, path: keys}
{{- end }}
{{- else if .root.Values.autoscaler.enabled }}
- name: autoscaler-tmp
  emptyDir: {}
# What automountServiceAccountToken would mount into every container; here the autoscaler alone mounts it.
- name: api-access
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}
{{- end -}}
