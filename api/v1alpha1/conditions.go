package v1alpha1

// Condition types. The contract follows kstatus: Ready is always present once the object was looked at;
// Reconciling and Stalled are present only while they are true.
const (
	// ConditionReady says whether the object has reached what its spec asks for.
	ConditionReady = "Ready"
	// ConditionReconciling says that work towards the spec is under way.
	ConditionReconciling = "Reconciling"
	// ConditionStalled says that no further attempt helps until a person changes something.
	ConditionStalled = "Stalled"
	// ConditionCredentialsValid says whether every Secret that a Tenant names exists and has the keys it needs.
	ConditionCredentialsValid = "CredentialsValid"
	// ConditionStorageReachable says whether the Tenant's bucket answered with the Tenant's credentials.
	ConditionStorageReachable = "StorageReachable"
	// ConditionUploadsHealthy says whether recordings get into the Tenant's bucket: none is overdue, the upload Job
	// runs, and the last attempt did not fail. Absent while the Tenant is suspended.
	ConditionUploadsHealthy = "UploadsHealthy"
	// ConditionSuspended says that the Tenant is suspended, by its spec or by the platform.
	ConditionSuspended = "Suspended"
	// ConditionVerifierMissing is True while the Secret of a verifier does not exist or has an empty value. It is absent
	// otherwise.
	ConditionVerifierMissing = "VerifierMissing"
	// ConditionNamesHeld says whether the Tenant holds every account, telephone number and host of its spec. Each of them
	// belongs to one Tenant.
	ConditionNamesHeld = "NamesHeld"
	// ConditionBackfillSucceeded says whether the last search for calls whose webhooks were lost succeeded. It has no part in Ready.
	ConditionBackfillSucceeded = "BackfillSucceeded"
)

