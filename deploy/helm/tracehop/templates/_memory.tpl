{{- /* What the process may take at worst, in MiB: its own, the two budgets, what is kept for each
connection and for each message of which the end is awaited or which is remembered. Measured, and
rounded up. */ -}}
{{- define "tracehop.memory" -}}
{{- $limits := merge dict (.Values.config.limits | default dict) (include "tracehop.defaultLimits" . | fromYaml) -}}
{{- $connection := 24 -}}
{{- range .Values.routes -}}
{{- if or (regexMatch "(rediss|amqps)://" .upstream) (dig "tls_certificate" "" (.settings | default dict)) -}}
{{- $connection = 64 -}}
{{- end -}}
{{- end -}}
{{- $kib := mul $connection (int64 $limits.connections_max) -}}
{{- $kib = add $kib (mul 2 (int64 $limits.open_hops_max)) (int64 $limits.recent_tasks_max) (int64 $limits.sightings_max) -}}
{{- $kib = add $kib (div (int64 $limits.memory_max) 4) -}}
{{- range list $limits.hold_total_bytes_max $limits.buffer_total_bytes_max -}}
{{- $kib = add $kib (div (include "tracehop.bytes" . | int64) 1024) -}}
{{- end -}}
{{- add 64 (div (add $kib 1023) 1024) -}}
{{- end }}

{{- /* As in proxy.toml. */ -}}
{{- define "tracehop.defaultLimits" -}}
connections_max: 20000
hold_total_bytes_max: 256MiB
buffer_total_bytes_max: 128MiB
open_hops_max: 100000
memory_max: 100000
sightings_max: 65536
recent_tasks_max: 20000
{{- end }}

{{- /* A size as tracehop or Kubernetes has it, in bytes. */ -}}
{{- define "tracehop.bytes" -}}
{{- if kindIs "string" . -}}
{{- $unit := regexFind "[A-Za-z]*$" . -}}
{{- $number := . | trimSuffix $unit | trim | float64 -}}
{{- $sizes := dict "" 1 "KiB" 1024 "MiB" 1048576 "GiB" 1073741824 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 -}}
{{- mulf $number (get $sizes $unit | default 1) | int64 -}}
{{- else -}}
{{- int64 . -}}
{{- end -}}
{{- end }}

{{- /* The container's resources: a limit for memory that is enough, or a complaint. */ -}}
{{- define "tracehop.resources" -}}
{{- $needed := include "tracehop.memory" . | int64 -}}
{{- with dig "limits" "memory" "" .Values.resources -}}
{{- if lt (include "tracehop.bytes" . | int64) (mul $needed 1048576) -}}
{{- fail (printf "resources.limits.memory: %v is less than the %dMi that the settings allow tracehop to take; raise it or leave it out, or lower config.limits: connections_max, hold_total_bytes_max, buffer_total_bytes_max, open_hops_max" . $needed) -}}
{{- end -}}
{{- end -}}
{{- $memory := dict "limits" (dict "memory" (printf "%dMi" $needed)) -}}
{{- toYaml (merge dict .Values.resources $memory) -}}
{{- end }}
