package v1alpha1

// ResourcesPolicy says which recordings get a CallRecording.
// +kubebuilder:validation:Enum=All;Failed;None
type ResourcesPolicy string

const (
	// ResourcesAll makes a CallRecording of every recording, as far as the bounds allow.
	ResourcesAll ResourcesPolicy = "All"
	// ResourcesFailed makes a CallRecording of failed recordings only.
	ResourcesFailed ResourcesPolicy = "Failed"
	// ResourcesNone makes none; a person may still apply one.
	ResourcesNone ResourcesPolicy = "None"
)

// BucketAddressing is where requests have the bucket's name.
// +kubebuilder:validation:Enum=Auto;Path;VirtualHost
type BucketAddressing string

const (
	// BucketAddressingAuto decides by the endpoint.
	BucketAddressingAuto BucketAddressing = "Auto"
	// BucketAddressingPath has the bucket's name in the path.
	BucketAddressingPath BucketAddressing = "Path"
	// BucketAddressingVirtualHost has the bucket's name in the host name.
	BucketAddressingVirtualHost BucketAddressing = "VirtualHost"
)

// BucketEncryptionType is what the store encrypts objects with.
// +kubebuilder:validation:Enum=SSE-S3;SSE-KMS
type BucketEncryptionType string

const (
	// BucketEncryptionS3 is a key of the store's own.
	BucketEncryptionS3 BucketEncryptionType = "SSE-S3"
	// BucketEncryptionKMS is a key of the store's key management service.
	BucketEncryptionKMS BucketEncryptionType = "SSE-KMS"
)

// BucketEncryption says how the store encrypts objects.
type BucketEncryption struct {
	// type is SSE-S3, a key of the store's own, or SSE-KMS, a key of its key management service.
	// +required
	Type BucketEncryptionType `json:"type,omitempty"`
	// kmsKeyID is the id or ARN of the key, for SSE-KMS only. Defaults to the account's own key for S3.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9:/_.-]+$`
	KMSKeyID string `json:"kmsKeyID,omitempty"`
}

// BucketTag is a tag of objects.
type BucketTag struct {
	// name of the tag.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9 +=._:/@-]+$`
	Name string `json:"name,omitempty"`
	// value of the tag. Defaults to an empty one.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9 +=._:/@-]+$`
	Value string `json:"value,omitempty"`
}
