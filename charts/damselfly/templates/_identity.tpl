{{/*
The cluster's identity: its authority's key (`ca.key`), the key that signs tickets (`ticket.key`), and the join token's secret.

It is made here and not by the scheduler, since a daemon has to know the authority's hash before it speaks to anybody who
calls itself the scheduler, and no value is to be required for that. At the first install keys are generated; at each upgrade
they are looked up in the cluster. Helm keeps them with the release as well, in a Secret of the same namespace.

Both keys are Ed25519 in PKCS #8, whose PEM is the base64 of what the scheduler reads.
*/}}

{{/* PEM without its armour: base64 in one line. */}}
{{- define "damselfly.base64OfPem" -}}
{{- regexReplaceAll "-----[A-Z ]+-----|\\s" . "" -}}
{{- end -}}

{{/*
`dfauth1.HASH` of an Ed25519 private key (PEM): base64url of the SHA-256 of the public key's SubjectPublicKeyInfo. A
certificate is the only thing in Helm that shows a public key; the twelve bytes open an Ed25519 one (RFC 8410, section 4).
*/}}
{{- define "damselfly.authorityOf" -}}
{{- $certificate := (genCAWithKey "damselfly" 1 .).Cert | include "damselfly.base64OfPem" | b64dec -}}
{{- $prefix := "\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00" -}}
{{- $key := substr 0 32 (index (splitn $prefix 2 $certificate) "_1") -}}
dfauth1.{{ print $prefix $key | sha256sum | include "damselfly.base64urlOfHex" }}
{{- end -}}

{{/* 64 hexadecimal digits in base64url: three digits are two characters. */}}
{{- define "damselfly.base64urlOfHex" -}}
{{- $alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" -}}
{{- $hex := print . "00" -}}
{{- $text := "" -}}
{{- range $group := until 22 -}}
{{- $bits := 0 -}}
{{- range $place := until 3 -}}
{{- $at := add (mul 3 $group) $place | int -}}
{{- $digit := substr $at (add1 $at | int) $hex -}}
{{- $bits = add (mul 16 $bits) (len (index (splitn $digit 2 "0123456789abcdef") "_0")) -}}
{{- end -}}
{{- range $six := list (div $bits 64) (mod $bits 64) -}}
{{- $text = print $text (substr (int $six) (add1 $six | int) $alphabet) -}}
{{- end -}}
{{- end -}}
{{- substr 0 43 $text -}}
{{- end -}}

{{/*
Fills .Values.made, once for all templates of a rendering, which share their values: `authority`, `data` of the identity's
Secret if the chart has it, and `token` of the join token's Secret if the chart has that.
*/}}
{{- define "damselfly.make" -}}
{{- if not (hasKey .Values "made") -}}
{{- $made := dict "authority" .Values.identity.authority -}}
{{- $name := include "damselfly.fullname" . -}}
{{- if and .Values.scheduler.enabled (not .Values.identity.existingSecret) -}}
{{- $kept := lookup "v1" "Secret" .Release.Namespace (printf "%s-identity" $name) | default dict -}}
{{- if $kept.data -}}
{{- range $key := list "ca.key" "ticket.key" "authority" -}}
{{- if not (hasKey $kept.data $key) -}}
{{- fail (printf "the Secret %s-identity has no %s: put it back, or delete the Secret for a new identity" $name $key) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $made "data" $kept.data -}}
{{- $_ := set $made "authority" (b64dec $kept.data.authority) -}}
{{- else -}}
{{- $ca := genPrivateKey "ed25519" -}}
{{- $_ := set $made "authority" (include "damselfly.authorityOf" $ca) -}}
{{- $_ := set $made "data" (dict
  "ca.key" (include "damselfly.base64OfPem" $ca)
  "ticket.key" (genPrivateKey "ed25519" | include "damselfly.base64OfPem")
  "authority" (b64enc $made.authority)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.scheduler.enabled (eq .Values.join.method "token") (not .Values.join.existingSecret) -}}
{{- $kept := lookup "v1" "Secret" .Release.Namespace (printf "%s-join" $name) | default dict -}}
{{- $secret := randBytes 32 | replace "+" "-" | replace "/" "_" | trimSuffix "=" -}}
{{- if $kept.data -}}
{{- $secret = $kept.data.token | b64dec | splitList "." | last -}}
{{- end -}}
{{- /* The hash in it is the identity's of today: another identity makes another token of the same secret. */ -}}
{{- $_ := set $made "token" (printf "dfjoin1.%s.%s" (trimPrefix "dfauth1." $made.authority) $secret) -}}
{{- end -}}
{{- $_ := set .Values "made" $made -}}
{{- end -}}
{{- end -}}

{{/* `dfauth1.HASH`, by which daemons know the scheduler. */}}
{{- define "damselfly.authority" -}}
{{- include "damselfly.make" . -}}
{{- .Values.made.authority -}}
{{- end -}}

{{- define "damselfly.identitySecret" -}}
{{- default (printf "%s-identity" (include "damselfly.fullname" .)) .Values.identity.existingSecret -}}
{{- end -}}

{{- define "damselfly.joinSecret" -}}
{{- default (printf "%s-join" (include "damselfly.fullname" .)) .Values.join.existingSecret -}}
{{- end -}}
