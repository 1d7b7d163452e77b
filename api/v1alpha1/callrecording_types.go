package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TenantReference names a Tenant in the same namespace.
type TenantReference struct {
	// name of the Tenant, in the namespace of the CallRecording.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	Name string `json:"name,omitempty"`
}

// CallRecordingSpec names one recording. It cannot be changed once set.
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec of a CallRecording cannot be changed: apply a new CallRecording for another recording"
type CallRecordingSpec struct {
	// tenantRef names the Tenant whose recording this is.
	// +required
	TenantRef TenantReference `json:"tenantRef,omitempty,omitzero"`
	// callSID is Exotel's id of the call.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_-]+$`
	CallSID string `json:"callSID,omitempty"`
	// sourceURL is where Exotel serves the recording. Its host must be one that the Tenant allows. The operator writes
	// it without its query, which may hold a signature. Everybody who may read CallRecordings can use a signed URL that
	// is written here.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http','https'] && url(self).getHostname() != ''",message="sourceURL must be an absolute http(s) URL"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[^:/?#]+://[^/?#]*@')",message="sourceURL must not carry credentials: the Tenant's Exotel credentials are used"
	SourceURL string `json:"sourceURL,omitempty"`
}

// RecordingPhase is a recording's state in one word, for people; decide by conditions.
// +kubebuilder:validation:Enum=Pending;Uploading;Waiting;Uploaded;Failed
type RecordingPhase string

const (
	// RecordingPhasePending means that the recording waits for an upload pod.
	RecordingPhasePending RecordingPhase = "Pending"
	// RecordingPhaseUploading means that an upload pod works on the recording.
	RecordingPhaseUploading RecordingPhase = "Uploading"
	// RecordingPhaseWaiting means that an attempt failed and the next one is scheduled.
	RecordingPhaseWaiting RecordingPhase = "Waiting"
	// RecordingPhaseUploaded means that the object is in the bucket and was verified.
	RecordingPhaseUploaded RecordingPhase = "Uploaded"
	// RecordingPhaseFailed means that the recording failed permanently.
	RecordingPhaseFailed RecordingPhase = "Failed"
)

// ObjectStatus tells where the recording went.
type ObjectStatus struct {
	// bucket that holds the object.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Bucket string `json:"bucket,omitempty"`
	// key of the object.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Key string `json:"key,omitempty"`
	// size in bytes.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Size *int64 `json:"size,omitempty"`
	// sha256 of the object's bytes, in hex.
	// +required
	// +kubebuilder:validation:MinLength=64
	// +kubebuilder:validation:MaxLength=64
	SHA256 string `json:"sha256,omitempty"`
}

// CallLeg is what became of one leg of the call.
type CallLeg struct {
	// kind is leg for a party of the call, dial for a number that its flow dialled, agent for a person's presence.
	// +required
	// +kubebuilder:validation:Enum=leg;dial;agent
	Kind string `json:"kind,omitempty"`
	// number is the party's telephone number or SIP address.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Number string `json:"number,omitempty"`
	// agent is the address or ID of the person.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Agent string `json:"agent,omitempty"`
	// result of the leg; of an agent, busy or free.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	Result string `json:"result,omitempty"`
	// onCallSeconds is how long it was on the call.
	// +optional
	// +kubebuilder:validation:Minimum=0
	OnCallSeconds *int32 `json:"onCallSeconds,omitempty"`
	// reportedTime is when it was last reported, by the sender's clock.
	// +optional
	ReportedTime *metav1.Time `json:"reportedTime,omitempty"`
}

// CallOutcome tells what became of the call.
type CallOutcome struct {
	// outcome of the call, from all that is known of it and its legs.
	// +required
	// +kubebuilder:validation:Enum=unknown;queued;ringing;in-progress;completed;busy;no-answer;failed;canceled
	Outcome string `json:"outcome,omitempty"`
	// legs of the call, in the order in which they were reported; the last 16.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Legs []CallLeg `json:"legs,omitempty"`
}

// CallRecordingStatus mirrors the recording's row.
//
// +kubebuilder:validation:MinProperties=1
type CallRecordingStatus struct {
	// observedGeneration is the generation that the conditions speak of; -1 until the operator has seen the object.
	// +optional
	// +kubebuilder:validation:Minimum=-1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"` //nolint:kubeapilinter // never 0
	// conditions of the recording: Ready is True once the object is verified; Reconciling while it waits or uploads;
	// Stalled once it failed.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// phase is the state in one word, for people.
	// +optional
	Phase RecordingPhase `json:"phase,omitempty"`
	// recordingID is the recording's id within the Tenant, derived from callSID and sourceURL.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	RecordingID string `json:"recordingID,omitempty"`
	// attempts made so far.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Attempts *int32 `json:"attempts,omitempty"`
	// nextAttemptTime is when the next attempt is due, while it waits.
	// +optional
	NextAttemptTime *metav1.Time `json:"nextAttemptTime,omitempty"`
	// lastError says why the last attempt failed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	LastError string `json:"lastError,omitempty"`
	// object tells where the recording went.
	// +optional
	Object *ObjectStatus `json:"object,omitempty"`
	// finishedTime is when the recording was uploaded or failed.
	// +optional
	FinishedTime *metav1.Time `json:"finishedTime,omitempty"`
	// call tells what became of the call, as known when the recording last changed.
	// +optional
	Call *CallOutcome `json:"call,omitempty"`
	// lastHandledRetry is the value of the retry annotation that was last acted on.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	LastHandledRetry string `json:"lastHandledRetry,omitempty"`
}

// CallRecording is the Kubernetes handle of one recording: it shows its state, and lets a person add one by applying it
// or retry a failed one with the annotation voice.caly.dev/retry. It is a work order that goes after the Tenant's
// recordings.ttlAfterFinished, never the archive: deleting it deletes no recording.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=crec,categories=caly
// +kubebuilder:selectablefield:JSONPath=`.spec.callSID`
// +kubebuilder:selectablefield:JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Tenant",type=string,JSONPath=`.spec.tenantRef.name`
// +kubebuilder:printcolumn:name="Call",type=string,JSONPath=`.spec.callSID`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Attempts",type=integer,JSONPath=`.status.attempts`
// +kubebuilder:printcolumn:name="Size",type=integer,JSONPath=`.status.object.size`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Key",type=string,priority=1,JSONPath=`.status.object.key`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type CallRecording struct {
	metav1.TypeMeta `json:",inline"`
	// metadata of the object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`
	// spec names the recording.
	// +required
	Spec CallRecordingSpec `json:"spec,omitzero"`
	// status mirrors the recording's row.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status CallRecordingStatus `json:"status,omitzero"` //nolint:kubeapilinter // an object without status has no such field
}

// CallRecordingList is a list of CallRecordings.
//
// +kubebuilder:object:root=true
type CallRecordingList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []CallRecording `json:"items"`
}

// TenantID is the id of the Tenant that the recording belongs to: namespace/name.
func (r *CallRecording) TenantID() string { return r.Namespace + "/" + r.Spec.TenantRef.Name }

// GetConditions returns the object's conditions.
func (r *CallRecording) GetConditions() []metav1.Condition { return r.Status.Conditions }

// SetConditions replaces the object's conditions.
func (r *CallRecording) SetConditions(c []metav1.Condition) { r.Status.Conditions = c }

// SetObservedGeneration sets the generation that the conditions speak of.
func (r *CallRecording) SetObservedGeneration(n int64) { r.Status.ObservedGeneration = n }
