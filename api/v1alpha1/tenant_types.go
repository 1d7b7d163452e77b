package v1alpha1

import (
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SecretReference names a Secret in the Tenant's own namespace.
type SecretReference struct {
	// name of the Secret, in the namespace of the Tenant.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="name must be the name of a Secret: lower-case letters, digits, '-' and '.'"
	Name string `json:"name,omitempty"`
}

// ExotelRegion is where the Exotel account lives.
// +kubebuilder:validation:Enum=in;sg
type ExotelRegion string

const (
	// ExotelRegionIndia is Mumbai: api.in.exotel.com.
	ExotelRegionIndia ExotelRegion = "in"
	// ExotelRegionSingapore is Singapore: api.exotel.com.
	ExotelRegionSingapore ExotelRegion = "sg"
)

// BackfillSpec says how calls whose webhooks were lost are found again.
type BackfillSpec struct {
	// interval between two looks at Exotel's Call Details, 1m to 24h. The platform's bound, in status.limits, may be
	// higher. Defaults to 15m.
	// +optional
	// +kubebuilder:default="15m"
	// +kubebuilder:validation:XValidation:rule="size(self) <= 32 && duration(self) >= duration('1m') && duration(self) <= duration('24h')",message="exotel.backfill.interval must be between 1m and 24h"
	Interval *metav1.Duration `json:"interval,omitempty"`
	// lookback is how far into the past each look goes, 5m to 720h (Exotel answers at most a month). Defaults to 24h.
	// +optional
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:XValidation:rule="size(self) <= 32 && duration(self) >= duration('5m') && duration(self) <= duration('720h')",message="exotel.backfill.lookback must be between 5m and 720h"
	Lookback *metav1.Duration `json:"lookback,omitempty"`
}

// ExotelSpec is the Tenant's Exotel account.
// +kubebuilder:validation:XValidation:rule="!(has(self.region) && has(self.apiBaseURL))",message="set exotel.region or exotel.apiBaseURL, not both"
type ExotelSpec struct {
	// accountSID of the Exotel account, as in the API's path /v1/Accounts/{accountSID}. Another Tenant may have the
	// same account if Exotel accepts the credentials of both, and both list their phoneNumbers. Otherwise it is
	// NameTaken.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_-]+$`
	AccountSID string `json:"accountSID,omitempty"`
	// region of the account: in (Mumbai) or sg (Singapore). The wrong one ends in refused credentials. Defaults to in.
	// +optional
	Region ExotelRegion `json:"region,omitempty"`
	// apiBaseURL replaces the region's API host, for a proxy or a simulator, such as https://api.in.exotel.com.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http','https'] && url(self).getHostname() != ''",message="exotel.apiBaseURL must be an absolute http(s) URL"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[^:/?#]+://[^/?#]*@')",message="exotel.apiBaseURL must not carry credentials: use the Secret of credentialsSecretRef"
	APIBaseURL string `json:"apiBaseURL,omitempty"`
	// credentialsSecretRef names the Secret with the keys apiKey and apiToken.
	// +required
	CredentialsSecretRef SecretReference `json:"credentialsSecretRef,omitempty,omitzero"`
	// phoneNumbers are the Tenant's ExoPhones in E.164 form, used to find the Tenant of a call. Each number belongs to
	// one Tenant.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=3
	// +kubebuilder:validation:items:MaxLength=16
	// +kubebuilder:validation:items:Pattern=`^\+[1-9][0-9]{1,14}$`
	PhoneNumbers []string `json:"phoneNumbers,omitempty"`
	// timeZone in which the account writes times that carry no zone. Defaults to Asia/Kolkata.
	// +optional
	// +kubebuilder:default="Asia/Kolkata"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	TimeZone string `json:"timeZone,omitempty"`
	// backfill says how lost webhooks are found again.
	// +optional
	Backfill *BackfillSpec `json:"backfill,omitempty"`
}

// RecordingsSpec says where recordings go and how.
// +kubebuilder:validation:XValidation:rule="has(self.credentialsSecretRef) != has(self.webIdentity)",message="recordings needs exactly one of credentialsSecretRef and webIdentity"
type RecordingsSpec struct {
	// bucket that receives the recordings. It must exist.
	// +required
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9][a-z0-9.-]*[a-z0-9]$`
	Bucket string `json:"bucket,omitempty"`
	// endpoint of the S3-compatible store, scheme and host without a path, such as
	// https://s3.ap-southeast-1.wasabisys.com. Plain http and private addresses are refused unless the platform allows
	// them.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http','https'] && url(self).getHostname() != '' && url(self).getEscapedPath() in ['', '/']",message="recordings.endpoint must be an http(s) URL of a host without a path, such as https://s3.ap-southeast-1.wasabisys.com"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[^:/?#]+://[^/?#]*@')",message="recordings.endpoint must not carry credentials: use the Secret of credentialsSecretRef"
	Endpoint string `json:"endpoint,omitempty"`
	// region of the bucket, as the store's signatures need it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[a-z0-9-]+$`
	Region string `json:"region,omitempty"`
	// credentialsSecretRef names the Secret with the keys accessKeyID and secretAccessKey, and sessionToken if the
	// credentials are temporary ones. Exactly one of credentialsSecretRef and webIdentity is needed.
	// +optional
	CredentialsSecretRef *SecretReference `json:"credentialsSecretRef,omitempty"`
	// webIdentity has the operator obtain temporary credentials with a ServiceAccount, in place of
	// credentialsSecretRef.
	// +optional
	WebIdentity *WebIdentitySpec `json:"webIdentity,omitempty"`
	// addressing says where requests have the bucket's name: VirtualHost, in the host name; Path, in the path; or Auto,
	// in the host name for Amazon, Alibaba and Google, and in the path for all others. Defaults to Auto.
	// +optional
	// +kubebuilder:default=Auto
	Addressing BucketAddressing `json:"addressing,omitempty"`
	// dualStack uses Amazon's endpoints for both IPv4 and IPv6. Defaults to false, unless endpoint names one.
	// +optional
	DualStack *bool `json:"dualStack,omitempty"`
	// encryption that the store is asked for. Defaults to what the bucket has by itself.
	// +optional
	Encryption *BucketEncryption `json:"encryption,omitempty"`
	// storageClass of objects, such as STANDARD_IA. Defaults to the store's own.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_-]+$`
	StorageClass string `json:"storageClass,omitempty"`
	// tags of objects, at most 10. The key of the credentials then needs s3:PutObjectTagging. Defaults to none.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=10
	Tags []BucketTag `json:"tags,omitempty"`
	// publicEndpoint is where people reach the store, for links to download a recording: scheme and host without a
	// path. It is for a store that has another name outside of the cluster. Plain http needs the platform's
	// storage.allowHTTP. Defaults to endpoint.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https?://([A-Za-z0-9.-]+|\[[A-Fa-f0-9:.]+\])(:[0-9]{1,5})?/?$`
	PublicEndpoint string `json:"publicEndpoint,omitempty"`
	// caSecretRef names the Secret whose key ca.crt holds, in PEM, the certificates of the authorities that sign the
	// store's, at most 64 KiB: for a store behind a private authority. It holds for the STS of webIdentity too. No
	// other is trusted then. Defaults to the authorities that the public Internet trusts.
	// +optional
	CASecretRef *SecretReference `json:"caSecretRef,omitempty"`
	// keyTemplate makes the object's key from a recording: a Go template over .CallSID, .RecordingID and .Date (the day
	// it was queued, yyyy/mm/dd, UTC). It must use .RecordingID, since one call may have several recordings; Caly puts
	// "{namespace}/{name}/" in front of it and the file's extension behind it. Defaults to
	// "{{.CallSID}}-{{.RecordingID}}".
	// +optional
	// +kubebuilder:default="{{.CallSID}}-{{.RecordingID}}"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('[{][{] *[.]RecordingID *[}][}]')",message="recordings.keyTemplate must contain {{.RecordingID}}: one call may have several recordings"
	KeyTemplate string `json:"keyTemplate,omitempty"`
	// allowedSourceHosts are the hosts that a recording may be fetched from, each a host name or "*." and a domain,
	// with an optional port. Defaults to Exotel's own hosts.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=255
	// +kubebuilder:validation:items:Pattern=`^(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$`
	AllowedSourceHosts []string `json:"allowedSourceHosts,omitempty"`
	// maxParallelism bounds the upload pods that work for this Tenant at once. The platform's bound, in status.limits,
	// may be lower. Defaults to 4.
	// +optional
	// +kubebuilder:default=4
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=64
	MaxParallelism int32 `json:"maxParallelism,omitempty"`
	// resources says which recordings get a CallRecording: All, Failed or None. All is as many as there is room for: at
	// most 500 of a Tenant at once, unless the operator was told another bound. Defaults to All.
	// +optional
	// +kubebuilder:default=All
	Resources ResourcesPolicy `json:"resources,omitempty"`
	// ttlAfterFinished is how long a finished CallRecording is kept, 0s to 168h. The recording itself stays. Defaults
	// to 1h.
	// +optional
	// +kubebuilder:default="1h"
	// +kubebuilder:validation:XValidation:rule="size(self) <= 32 && duration(self) >= duration('0s') && duration(self) <= duration('168h')",message="recordings.ttlAfterFinished must be between 0s and 168h"
	TTLAfterFinished *metav1.Duration `json:"ttlAfterFinished,omitempty"`
}

