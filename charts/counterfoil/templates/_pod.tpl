{{/* The pod of a process: root, name, args (what python -m gets), port (public, or 0), sealing (names of Secrets with keys), env (additional variables). */}}
{{- define "counterfoil.podTemplate" -}}
{{- $root := .root }}
{{- $values := index $root.Values .name }}
{{- /* The menu of the console can have other namespaces. */}}
{{- $served := and $root.Values.watchNamespaces (not $values.settings.namespaces) }}
metadata:
  labels:
    {{- include "counterfoil.processLabels" . | nindent 4 }}
    {{- with merge dict $values.podLabels $root.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: {{ .name }}
    {{- with .annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with merge dict $values.podAnnotations $root.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "counterfoil.serviceAccountName" . }}
  automountServiceAccountToken: {{ .token }}
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  {{- include "counterfoil.podFields" (dict "root" $root "values" $values) | nindent 2 }}
  containers:
    - name: {{ .name }}
      image: {{ include "counterfoil.image" $root }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: {{ toJson .args }}
      env:
        {{- include "counterfoil.settings" (merge dict $values.settings $root.Values.settings) | trim | nindent 8 }}
        {{- with $root.Values.tracing.endpoint }}
        - name: OTEL_EXPORTER_OTLP_ENDPOINT
          value: {{ . | quote }}
        {{- end }}
        {{- if .sealing }}
        - name: COUNTERFOIL_SEALING_KEYS
          value: /etc/counterfoil/sealing-keys
        {{- end }}
        {{- if $served }}
        - name: COUNTERFOIL_NAMESPACES_FILE
          value: /etc/counterfoil/namespaces/list
        {{- end }}
        {{- with .env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with concat $root.Values.extraEnv $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        {{- if .port }}
        - name: http
          containerPort: {{ .port }}
        {{- end }}
        - name: private
          containerPort: 9090
      {{- include "counterfoil.probes" $values.probes | nindent 6 }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        {{- toYaml $root.Values.securityContext | nindent 8 }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        {{- if .sealing }}
        - name: sealing-keys
          mountPath: /etc/counterfoil/sealing-keys
          readOnly: true
        {{- end }}
        {{- if $served }}
        - name: namespaces
          mountPath: /etc/counterfoil/namespaces
          readOnly: true
        {{- end }}
        {{- with .mounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: tmp
      emptyDir:
        # The controller stores large PDFs there for the check of their signatures, 256 MiB at most.
        sizeLimit: {{ eq .name "controller" | ternary "320Mi" "64Mi" }}
    {{- if .sealing }}
    - name: sealing-keys
      {{- if and $root.Values.sealingKeys.volume (ne .name "console") }}
      {{- toYaml $root.Values.sealingKeys.volume | nindent 6 }}
      {{- else }}
      projected:
        defaultMode: 0440
        sources:
          {{- range .sealing }}
          - secret:
              name: {{ . }}
          {{- end }}
      {{- end }}
    {{- end }}
    {{- if $served }}
    - name: namespaces
      configMap:
        name: {{ include "counterfoil.fullname" $root }}-namespaces
        defaultMode: 0440
    {{- end }}
    {{- with .volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if $values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml $values.topologySpreadConstraints | nindent 4 }}
  {{- else if $root.Values.topologySpread.enabled }}
  topologySpreadConstraints:
    {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: {{ $root.Values.topologySpread.whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "counterfoil.processSelector" $ | nindent 10 }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* What the values say of every pod: root, values (those of the process; none for a Job and for the test). */}}
{{- define "counterfoil.podFields" -}}
enableServiceLinks: false
securityContext:
  {{- $context := .root.Values.podSecurityContext }}
  {{- toYaml (.root.Values.openshift | ternary (omit $context "runAsUser" "runAsGroup" "fsGroup") $context) | nindent 2 }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName | default .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector | default .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations | default .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity | default .root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.extraPodSpec }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels and annotations of the pod of a Job or of the test: root, name. */}}
{{- define "counterfoil.jobPodLabels" -}}
{{ include "counterfoil.processLabels" . }}
{{- with .root.Values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Settings as environment: callbackRate becomes COUNTERFOIL_CALLBACK_RATE. Whole numbers are written out, since YAML made floats of them. */}}
{{- define "counterfoil.settings" -}}
{{- range $name, $value := . }}
- name: COUNTERFOIL_{{ $name | snakecase | upper }}
  value: {{ (and (kindIs "float64" $value) (eq $value (floor $value))) | ternary (printf "%.0f" (float64 $value)) (toString $value) | quote }}
{{- end }}
{{- end -}}

{{/* Where the node is: a connection to it is refused, since a NetworkPolicy often does not apply to it. */}}
{{- define "counterfoil.nodeAddresses" -}}
name: COUNTERFOIL_NODE_ADDRESSES
valueFrom:
  fieldRef: {fieldPath: status.hostIPs}
{{- end -}}

{{/* Five seconds, since the process gives each of its checks three. */}}
{{- define "counterfoil.probes" -}}
{{- $changes := . -}}
{{- range $name, $probe := dict
  "startup" (dict "path" "/healthz" "periodSeconds" 2 "failureThreshold" 60)
  "liveness" (dict "path" "/healthz" "periodSeconds" 10 "failureThreshold" 6)
  "readiness" (dict "path" "/readyz" "periodSeconds" 3 "failureThreshold" 2) }}
{{ $name }}Probe:
  httpGet: {path: {{ $probe.path }}, port: private}
  {{- toYaml (merge dict (index $changes $name | default dict) (omit $probe "path") (dict "timeoutSeconds" 5)) | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Everything around the pods of a process that serves a public port. */}}
{{- define "counterfoil.deployment" -}}
{{- $values := index .root.Values .name -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "counterfoil.processName" . }}
  namespace: {{ .root.Release.Namespace | quote }}
  labels:
    {{- include "counterfoil.processLabels" . | nindent 4 }}
  {{- with $values.deploymentAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if not .scaled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels:
      {{- include "counterfoil.processSelector" . | nindent 6 }}
  template:
    {{- include "counterfoil.podTemplate" . | nindent 4 }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ include "counterfoil.processName" . }}
  namespace: {{ .root.Release.Namespace | quote }}
  labels:
    {{- include "counterfoil.processLabels" . | nindent 4 }}
    {{- with $values.service.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $values.service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $values.service.type }}
  {{- with $values.service.extraSpec }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  ports:
    - {name: http, port: {{ $values.service.port }}, targetPort: http, appProtocol: http}
  selector:
    {{- include "counterfoil.processSelector" . | nindent 4 }}
{{- end -}}

{{- define "counterfoil.serviceAccount" -}}
{{- $values := (index .root.Values .name).serviceAccount -}}
{{- if $values.create }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "counterfoil.serviceAccountName" . }}
  namespace: {{ .root.Release.Namespace | quote }}
  labels:
    {{- include "counterfoil.processLabels" . | nindent 4 }}
  {{- with $values.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
# Pods say themselves whether they need the token.
automountServiceAccountToken: false
{{- end }}
{{- end -}}
