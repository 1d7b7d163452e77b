package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WebhookRequirement says how many verifiers must accept a webhook.
// +kubebuilder:validation:Enum=Any;All
type WebhookRequirement string

const (
	// RequireAny takes a webhook that at least one verifier accepts.
	RequireAny WebhookRequirement = "Any"
	// RequireAll takes a webhook that every verifier accepts.
	RequireAll WebhookRequirement = "All"
)

// SignatureScheme is how a webhook is signed.
// +kubebuilder:validation:Enum=HMACSHA1;HMACSHA256
type SignatureScheme string

const (
	// SignatureSchemeHMACSHA1 is HMAC with SHA-1.
	SignatureSchemeHMACSHA1 SignatureScheme = "HMACSHA1"
	// SignatureSchemeHMACSHA256 is HMAC with SHA-256.
	SignatureSchemeHMACSHA256 SignatureScheme = "HMACSHA256"
)

// SignatureEncoding is how a signature is written in its header.
// +kubebuilder:validation:Enum=Any;Hex;Base64
type SignatureEncoding string

const (
	// SignatureEncodingAny takes either of the other two; their lengths tell them apart.
	SignatureEncodingAny SignatureEncoding = "Any"
	// SignatureEncodingHex is hex, in lower or upper case.
	SignatureEncodingHex SignatureEncoding = "Hex"
	// SignatureEncodingBase64 is base64 of the standard alphabet, with its padding.
	SignatureEncodingBase64 SignatureEncoding = "Base64"
)

// SignedContent is what a signature is made over.
// +kubebuilder:validation:Enum=Body;URLAndParameters;TimestampAndBody
type SignedContent string

const (
	// SignedContentBody is the raw body, or the raw query of a request without one.
	SignedContentBody SignedContent = "Body"
	// SignedContentURLAndParameters is the URL, followed by the form's parameters in the order of their names.
	SignedContentURLAndParameters SignedContent = "URLAndParameters"
	// SignedContentTimestampAndBody is a timestamp, a full stop, and the same as Body.
	SignedContentTimestampAndBody SignedContent = "TimestampAndBody"
)

// TimestampSpec says where the time of a signature is found and how old it may be.
type TimestampSpec struct {
	// header that carries the time of signing, in seconds since 1970, such as X-Exotel-Timestamp.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z][A-Za-z0-9-]*$`
	Header string `json:"header,omitempty"`
	// tolerance is how far that time may be from now, into the past or the future, 10s to 24h. Exotel tries again 5 and
	// 20 minutes after its first attempt: a sender that signs once for all three needs 25m. Defaults to 5m.
	// +optional
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:XValidation:rule="size(self) <= 32 && duration(self) >= duration('10s') && duration(self) <= duration('24h')",message="webhooks.signature.timestamp.tolerance must be between 10s and 24h"
	Tolerance *metav1.Duration `json:"tolerance,omitempty"`
}

// SignatureSpec verifies webhooks by a signature in a header. Exotel itself signs nothing: this is for a gateway or a
// relay in front that does.
// +kubebuilder:validation:XValidation:rule="has(self.timestamp) == (has(self.signedContent) && self.signedContent == 'TimestampAndBody')",message="webhooks.signature.timestamp goes with signedContent: TimestampAndBody: set both or neither"
type SignatureSpec struct {
	// secretRef names the Secret with the signing secrets. Every key of it is an active secret, so that a second one
	// can be added, the sender moved over, and the first one removed without a refused webhook. At most 16, each at
	// least 16 bytes.
	// +required
	SecretRef SecretReference `json:"secretRef,omitempty,omitzero"`
	// scheme of the signature: HMACSHA1 or HMACSHA256. Defaults to HMACSHA1.
	// +optional
	// +kubebuilder:default=HMACSHA1
	Scheme SignatureScheme `json:"scheme,omitempty"`
	// encoding of the signature: Hex, Base64 (standard alphabet, padded), or Any of the two. Defaults to Any.
	// +optional
	// +kubebuilder:default=Any
	Encoding SignatureEncoding `json:"encoding,omitempty"`
	// header that carries the signature. Defaults to X-Exotel-Signature.
	// +optional
	// +kubebuilder:default=X-Exotel-Signature
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z][A-Za-z0-9-]*$`
	Header string `json:"header,omitempty"`
	// prefix that the sender writes in front of the signature, such as "v1=". The scheme's own, "sha1=" or "sha256=",
	// is always accepted and need not be set.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^[!-~]+$`
	Prefix string `json:"prefix,omitempty"`
	// signedContent is what the signature is made over. Body: the raw body, or the raw query of a request without one;
	// nothing else of the request is believed. URLAndParameters: the full URL as the sender wrote it, followed by name
	// and value of each form parameter in the order of their names, as Twilio does; it needs the trusted proxies to be
	// set where a proxy is in front, and does not show where a name ends and its value begins. Prefer another content
	// if the sender supports one. TimestampAndBody: the header named by timestamp, a full stop, and the same as Body.
	// Defaults to Body.
	// +optional
	// +kubebuilder:default=Body
	SignedContent SignedContent `json:"signedContent,omitempty"`
	// timestamp says where the time of signing is found. Goes with signedContent: TimestampAndBody.
	// +optional
	//nolint:kubeapilinter // the time of signing, which senders and Standard Webhooks call a timestamp
	Timestamp *TimestampSpec `json:"timestamp,omitempty"`
}