// AudioProtocol is what an agent speaks.
// +kubebuilder:validation:Enum=exotel;twilio;pcm
type AudioProtocol string

const (
	// AudioProtocolExotel is Exotel's own protocol, passed on as it comes.
	AudioProtocolExotel AudioProtocol = "exotel"
	// AudioProtocolTwilio is that of Twilio Media Streams: mu-law at 8 kHz.
	AudioProtocolTwilio AudioProtocol = "twilio"
	// AudioProtocolPCM is binary frames of 16-bit samples, with small JSON messages between them.
	AudioProtocolPCM AudioProtocol = "pcm"
)

// AudioVerification says how audio streams prove themselves, and questions for a stream's URL.
// +kubebuilder:validation:XValidation:rule="has(self.tokenSecretRef) || has(self.basicAuthSecretRef) || has(self.allowedCIDRs) || (has(self.oneTimeToken) && self.oneTimeToken)",message="audio.verification needs one or more of tokenSecretRef, basicAuthSecretRef, allowedCIDRs and oneTimeToken; leave it out to take the webhooks' verifiers"
// +kubebuilder:validation:MinProperties=1
type AudioVerification struct {
	// require says how many verifiers must accept a stream: Any, one is enough, or All, each of them. Defaults to Any.
	// +optional
	// +kubebuilder:default=Any
	Require WebhookRequirement `json:"require,omitempty"`
	// tokenSecretRef names the Secret with the tokens, each key an active one:
	// .../audio/exotel/<namespace>/<tenant>/<token>, or in the query as token. At most 16, each at least 16 printable
	// ASCII characters, without blanks.
	// +optional
	TokenSecretRef *SecretReference `json:"tokenSecretRef,omitempty"`
	// basicAuthSecretRef names the Secret with the passwords: every key is a user name, its value the password, at
	// least 12 bytes. Exotel sends those of wss://user:password@host/... At most 16.
	// +optional
	BasicAuthSecretRef *SecretReference `json:"basicAuthSecretRef,omitempty"`
	// allowedCIDRs are the address ranges that streams may come from, /8 at the widest. Behind proxies the sender's
	// address is known only if they are trusted.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self) && cidr(self) == cidr(self).masked() && cidr(self).prefixLength() >= 8",message="audio.verification.allowedCIDRs are ranges such as 203.0.113.0/24 or 2001:db8::/32, with no bit set behind the prefix, and /8 at the widest"
	AllowedCIDRs []string `json:"allowedCIDRs,omitempty"`
	// oneTimeToken refuses streams that do not come with a token made for their call by .../url, which is used once.
	// The other verifiers, or without any those of the webhooks, then open .../url alone. Defaults to false.
	// +optional
	OneTimeToken *bool `json:"oneTimeToken,omitempty"`
}

