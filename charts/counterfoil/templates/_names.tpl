{{/* What things are called. A process is named in a dict: root (the chart's scope) and name (receiver, pages, console, controller). */}}

{{- define "counterfoil.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* For what is not of a namespace: two releases in two namespaces must not meet. */}}
{{- define "counterfoil.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "counterfoil.fullname" .) -}}
{{- end -}}

{{/* The namespaces that the processes serve, as JSON: a define returns text. */}}
{{- define "counterfoil.served" -}}
{{- toJson (.Values.watchNamespaces | default (list .Release.Namespace)) -}}
{{- end -}}

{{/*
Those of them in which objects can be created, as JSON. Only if Helm reads the cluster, a namespace that does not exist or is
being deleted is left out: its objects would end an upgrade for all others (docs/decisions/0080). With clusterScoped=false
the user of Helm may have no right to read namespaces.
*/}}
{{- define "counterfoil.present" -}}
{{- $served := include "counterfoil.served" . | fromJsonArray -}}
{{- $present := $served -}}
{{- if and .Values.watchNamespaces .Values.clusterScoped (lookup "v1" "Namespace" "" "kube-system") -}}
{{- $present = list -}}
{{- range $served -}}
{{- $namespace := lookup "v1" "Namespace" "" . -}}
{{- if and $namespace (not $namespace.metadata.deletionTimestamp) -}}
{{- $present = append $present . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $present -}}
{{- end -}}

{{/*
What the last revision of the release stored, as JSON: the namespaces that it listed, and those of them where it created objects.
A release that had no list has none: without one before and now, the user of Helm needs no right to read ConfigMaps.
Who may write ConfigMaps there chooses the text, so what is no name of a namespace is left out.
*/}}
{{- define "counterfoil.before" -}}
{{- $name := printf "%s-namespaces" (include "counterfoil.fullname" .) -}}
{{- $hasList := .Values.watchNamespaces -}}
{{- $controller := lookup "apps/v1" "Deployment" .Release.Namespace (include "counterfoil.processName" (dict "root" . "name" "controller")) -}}
{{- range dig "spec" "template" "spec" "volumes" list $controller -}}
{{- if eq (dig "configMap" "name" "" .) $name -}}
{{- $hasList = true -}}
{{- end -}}
{{- end -}}
{{- $map := dict -}}
{{- if $hasList -}}
{{- $map = lookup "v1" "ConfigMap" .Release.Namespace $name -}}
{{- end -}}
{{- $listed := regexFindAll "(?m)^[a-z0-9][a-z0-9-]{0,62}$" (dig "data" "list" "" $map) -1 | default list -}}
{{- $prepared := $listed -}}
{{- /* An earlier chart did not record which namespaces were absent. What is in them now is not asked: others may change it. */ -}}
{{- with dig "metadata" "annotations" "counterfoil.dev/prepared" "" $map -}}
{{- $prepared = fromJsonArray . -}}
{{- end -}}
{{- toJson (dict "listed" $listed "prepared" $prepared) -}}
{{- end -}}

{{/*
The namespaces of the release that another one has too, as JSON: what shows it, and the command that prints that. Two releases would
archive the envelopes of a namespace twice, or the policies of one would stop the other. Who may write RoleBindings in a namespace
chooses their texts, so nothing of them is printed.
*/}}
{{- define "counterfoil.contested" -}}
{{- $contested := dict -}}
{{- if and .Values.rbac.create (or .Values.clusterScoped .Values.watchNamespaces) -}}
{{- range $namespace := include "counterfoil.present" . | fromJsonArray -}}
{{- range (lookup "rbac.authorization.k8s.io/v1" "RoleBinding" $namespace "").items -}}
{{- $labels := .metadata.labels | default dict -}}
{{- $isController := and (eq (get $labels "app.kubernetes.io/part-of") "counterfoil") (eq (get $labels "app.kubernetes.io/component") "controller") -}}
{{- $home := get (first (.subjects | default (list dict))) "namespace" -}}
{{- if and $isController (or (ne $home $.Release.Namespace) (ne (get $labels "app.kubernetes.io/instance") $.Release.Name)) -}}
{{- $command := printf "kubectl -n %s get rolebindings -l app.kubernetes.io/part-of=counterfoil,app.kubernetes.io/component=controller -o wide" $namespace -}}
{{- $_ := set $contested $namespace (dict "has" "has a RoleBinding of another release of Counterfoil" "command" $command) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- /* Only administrators of the cluster write these. They name a namespace before it exists. */ -}}
{{- $kind := "ValidatingAdmissionPolicyBinding" -}}
{{- $isServed := .Capabilities.APIVersions.Has (printf "admissionregistration.k8s.io/v1/%s" $kind) -}}
{{- if and .Values.clusterScoped .Values.admissionPolicy.enabled $isServed -}}
{{- $concerned := include "counterfoil.concerned" . | fromJsonArray -}}
{{- $own := printf "%s-noted" (include "counterfoil.clusterName" .) -}}
{{- range (lookup "admissionregistration.k8s.io/v1" $kind "" "").items -}}
{{- $name := .metadata.name -}}
{{- $isOther := and (hasSuffix "-noted" $name) (ne $name $own) (eq (dig "labels" "app.kubernetes.io/part-of" "" .metadata) "counterfoil") -}}
{{- $release := dict "name" (dig "annotations" "meta.helm.sh/release-name" "" .metadata) "namespace" (dig "annotations" "meta.helm.sh/release-namespace" "" .metadata) -}}
{{- if and $isOther (ne (toJson $release) (toJson (dict "name" $.Release.Name "namespace" $.Release.Namespace))) -}}
{{- range dig "spec" "matchResources" "namespaceSelector" "matchExpressions" list . -}}
{{- range .values -}}
{{- if has . $concerned -}}
{{- $_ := set $contested . (dict "has" "is in the admission policies of another release of Counterfoil" "command" (printf "kubectl get validatingadmissionpolicybindings %s -o yaml" $name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $contested -}}
{{- end -}}

{{/* All namespaces with objects of the release, as JSON: in its own one are the Leases of shards, also if it is not served. */}}
{{- define "counterfoil.concerned" -}}
{{- toJson (prepend (without (include "counterfoil.served" . | fromJsonArray) .Release.Namespace) .Release.Namespace) -}}
{{- end -}}

{{- define "counterfoil.processName" -}}
{{- printf "%s-%s" (include "counterfoil.fullname" .root) .name -}}
{{- end -}}

{{- define "counterfoil.serviceAccountName" -}}
{{- default (include "counterfoil.processName" .) (index .root.Values .name).serviceAccount.name -}}
{{- end -}}

{{/* As the API server names it. */}}
{{- define "counterfoil.username" -}}
{{- printf "system:serviceaccount:%s:%s" .root.Release.Namespace (include "counterfoil.serviceAccountName" .) -}}
{{- end -}}

{{- define "counterfoil.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "counterfoil.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "counterfoil.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: counterfoil
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "counterfoil.processSelector" -}}
{{ include "counterfoil.selectorLabels" .root }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "counterfoil.processLabels" -}}
{{ include "counterfoil.labels" .root }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "counterfoil.image" -}}
{{- with .Values.image -}}
{{- if not .repository -}}
{{- fail "image.repository is not set: build the image with `make image`, push it to a registry from which the cluster pulls, and set image.repository to its name there, such as registry.example.com/counterfoil." -}}
{{- else if contains "@" .repository -}}
{{- $parts := splitList "@" .repository -}}
{{- fail (printf "image.repository is %s, with a digest: set image.repository=%s and image.digest=%s." .repository (first $parts) (last $parts)) -}}
{{- else if regexMatch ":[^/]*$" .repository -}}
{{- fail (printf "image.repository is %s, with a tag: set image.repository=%s and image.tag=%s." .repository (regexReplaceAll ":[^/]*$" .repository "") (regexFind "[^:]*$" .repository)) -}}
{{- end -}}
{{- $tag := .tag | default (printf "%s%s" $.Chart.AppVersion (empty $.Values.tracing.endpoint | ternary "" "-traces")) -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ $tag }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "counterfoil.sealingKeysSecret" -}}
{{- .Values.sealingKeys.existingSecret | default (printf "%s-sealing-keys" (include "counterfoil.fullname" .)) -}}
{{- end -}}

{{/* Where eSAW and browsers reach us, or nothing. */}}
{{- define "counterfoil.publicHost" -}}
{{- if .Values.ingress.enabled -}}
{{- .Values.ingress.host -}}
{{- else if .Values.httpRoute.enabled -}}
{{- .Values.httpRoute.hostnames | first -}}
{{- end -}}
{{- end -}}

{{/* The quota of one namespace, as Helm or the Job creates it: root, namespace. The annotations let Helm take over the Job's. */}}
{{- define "counterfoil.quotaManifest" -}}
apiVersion: v1
kind: ResourceQuota
metadata:
  name: {{ include "counterfoil.fullname" .root }}
  namespace: {{ .namespace | quote }}
  labels:
    {{- include "counterfoil.labels" .root | nindent 4 }}
  annotations:
    meta.helm.sh/release-name: {{ .root.Release.Name }}
    meta.helm.sh/release-namespace: {{ .root.Release.Namespace | quote }}
spec:
  hard:
    count/envelopeevents.counterfoil.dev: {{ .root.Values.floodControl.quota.envelopeEvents | int64 | quote }}
    count/leases.coordination.k8s.io: {{ .root.Values.floodControl.quota.leases | int64 | quote }}
{{- end -}}

{{/* A Role and who has it: process, account, namespace, rules. */}}
{{- define "counterfoil.role" -}}
{{- $name := include "counterfoil.processName" .process }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  namespace: {{ .namespace | quote }}
  labels:
    {{- include "counterfoil.processLabels" .process | nindent 4 }}
rules:
  {{- toYaml .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  namespace: {{ .namespace | quote }}
  labels:
    {{- include "counterfoil.processLabels" .process | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ .account }}
    namespace: {{ .process.root.Release.Namespace | quote }}
{{- end -}}

{{/* The processes that run, by name. */}}
{{- define "counterfoil.processes" -}}
receiver
{{- if .Values.pages.enabled }} pages{{ end }}
{{- if .Values.console.enabled }} console{{ end }} controller
{{- end -}}

{{/* The names of the admission policies of the release. `kubectl counterfoil status` reports those that the cluster does not have. */}}
{{- define "counterfoil.policyNames" -}}
{{- $names := list -}}
{{- range splitList "\n---\n" (include (print $.Template.BasePath "/admission-policies.yaml") .) -}}
{{- $object := fromYaml . -}}
{{- if eq (get $object "kind" | toString) "ValidatingAdmissionPolicyBinding" -}}
{{- $names = append $names $object.metadata.name -}}
{{- end -}}
{{- end -}}
{{- join " " $names -}}
{{- end -}}