// Reasons of a Tenant's conditions.
const (
	// ReasonReady means that the tenant config is compiled and the data plane can read it.
	ReasonReady = "Ready"
	// ReasonSuspended means that spec.suspend is true. Webhooks are refused and uploads wait.
	ReasonSuspended = "Suspended"
	// ReasonPlatformSuspended is for a Tenant that an annotation of its Namespace suspends. The effect is that of
	// ReasonSuspended.
	ReasonPlatformSuspended = "PlatformSuspended"
	// ReasonNamesHeld is for a Tenant that holds every name of its spec.
	ReasonNamesHeld = "NamesHeld"
	// ReasonNameTaken is for a Tenant whose spec has an account, a telephone number or a host that another Tenant holds.
	// Its config is published without the name.
	ReasonNameTaken = "NameTaken"
	// ReasonNameNotAllowed is for a Tenant whose spec has a host that the platform uses itself, or does not allow for the
	// Namespace. Its config is published without the host.
	ReasonNameNotAllowed = "NameNotAllowed"
	// ReasonInvalidSpec means that a field cannot be compiled. The message names the field.
	ReasonInvalidSpec = "InvalidSpec"
	// ReasonSecretNotFound means that a Secret that the spec names does not exist.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonSecretKeyMissing means that a Secret lacks a key, or that the key's value is empty, too weak or unusable.
	ReasonSecretKeyMissing = "SecretKeyMissing"
	// ReasonSecretNotLabelled is the reason while a Secret that the spec names lacks the label that the platform requires.
	ReasonSecretNotLabelled = "SecretNotLabelled"
	// ReasonDataOfPredecessor is the reason while rows of a deleted Tenant of the same name exist and the platform has not
	// decided about them.
	ReasonDataOfPredecessor = "DataOfPredecessor"
	// ReasonVerifierGracePeriod is the reason while the published config still accepts the last secrets of a deleted or
	// emptied Secret.
	ReasonVerifierGracePeriod = "VerifierGracePeriod"
	// ReasonVerifierClosed is the reason once the published config accepts no secret of a deleted or emptied Secret.
	ReasonVerifierClosed = "VerifierClosed"
	// ReasonCredentialsValid means that all Secrets exist and have the keys that the Tenant needs.
	ReasonCredentialsValid = "CredentialsValid"
	// ReasonBucketReachable means that the bucket answered.
	ReasonBucketReachable = "BucketReachable"
	// ReasonBucketNotFound means that the endpoint answered that the bucket does not exist.
	ReasonBucketNotFound = "BucketNotFound"
	// ReasonCredentialsRefused is for a store that does not know the access key, or refuses its signature or session
	// token.
	ReasonCredentialsRefused = "CredentialsRefused"
	// ReasonCredentialsExpired is for temporary credentials that have expired.
	ReasonCredentialsExpired = "CredentialsExpired"
	// ReasonWebIdentityDisabled is for a Tenant with recordings.webIdentity while the platform has not enabled it.
	ReasonWebIdentityDisabled = "WebIdentityDisabled"
	// ReasonServiceAccountNotFound is for a ServiceAccount of recordings.webIdentity that does not exist.
	ReasonServiceAccountNotFound = "ServiceAccountNotFound"
	// ReasonServiceAccountNotAllowed is for a ServiceAccount without the annotation that names the Tenant.
	ReasonServiceAccountNotAllowed = "ServiceAccountNotAllowed"
	// ReasonAudienceNotAllowed is for an audience that the platform does not allow, or that is one of the API server's.
	ReasonAudienceNotAllowed = "AudienceNotAllowed"
	// ReasonWebIdentityRefused is for an STS that refused the token, or issued credentials that cannot be used.
	ReasonWebIdentityRefused = "WebIdentityRefused"
	// ReasonWebIdentityUnavailable is for an STS that did not answer, or could not.
	ReasonWebIdentityUnavailable = "WebIdentityUnavailable"
	// ReasonRenewalFailing is the reason while temporary credentials are valid and their renewal fails.
	ReasonRenewalFailing = "RenewalFailing"
	// ReasonAccessDenied is for a store that knows the key and denies it the request.
	ReasonAccessDenied = "AccessDenied"
	// ReasonAccountDisabled is for a store that has suspended the account of the key.
	ReasonAccountDisabled = "AccountDisabled"
	// ReasonRegionMismatch is for a bucket in another region than the spec names.
	ReasonRegionMismatch = "RegionMismatch"
	// ReasonEndpointMismatch is for a store that redirects to another endpoint.
	ReasonEndpointMismatch = "EndpointMismatch"
	// ReasonAddressingStyle is for a store that takes the bucket's name in the path only, or in the host name only.
	ReasonAddressingStyle = "AddressingStyle"
	// ReasonClockSkew is for a store whose clock differs from the operator's by more than it allows.
	ReasonClockSkew = "ClockSkew"
	// ReasonQuotaExceeded is for a bucket or an account whose quota is used up.
	ReasonQuotaExceeded = "QuotaExceeded"
	// ReasonEncryptionRequired is for a bucket whose policy takes objects with another encryption only.
	ReasonEncryptionRequired = "EncryptionRequired"
	// ReasonEncryptionKeyRefused is for a KMS key that does not exist, is disabled, or must not be used by the
	// credentials.
	ReasonEncryptionKeyRefused = "EncryptionKeyRefused"
	// ReasonObjectLocked is for a request that the bucket's Object Lock forbids.
	ReasonObjectLocked = "ObjectLocked"
	// ReasonStorageClassRefused is for a storage class that the store does not have.
	ReasonStorageClassRefused = "StorageClassRefused"
	// ReasonNotSupported is for a store that does not implement the request.
	ReasonNotSupported = "NotSupported"
	// ReasonContentChanged is for a store that returned other bytes than the probe had written.
	ReasonContentChanged = "ContentChanged"
	// ReasonCertificateNotTrusted is for a store whose certificate cannot be verified.
	ReasonCertificateNotTrusted = "CertificateNotTrusted"
	// ReasonEndpointUnreachable means that the endpoint did not answer. The operator retries with backoff.
	ReasonEndpointUnreachable = "EndpointUnreachable"
	// ReasonEndpointNotAllowed is for an endpoint that the platform does not allow: plain http, or a private address.
	ReasonEndpointNotAllowed = "EndpointNotAllowed"
	// ReasonUploadsHealthy is the reason while no recording is overdue.
	ReasonUploadsHealthy = "UploadsHealthy"
	// ReasonUploadsOverdue is the reason while a recording waits too long for an upload pod to take it.
	ReasonUploadsOverdue = "UploadsOverdue"
	// ReasonUploadsFailing is the reason while the last upload failed; the message has the words of the other side.
	ReasonUploadsFailing = "UploadsFailing"
	// ReasonUploadPodsRejected is the reason while the upload Job or its pods cannot be created, as because of a quota.
	ReasonUploadPodsRejected = "UploadPodsRejected"
	// ReasonUploadPodsPending is the reason while the upload pods do not start.
	ReasonUploadPodsPending = "UploadPodsPending"
	// ReasonUploadPodsFailed is the reason while upload pods fail, as because of their memory limit.
	ReasonUploadPodsFailed = "UploadPodsFailed"
	// ReasonUploadPodsHang is the reason while upload pods do not end.
	ReasonUploadPodsHang = "UploadPodsHang"
	// ReasonConfigFailed means that the tenant config or the database credential could not be written.
	ReasonConfigFailed = "ConfigFailed"
	// ReasonDeleting means that the Tenant is being deleted. The operator releases its data as deletionPolicy says.
	ReasonDeleting = "Deleting"
	// ReasonBackfillSucceeded means that the last run asked Exotel for all that it had to.
	ReasonBackfillSucceeded = "BackfillSucceeded"
	// ReasonBackfillIncomplete is the reason after a run that had to leave calls out; the message has the first one.
	ReasonBackfillIncomplete = "BackfillIncomplete"
	// ReasonBackfillCredentialsRefused means that Exotel refused the credentials, the account or the region. The
	// operator retries after a change of the Secret or the spec.
	ReasonBackfillCredentialsRefused = "BackfillCredentialsRefused"
	// ReasonBackfillUnavailable means that Exotel or the database did not answer correctly. The operator retries at the
	// next interval.
	ReasonBackfillUnavailable = "BackfillUnavailable"
)