// AudioSpec says where live audio goes.
// +kubebuilder:validation:XValidation:rule="!has(self.caSecretRef) || (isURL(self.agentURL) && url(self.agentURL).getScheme() == 'wss')",message="audio.caSecretRef is for an agent whose audio.agentURL is a wss URL: a ws URL knows no certificate"
type AudioSpec struct {
	// agentURL is the WebSocket server of the Tenant's voice agent.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['ws','wss'] && url(self).getHostname() != ''",message="audio.agentURL must be an absolute ws(s) URL, such as wss://bot.acme.example/stream"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[^:/?#]+://[^/?#]*@')",message="audio.agentURL must not carry credentials: everybody who may read the Tenant would see them"
	AgentURL string `json:"agentURL,omitempty"`
	// maxStreams bounds the Tenant's audio streams at once, over all pods. The platform's bound, in status.limits, may
	// be lower. Defaults to 200.
	// +optional
	// +kubebuilder:default=200
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	MaxStreams int32 `json:"maxStreams,omitempty"`
	// protocol that the agent speaks: exotel, as it comes; twilio, that of Twilio Media Streams; or pcm, binary frames
	// of 16-bit samples. Defaults to exotel.
	// +optional
	// +kubebuilder:default=exotel
	Protocol AudioProtocol `json:"protocol,omitempty"`
	// headersSecretRef names the Secret with the headers of the handshake with the agent: every key is a header's name.
	// At most 16.
	// +optional
	HeadersSecretRef *SecretReference `json:"headersSecretRef,omitempty"`
	// caSecretRef names the Secret whose key ca.crt holds, in PEM, the certificates of the authorities that sign the
	// agent's, at most 64 KiB: for an agent behind a private authority. No other is trusted then. A Secret that
	// cert-manager made for the agent has this key. Defaults to the authorities that the public Internet trusts.
	// +optional
	CASecretRef *SecretReference `json:"caSecretRef,omitempty"`
	// reconnect connects again to an agent whose connection broke in the middle of a call. The agent gets the start
	// message again, and must expect to see it twice. Defaults to false.
	// +optional
	Reconnect *bool `json:"reconnect,omitempty"`
	// verification says how streams prove themselves. Defaults to those of the webhooks' verifiers that look at no
	// body: token, basicAuth and allowedCIDRs; without any of those all streams are refused.
	// +optional
	Verification *AudioVerification `json:"verification,omitempty"`
	// capture records streams while they run, into the bucket of spec.recordings. Without it nothing is recorded here.
	// +optional
	Capture *AudioCapture `json:"capture,omitempty"`
}

