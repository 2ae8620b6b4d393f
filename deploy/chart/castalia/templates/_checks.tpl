{{/* What JSON Schema cannot say of the services and routes; the fleet itself refuses the same, and more. */}}
{{- define "castalia.check" -}}
{{- $names := dict "gateway" true -}}
{{- $ids := dict -}}
{{- $variables := dict -}}
{{- $gateways := int (default 1 .Values.settings.gateway_replicas) -}}
{{- if .Values.settings.gateway_spread -}}
{{- if lt $gateways 2 -}}
{{- fail "settings.gateway_spread needs settings.gateway_replicas of 2 or more: a single gateway would be gone while it is replaced" -}}
{{- else if lt (int .Values.workers.minReplicas) $gateways -}}
{{- fail (printf "settings.gateway_spread: %d gateways need a node each, and workers.minReplicas is %d" $gateways (int .Values.workers.minReplicas)) -}}
{{- end -}}
{{- end -}}
{{- if .Values.gateway.storeSecret -}}
{{- $variables = dict "CASTALIA_DATABASE_URL" true "CASTALIA_REDIS_URL" true -}}
{{- else if not .Values.gateway.apiKeysSecret -}}
{{- fail "gateway.apiKeysSecret is empty, and gateway.storeSecret names no store that keys could be in" -}}
{{- else if gt $gateways 1 -}}
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

{{/* What the objects around the fleet need of one another. */}}
{{- define "castalia.checkObjects" -}}
{{- range $name := list "redis" "postgresql" -}}
{{- $server := get $.Values $name -}}
{{- if and $server.enabled (not (and $server.passwordSecret.name $server.passwordSecret.key)) -}}
{{- fail (printf "%s.enabled asks for %s.passwordSecret, the name of a Secret and a key in it" $name $name) -}}
{{- end -}}
{{- if and $server.enabled (not (or $server.image.tag $server.image.digest)) -}}
{{- fail (printf "%s.image: give a tag or a digest" $name) -}}
{{- end -}}
{{- end -}}
{{- with .Values.gcsFaultTolerance -}}
{{- if and .enabled (not .redisAddress) (not $.Values.redis.enabled) -}}
{{- fail "gcsFaultTolerance.enabled asks for gcsFaultTolerance.redisAddress, or redis.enabled" -}}
{{- end -}}
{{- end -}}
{{- with .Values.podDisruptionBudget -}}
{{- if and .enabled (le (int $.Values.workers.minReplicas) (int .minAvailable)) -}}
{{- fail (printf "podDisruptionBudget.minAvailable (%d) is not below workers.minReplicas (%d): no node could be drained" (int .minAvailable) (int $.Values.workers.minReplicas)) -}}
{{- end -}}
{{- end -}}
{{- with .Values.gateway -}}
{{- if and .ingress.enabled (not .ingress.host) -}}
{{- fail "gateway.ingress.enabled asks for gateway.ingress.host" -}}
{{- end -}}
{{- if and .httpRoute.enabled (not .httpRoute.parentRefs) -}}
{{- fail "gateway.httpRoute.enabled asks for gateway.httpRoute.parentRefs" -}}
{{- end -}}
{{- end -}}
{{- with .Values.metrics -}}
{{- if and .monitors.enabled (not (and .keySecret.name .keySecret.key)) -}}
{{- fail "metrics.monitors.enabled asks for metrics.keySecret: the gateway shows its figures to an operator's key alone" -}}
{{- end -}}
{{- end -}}
{{- with .Values.modelCache -}}
{{- if and .createClaim .existingClaim -}}
{{- fail "modelCache.createClaim and modelCache.existingClaim exclude each other" -}}
{{- end -}}
{{- end -}}
{{- end -}}
