// Package v1alpha1 holds the API of the group voice.caly.dev: Tenant, one customer of the platform,
// and CallRecording, the Kubernetes handle of one recording.
//
// The package imports no other package of this module, so that clients can depend on it alone.
//
// +kubebuilder:object:generate=true
// +kubebuilder:ac:generate=true
// +kubebuilder:ac:output:package=applyconfiguration
// +groupName=voice.caly.dev
package v1alpha1