// AudioCapture says whether streams are recorded.
type AudioCapture struct {
	// enabled records both directions of every stream into a WAV file of two channels, the caller left and the agent
	// right, which goes to the bucket of spec.recordings, with its credentials and key template, while the call runs.
	// It is listed as a recording of the call, next to Exotel's. The credentials then reach the data-plane pods too.
	// The law may require that you inform the caller. Defaults to false.
	// +required
	Enabled *bool `json:"enabled,omitempty"`
}

// DeletionPolicy says what happens to a Tenant's rows and objects when the Tenant goes.
// +kubebuilder:validation:Enum=Retain;Delete
type DeletionPolicy string

const (
	// DeletionPolicyRetain keeps rows and objects.
	DeletionPolicyRetain DeletionPolicy = "Retain"
	// DeletionPolicyDelete removes the Tenant's rows, and the objects under its prefix in the bucket.
	DeletionPolicyDelete DeletionPolicy = "Delete"
)

// TenantSpec is what the platform engineer wants of a Tenant.
type TenantSpec struct {
	// suspend refuses the Tenant's webhooks and whatever its accounts ask for, and keeps its uploads waiting, until it
	// is false again. The platform suspends a Tenant by an annotation of its Namespace, which this field does not undo.
	// +optional
	Suspend *bool `json:"suspend,omitempty"`
	// exotel is the Tenant's Exotel account.
	// +required
	Exotel ExotelSpec `json:"exotel,omitempty,omitzero"`
	// webhooks says how Exotel's webhooks prove themselves.
	// +required
	Webhooks WebhooksSpec `json:"webhooks,omitempty,omitzero"`
	// recordings says where recordings go.
	// +required
	Recordings RecordingsSpec `json:"recordings,omitempty,omitzero"`
	// audio says where live audio goes; without it the Tenant takes no audio streams.
	// +optional
	Audio *AudioSpec `json:"audio,omitempty"`
	// auth says how the Tenant's people sign in to the API; without it the Tenant has no accounts.
	// +optional
	Auth *AuthSpec `json:"auth,omitempty"`
	// deletionPolicy says what happens to rows and objects when the Tenant is deleted. Defaults to Retain.
	// +optional
	// +kubebuilder:default=Retain
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// Tenant is one customer of the platform: an Exotel account, how its webhooks are verified, and the bucket for its
// recordings. Its id everywhere is namespace/name.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=tnt,categories=caly
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Suspended",type=string,JSONPath=`.status.conditions[?(@.type=="Suspended")].reason`
// +kubebuilder:printcolumn:name="Bucket",type=string,JSONPath=`.spec.recordings.bucket`
// +kubebuilder:printcolumn:name="Backlog",type=integer,JSONPath=`.status.backlog`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 40",message="metadata.name of a Tenant must be at most 40 characters: it is part of the names of its CallRecordings"
type Tenant struct {
	metav1.TypeMeta `json:",inline"`
	// metadata of the object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`
	// spec is what the platform engineer wants.
	// +required
	Spec TenantSpec `json:"spec,omitzero"`
	// status is what the operator found.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status TenantStatus `json:"status,omitzero"` //nolint:kubeapilinter // an object without status has no such field
}

// TenantList is a list of Tenants.
//
// +kubebuilder:object:root=true
type TenantList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []Tenant `json:"items"`
}