// StandardWebhooksSpec verifies webhooks as standardwebhooks.com says: HMAC-SHA256 over id, time and body, in the
// headers webhook-id, webhook-timestamp and webhook-signature.
type StandardWebhooksSpec struct {
	// secretRef names the Secret with the signing secrets, each "whsec_" and at least 16 bytes in base64. Every key of
	// it is an active secret, so that one can be rotated without a refused webhook. At most 16.
	// +required
	SecretRef SecretReference `json:"secretRef,omitempty,omitzero"`
	// tolerance is how far webhook-timestamp may be from now, into the past or the future, 10s to 24h. Defaults to 5m.
	// +optional
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:XValidation:rule="size(self) <= 32 && duration(self) >= duration('10s') && duration(self) <= duration('24h')",message="webhooks.standardWebhooks.tolerance must be between 10s and 24h"
	Tolerance *metav1.Duration `json:"tolerance,omitempty"`
}

// TokenSpec verifies webhooks by a secret token in the URL, which is what Exotel itself can send.
type TokenSpec struct {
	// secretRef names the Secret with the tokens. Every key of it is an active token, so that one can be rotated
	// without a refused webhook. At most 16, each at least 16 printable ASCII characters, without blanks: the command
	// "openssl rand -hex 32" makes one.
	// +required
	SecretRef SecretReference `json:"secretRef,omitempty,omitzero"`
	// query is the name of the query parameter that carries the token. The token is taken as the last element of the
	// path too: .../status/<token>. Defaults to token.
	// +optional
	// +kubebuilder:default=token
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_.-]+$`
	Query string `json:"query,omitempty"`
}

// BasicAuthSpec verifies webhooks by HTTP Basic authentication, as in https://user:password@host/...
type BasicAuthSpec struct {
	// secretRef names the Secret with the passwords: every key is a user name, and its value the password, at least 12
	// bytes. Each of them is active, so that one can be rotated without a refused webhook. At most 16.
	// +required
	SecretRef SecretReference `json:"secretRef,omitempty,omitzero"`
}

// WebhooksSpec says how Exotel's webhooks prove themselves. At least one verifier must be named.
// +kubebuilder:validation:XValidation:rule="has(self.signature) || has(self.standardWebhooks) || has(self.token) || has(self.basicAuth) || has(self.allowedCIDRs)",message="webhooks needs a verifier: set one or more of webhooks.token, .basicAuth, .signature, .standardWebhooks and .allowedCIDRs"
// +kubebuilder:validation:MinProperties=1
type WebhooksSpec struct {
	// require says how many verifiers must accept a webhook: Any, one is enough, or All, each of them. Defaults to Any.
	// +optional
	// +kubebuilder:default=Any
	Require WebhookRequirement `json:"require,omitempty"`
	// signature verifies an HMAC in a header.
	// +optional
	Signature *SignatureSpec `json:"signature,omitempty"`
	// standardWebhooks verifies as Standard Webhooks says.
	// +optional
	StandardWebhooks *StandardWebhooksSpec `json:"standardWebhooks,omitempty"`
	// token verifies a secret token in the URL.
	// +optional
	Token *TokenSpec `json:"token,omitempty"`
	// basicAuth verifies a user name and its password.
	// +optional
	BasicAuth *BasicAuthSpec `json:"basicAuth,omitempty"`
	// allowedCIDRs are the address ranges that webhooks may come from, such as 203.0.113.0/24, /8 at the widest. Behind
	// proxies the sender's address is known only if they are trusted. Exotel does not publish its ranges: ask its
	// support, and do not rely on them alone, since others send from the same cloud. Use require: All with another
	// verifier.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self) && cidr(self) == cidr(self).masked() && cidr(self).prefixLength() >= 8",message="webhooks.allowedCIDRs are ranges such as 203.0.113.0/24 or 2001:db8::/32, with no bit set behind the prefix, and /8 at the widest"
	AllowedCIDRs []string `json:"allowedCIDRs,omitempty"`
	// freshness is how old the event that a webhook tells of may be, by its own time in the account's time zone, 5m to
	// 720h. An older one is a replay, or so late that only backfill can have it. Keep it wide: Exotel's events may be
	// hours late. Defaults to 72h.
	// +optional
	// +kubebuilder:default="72h"
	// +kubebuilder:validation:XValidation:rule="size(self) <= 32 && duration(self) >= duration('5m') && duration(self) <= duration('720h')",message="webhooks.freshness must be between 5m and 720h"
	Freshness *metav1.Duration `json:"freshness,omitempty"`
}
