package reconcile

import "github.com/caly-dev/caly/api/v1alpha1"

// Writers of the status of a Tenant.
var (
	// OfTenant is the controller of Tenants. Each Ready Tenant has UploadsHealthy, so this controller adds the first
	// one.
	OfTenant = Owner{
		Name: "the controller of Tenants",
		Conditions: []string{
			v1alpha1.ConditionReady,
			v1alpha1.ConditionReconciling,
			v1alpha1.ConditionStalled,
			v1alpha1.ConditionSuspended,
			v1alpha1.ConditionCredentialsValid,
			v1alpha1.ConditionStorageReachable,
			v1alpha1.ConditionVerifierMissing,
			v1alpha1.ConditionNamesHeld,
		},
		Adds:   []string{v1alpha1.ConditionUploadsHealthy},
		Fields: []string{"observedGeneration", "webhookURLs", "configDigest", "storage", "limits"},
	}
	// OfUploadJob is the controller of upload Jobs.
	OfUploadJob = Owner{
		Name:       "the controller of upload Jobs",
		Conditions: []string{v1alpha1.ConditionUploadsHealthy},
		Fields:     []string{"backlog", "lastUploadJobTime"},
	}
	// OfBackfill is the controller that looks for calls whose webhooks were lost.
	OfBackfill = Owner{
		Name:       "the controller of backfills",
		Conditions: []string{v1alpha1.ConditionBackfillSucceeded},
		Fields:     []string{"backfill"},
	}
	// OfPartialCounter counts the partial events of Tenants.
	OfPartialCounter = Owner{
		Name:   "the counter of partial events",
		Fields: []string{"partialEvents"},
	}
)

// OfCallRecording is the controller of CallRecordings, which writes all of their status.
var OfCallRecording = Owner{
	Name: "the controller of CallRecordings",
	Conditions: []string{
		v1alpha1.ConditionReady,
		v1alpha1.ConditionReconciling,
		v1alpha1.ConditionStalled,
	},
	Fields: []string{
		"observedGeneration", "phase", "recordingID", "attempts", "lastError", "nextAttemptTime", "finishedTime",
		"object", "lastHandledRetry", "call",
	},
}
