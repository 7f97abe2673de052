{{/* The names of all objects begin with it. A Service's name has 63 characters, and `-scheduler-admin` comes behind. */}}
{{- define "damselfly.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- default $full .Values.fullnameOverride | replace "." "-" | trunc 46 | trimSuffix "-" -}}
{{- end -}}

{{/* What selects the pods of a component: (dict "root" $ "component" "scheduler"). */}}
{{- define "damselfly.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* The labels of everything: (dict "root" $ "component" "scheduler"). */}}
{{- define "damselfly.labels" -}}
{{ include "damselfly.selector" . }}
app.kubernetes.io/part-of: damselfly
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The labels of pods: no version, which would have each version of the chart replace them. */}}
{{- define "damselfly.podLabels" -}}
{{ include "damselfly.selector" . }}
app.kubernetes.io/part-of: damselfly
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An image's name: (dict "root" $ "image" .Values.scheduler.image). */}}
{{- define "damselfly.image" -}}
{{- $name := printf "%s/%s" .root.Values.image.registry .image.repository -}}
{{- if .image.digest -}}
{{ $name }}@{{ .image.digest }}
{{- else -}}
{{ $name }}:{{ default .root.Chart.AppVersion .root.Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* An address that is listened on: (dict "root" $ "port" 6510). */}}
{{- define "damselfly.anyAddress" -}}
{{ eq .root.Values.ipFamily "IPv6" | ternary "[::]" "0.0.0.0" }}:{{ .port }}
{{- end -}}

{{/*
HOST:PORT of the scheduler, as the daemon's environment has it. Not by its DNS name: for that the daemons would resolve all
names by the cluster's DNS, and a node whose cluster DNS is away or not yet there could not pull, not even the DNS server's
own image. Kubelet knows the Service's address; a container that starts before there is a Service starts again.
*/}}
{{- define "damselfly.schedulerAddress" -}}
{{- if .Values.scheduler.enabled -}}
{{- $variable := printf "%s-scheduler" (include "damselfly.fullname" .) | upper | replace "-" "_" -}}
{{- $host := printf "$(%s_SERVICE_HOST)" $variable -}}
{{ eq .Values.ipFamily "IPv6" | ternary (printf "[%s]" $host) $host }}:6510
{{- else -}}
{{ .Values.scheduler.address }}
{{- end -}}
{{- end -}}

{{/* What no container of ours needs. */}}
{{- define "damselfly.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The same for one that needs no file of root's. */}}
{{- define "damselfly.nobody" -}}
{{ include "damselfly.unprivileged" . }}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
{{- end -}}

{{/* CPU and memory of a container that does little and ends. */}}
{{- define "damselfly.littleWork" -}}
requests: {cpu: 5m, memory: 16Mi}
limits: {memory: 128Mi}
{{- end -}}

{{/* Directories of the node that the chosen runtimes are configured in, as a list in JSON. */}}
{{- define "damselfly.runtimeDirectories" -}}
{{- $of := dict "containerd" "/etc/containerd" "crio" "/etc/containers" "podman" "/etc/containers" -}}
{{- $directories := list -}}
{{- range .Values.runtime.names -}}
{{- $directories = append $directories (get $of .) -}}
{{- end -}}
{{ $directories | uniq | toJson }}
{{- end -}}

{{/* Them, and the record of what was changed in them, as volumes. */}}
{{- define "damselfly.runtimeVolumes" -}}
{{- range $index, $directory := include "damselfly.runtimeDirectories" . | fromJsonArray }}
- name: runtime-{{ $index }}
  hostPath: {path: {{ $directory }}, type: DirectoryOrCreate}
{{- end }}
{{- end -}}

{{- define "damselfly.runtimeMounts" -}}
{{- range $index, $directory := include "damselfly.runtimeDirectories" . | fromJsonArray }}
- {name: runtime-{{ $index }}, mountPath: /host{{ $directory }}}
{{- end }}
{{- end -}}

{{/* Where the daemons go: the pods that clean up go there too. */}}
{{- define "damselfly.daemonPlaces" -}}
{{- with .Values.dfdaemon.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dfdaemon.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dfdaemon.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Whether the daemons' zones come from their nodes' labels. */}}
{{- define "damselfly.hasPlaceLabels" -}}
{{- if or .Values.dfdaemon.zoneLabel .Values.dfdaemon.rackLabel }}yes{{ end -}}
{{- end -}}

{{/* The scheduler's configuration file. A table ends where another begins, so that the chart's comes last. */}}
{{- define "damselfly.schedulerConfig" -}}
{{- with .Values.scheduler.config }}{{ trim . }}

{{ end -}}
{{- if eq .Values.join.method "serviceAccount" -}}
[kubernetes]
service_accounts = ["{{ .Release.Namespace }}/{{ include "damselfly.fullname" . }}-dfdaemon"]
audience = {{ .Values.join.audience | quote }}
{{ end -}}
{{- end -}}
