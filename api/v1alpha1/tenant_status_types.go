package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TenantStatus is what the operator found.
//
// +kubebuilder:validation:MinProperties=1
type TenantStatus struct {
	// observedGeneration is the generation that the conditions speak of; -1 until the operator has seen the object.
	// +optional
	// +kubebuilder:validation:Minimum=-1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"` //nolint:kubeapilinter // never 0
	// conditions of the Tenant: Ready; Reconciling and Stalled while true; CredentialsValid; StorageReachable;
	// UploadsHealthy; Suspended while true; VerifierMissing while the Secret of a verifier does not exist or is empty;
	// BackfillSucceeded with spec.exotel.backfill.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// webhookURLs are the addresses to give to Exotel.
	// +optional
	// +listType=map
	// +listMapKey=event
	// +kubebuilder:validation:MaxItems=8
	WebhookURLs []WebhookURL `json:"webhookURLs,omitempty"`
	// configDigest identifies the tenant config that the data plane was handed, without its secrets.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	ConfigDigest string `json:"configDigest,omitempty"`
	// backlog is the number of recordings that wait for upload, counted up to 1000, when the upload Job was last looked
	// at.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Backlog *int32 `json:"backlog,omitempty"`
	// partialEvents is the number of events of the last 24 hours that were applied without a field that could not be
	// read, or with a rejected recording, counted up to 1000. Absent until there was one. "caly events list --partial"
	// lists them.
	// +optional
	// +kubebuilder:validation:Minimum=0
	PartialEvents *int32 `json:"partialEvents,omitempty"`
	// lastUploadJobTime is when the operator last created an upload Job. Tenants that wait for upload pods get them in
	// this order.
	// +optional
	LastUploadJobTime *metav1.Time `json:"lastUploadJobTime,omitempty"`
	// storage is what the last check of the bucket found out. Absent until one has passed.
	// +optional
	Storage *StorageStatus `json:"storage,omitempty"`
	// limits are the Tenant's limits as they hold: those of the spec, within the platform's bounds.
	// +optional
	Limits *Limits `json:"limits,omitempty"`
	// backfill tells of the last look at Exotel's Call Details. Absent without spec.exotel.backfill.
	// +optional
	Backfill *BackfillStatus `json:"backfill,omitempty"`
}

// StorageStatus is what a check of the bucket found out. It holds while endpoint and bucket are those of the spec.
type StorageStatus struct {
	// endpoint that was checked.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	Endpoint string `json:"endpoint,omitempty"`
	// bucket that was checked.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Bucket string `json:"bucket,omitempty"`
	// checksum is how uploads make sure that the bucket has what was sent: SHA256, CRC64NVME or MD5, which the store
	// verifies; ETag, which is compared with the object's MD5; or None, where each object is read back.
	// +required
	// +kubebuilder:validation:Enum=SHA256;CRC64NVME;MD5;ETag;None
	Checksum string `json:"checksum,omitempty"`
}

// Limits are the limits of a Tenant as they hold.
//
// +kubebuilder:validation:MinProperties=1
type Limits struct {
	// maxParallelism is the largest number of upload pods at once.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxParallelism int32 `json:"maxParallelism,omitempty"`
	// maxStreams is the largest number of audio streams at once, over all pods. Absent without spec.audio.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxStreams int32 `json:"maxStreams,omitempty"`
	// backfillInterval is the time between two looks at Exotel's Call Details. Absent without spec.exotel.backfill.
	// +optional
	// +kubebuilder:validation:XValidation:rule="size(self) <= 32",message="backfillInterval has at most 32 characters"
	BackfillInterval *metav1.Duration `json:"backfillInterval,omitempty"`
}

// BackfillStatus is what the search for calls whose webhooks were lost has done.
//
// +kubebuilder:validation:MinProperties=1
type BackfillStatus struct {
	// lastRunTime is when the last run ended, whatever became of it.
	// +optional
	LastRunTime *metav1.Time `json:"lastRunTime,omitempty"`
	// lastSuccessTime is when a run last ended without an error.
	// +optional
	LastSuccessTime *metav1.Time `json:"lastSuccessTime,omitempty"`
	// nextRunTime is when the next run is due. Absent while only a change of the Secret or the spec can help.
	// +optional
	NextRunTime *metav1.Time `json:"nextRunTime,omitempty"`
	// windowStart is the earliest creation of the calls that the last run looked at.
	// +optional
	WindowStart *metav1.Time `json:"windowStart,omitempty"`
	// windowEnd is the latest creation of the calls that the last run looked at: how far it got.
	// +optional
	WindowEnd *metav1.Time `json:"windowEnd,omitempty"`
	// pendingFrom is where the next run goes on, when the last one ended before it reached the present. Absent
	// otherwise.
	// +optional
	PendingFrom *metav1.Time `json:"pendingFrom,omitempty"`
	// checked is how many calls the last run looked at.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Checked *int32 `json:"checked,omitempty"`
	// foundMissing is how many of those were missing here, unfinished, or without their recording, and were filled in.
	// +optional
	// +kubebuilder:validation:Minimum=0
	FoundMissing *int32 `json:"foundMissing,omitempty"`
}

// WebhookURL is one address to give to Exotel.
type WebhookURL struct {
	// event that the address is for: status or passthru.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	Event string `json:"event,omitempty"`
	// url to give to Exotel.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	URL string `json:"url,omitempty"`
}
