package reason

// Codes of both uploads and captures.
const (
	// KeyInvalid means that the tenant's key template makes no key for an object of this call.
	KeyInvalid = "KeyInvalid"
	// StorageMismatch means that the bucket has other bytes than were sent.
	StorageMismatch = "StorageMismatch"
)

// Codes of a recording that is not uploaded (yet): the column last_error_code and a label of
// caly_upload_transfers_total. A fault of a whole bucket has the code Storage and a reason of package objectstore.
const (
	// SourceNotReady means that Exotel has not published the recording yet.
	SourceNotReady = "SourceNotReady"
	// SourceNotAudio means that the beginning of the answer is not audio.
	SourceNotAudio = "SourceNotAudio"
	// SourceUnavailable means that the source did not answer, or failed.
	SourceUnavailable = "SourceUnavailable"
	// SourceCredentialsRefused means that the source refused the tenant's credentials or the cluster's address.
	SourceCredentialsRefused = "SourceCredentialsRefused"
	// SourceRefused means that nothing may be fetched from the URL, or that the source refused it for good.
	SourceRefused = "SourceRefused"
	// SourceExpired means that a signed URL has expired.
	SourceExpired = "SourceExpired"
	// SourceChanged means that the source sent another file when the download was resumed.
	SourceChanged = "SourceChanged"
	// SourceBroken means that the download cannot be completed.
	SourceBroken = "SourceBroken"
	// SourceTooLarge means that the recording is longer than the platform allows.
	SourceTooLarge = "SourceTooLarge"
	// StorageUnavailable means that the object store did not answer, or failed.
	StorageUnavailable = "StorageUnavailable"
	// BucketNotFound means that the bucket does not exist.
	BucketNotFound = "BucketNotFound"
	// DatabaseUnavailable means that the queue could not record that a PUT begins.
	DatabaseUnavailable = "DatabaseUnavailable"
	// LeaseExpired means that the upload pod that held the recording ended without a report. The operator sets it.
	LeaseExpired = "LeaseExpired"
	// SourceRejected means that the tenant does not allow the URL that an event names. The recording was never queued.
	SourceRejected = "source_rejected"
)

// Storage returns the code of an upload for a reason of package objectstore.
func Storage(cause string) string {
	if cause == BucketNotFound {
		return cause
	}
	return "Storage" + cause
}

// Uploads returns the codes of uploads, without those of Storage.
func Uploads() []string {
	return []string{
		SourceNotReady, SourceNotAudio, SourceUnavailable, SourceCredentialsRefused, SourceRefused, SourceExpired,
		SourceChanged, SourceBroken, SourceTooLarge, StorageUnavailable, StorageMismatch, BucketNotFound, KeyInvalid,
		DatabaseUnavailable, LeaseExpired, SourceRejected,
	}
}

// Codes of a capture that failed or is shorter than its call: the column error_code of captures.
const (
	// NoRoom means that the pod had as many captures as it may have.
	NoRoom = "NoRoom"
	// SpoolFull means that the pod's spool, or the tenant's part of it, was full.
	SpoolFull = "SpoolFull"
	// SpoolFailed means that the disk did not take the audio.
	SpoolFailed = "SpoolFailed"
	// TooLong means that the call was longer than an upload can be.
	TooLong = "TooLong"
	// PodLost means that the pod was lost before all of the capture was in the bucket.
	PodLost = "PodLost"
	// StorageFailed means that the bucket did not take the capture for as long as it was tried.
	StorageFailed = "StorageFailed"
	// UploadLost means that another client of the bucket ended the upload in parts.
	UploadLost = "UploadLost"
	// Abandoned means that no pod reported on the capture for as long as the operator waits.
	Abandoned = "Abandoned"
)

// Captures returns the codes of captures.
func Captures() []string {
	return []string{
		NoRoom, SpoolFull, SpoolFailed, TooLong, PodLost, StorageFailed, StorageMismatch, UploadLost, KeyInvalid,
		Abandoned,
	}
}