// defaultBackfillInterval is the API server's, for objects made before.
const defaultBackfillInterval = 15 * time.Minute

// EffectiveInterval returns the time between two looks at Exotel's Call Details: the interval of the spec, or the
// platform's bound if that is longer.
func (b *BackfillSpec) EffectiveInterval(least time.Duration) time.Duration {
	interval := defaultBackfillInterval
	if b.Interval != nil && b.Interval.Duration > 0 {
		interval = b.Interval.Duration
	}
	return max(interval, least)
}

// ID is the Tenant's id in rows, keys and metrics: namespace/name.
func (t *Tenant) ID() string { return t.Namespace + "/" + t.Name }

// SplitTenantID returns the namespace and the name of the Tenant that has an ID.
func SplitTenantID(id string) (namespace, name string) {
	namespace, name, _ = strings.Cut(id, "/")
	return namespace, name
}

// Compiled reports whether the operator has ever written a config for this Tenant object. Before that the rows of its
// ID may be those of a predecessor.
func (t *Tenant) Compiled() bool { return len(t.Status.WebhookURLs) > 0 || t.Status.ConfigDigest != "" }

// GetConditions returns the object's conditions.
func (t *Tenant) GetConditions() []metav1.Condition { return t.Status.Conditions }

// SetConditions replaces the object's conditions.
func (t *Tenant) SetConditions(c []metav1.Condition) { t.Status.Conditions = c }

// SetObservedGeneration sets the generation that the conditions speak of.
func (t *Tenant) SetObservedGeneration(n int64) { t.Status.ObservedGeneration = n }
