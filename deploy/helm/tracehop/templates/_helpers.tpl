{{- define "tracehop.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "tracehop.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tracehop.labels" -}}
{{ include "tracehop.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: proxy
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "tracehop.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "tracehop.fullname" .) -}}
{{- end }}

{{- define "tracehop.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end }}

{{- /* Names of ports have fifteen characters at most. */ -}}
{{- define "tracehop.portName" -}}
{{- . | trunc 15 | trimSuffix "-" -}}
{{- end }}

{{- /* One section's keys. JSON's scalars and lists are TOML's as well. */ -}}
{{- define "tracehop.keys" -}}
{{- range $key, $value := . }}
{{ $key }} = {{ $value | toJson }}
{{- end }}
{{- end }}

{{- define "tracehop.config" -}}
{{- if not .Values.routes }}
{{- fail "routes: there is none; name a broker, as with --set routes.redis.port=6379,routes.redis.upstream=redis://redis.default.svc:6379" }}
{{- end -}}
drain_grace = {{ printf "%ds" (int .Values.drainGraceSeconds) | toJson }}
{{- range $name, $route := .Values.routes }}

[routes.{{ $name }}]
listen = {{ printf ":%d" (int $route.port) | toJson }}
upstream = {{ $route.upstream | toJson }}
{{- with $route.protocol }}
protocol = {{ toJson . }}
{{- end }}
{{- include "tracehop.keys" $route.settings }}
{{- end }}

[admin]
listen = {{ printf ":%d" (int .Values.admin.port) | toJson }}
{{- if .Values.admin.tokenSecret.name }}
token_file = {{ printf "/etc/tracehop-admin/%s" .Values.admin.tokenSecret.key | toJson }}
{{- end }}
{{- include "tracehop.keys" .Values.config.admin }}

[telemetry]
flush_grace = {{ printf "%ds" (int .Values.flushGraceSeconds) | toJson }}
{{- include "tracehop.keys" .Values.config.telemetry }}
{{- range $section, $keys := omit .Values.config "admin" "telemetry" }}

[{{ $section }}]
{{- include "tracehop.keys" $keys }}
{{- end }}
{{- end }}