// Reasons of a CallRecording's conditions.
const (
	// ReasonQueued means that the recording waits for an upload pod.
	ReasonQueued = "Queued"
	// ReasonUploading means that an upload pod holds the recording's lease.
	ReasonUploading = "Uploading"
	// ReasonWaiting says that an attempt failed in a way that may pass; the next attempt is scheduled.
	ReasonWaiting = "WaitingForRetry"
	// ReasonUploaded means that the object is in the bucket and was verified against the source.
	ReasonUploaded = "Uploaded"
	// ReasonFailed means that the recording failed permanently. The message says why and what to do.
	ReasonFailed = "UploadFailed"
	// ReasonTenantNotFound means that spec.tenantRef names a Tenant that does not exist in this namespace.
	ReasonTenantNotFound = "TenantNotFound"
	// ReasonTenantNotReady means that the Tenant exists and does not have a usable config yet.
	ReasonTenantNotReady = "TenantNotReady"
	// ReasonSourceRefused means that the Tenant does not allow spec.sourceURL.
	ReasonSourceRefused = "SourceRefused"
	// ReasonTooManyCallRecordings is the reason while the namespace has more CallRecordings than the platform allows.
	ReasonTooManyCallRecordings = "TooManyCallRecordings"
	// ReasonUnavailable means that the database did not answer. The operator retries with backoff.
	ReasonUnavailable = "DatabaseUnavailable"
)

// Names that Caly sets on objects.
const (
	// FinalizerTenant holds a Tenant until its data is released as deletionPolicy says.
	FinalizerTenant = "voice.caly.dev/tenant"
	// AnnotationRetry on a failed CallRecording asks for one more round of attempts whenever its value changes.
	AnnotationRetry = "voice.caly.dev/retry"
	// AnnotationSuspend on a Namespace suspends all of its Tenants; its value is the reason. With "." and the name of a
	// Tenant appended it suspends that Tenant alone. The author of a Tenant cannot edit the Namespace.
	AnnotationSuspend = "voice.caly.dev/suspend"
	// AnnotationPredecessor on a Namespace holds the platform's decisions about the rows of deleted Tenants, separated by
	// commas: "adopt:UID" gives the rows to the new Tenant of the same name, "delete:UID" deletes them.
	AnnotationPredecessor = "voice.caly.dev/predecessor"
	// AnnotationAllowedHosts on a Namespace lists the hosts that its Tenants may have: host names, and "*." with a domain
	// for every name below it, separated by commas. Without the annotation they may have any but the platform's own.
	AnnotationAllowedHosts = "voice.caly.dev/allowed-hosts"
	// AnnotationServiceAccountTenant on a ServiceAccount names the Tenant, of the same namespace, that may use it for
	// recordings.webIdentity.
	AnnotationServiceAccountTenant = "voice.caly.dev/tenant"
	// LabelTenant carries the name of the Tenant.
	LabelTenant = "voice.caly.dev/tenant"
	// LabelTenantNamespace carries the namespace of the Tenant on objects that live elsewhere.
	LabelTenantNamespace = "voice.caly.dev/tenant-namespace"
	// LabelOrigin tells who made a CallRecording: "intake" for the operator, absent for a person.
	LabelOrigin = "voice.caly.dev/origin"
	// OriginIntake is the value of LabelOrigin on CallRecordings that the operator made from rows.
	OriginIntake = "intake"
	// SecretTypeTenantConfig is the type of the Secret that data-plane pods watch.
	SecretTypeTenantConfig = "voice.caly.dev/tenant-config"
	// SecretTypeTenantConfigList is the type of the Secret that lists the published tenant configs.
	SecretTypeTenantConfigList = "voice.caly.dev/tenant-config-list"
	// SecretTypeUploadConfig is the type of the Secret that a tenant's upload pods mount.
	SecretTypeUploadConfig = "voice.caly.dev/upload-config"
	// SecretTypeKeyring is the type of the Secret with the keys of access tokens, which data-plane pods watch.
	SecretTypeKeyring = "voice.caly.dev/keyring"
)
