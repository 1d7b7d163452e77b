package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// WebIdentitySpec says how the operator obtains temporary credentials for the bucket. It exchanges a token of a
// ServiceAccount at an STS (AssumeRoleWithWebIdentity). The platform enables this (storage.webIdentity of the chart).
type WebIdentitySpec struct {
	// serviceAccountName is the ServiceAccount, in the Tenant's namespace, that the tokens are for. It needs the
	// annotation voice.caly.dev/tenant with the Tenant's name, so that no Tenant uses the ServiceAccount of another
	// workload.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
	// roleARN is the role to assume. Defaults to the ServiceAccount's annotation eks.amazonaws.com/role-arn. Without
	// either, the request names no role, as MinIO wants it without a role policy.
	// +optional
	// +kubebuilder:validation:MinLength=20
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^arn:[A-Za-z0-9+=,.@_/:-]+$`
	RoleARN string `json:"roleARN,omitempty"`
	// endpoint is the URL of the STS, scheme and host without a path. Defaults to https://sts.<region>.amazonaws.com
	// for a store of Amazon's, and to recordings.endpoint for all others.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http','https'] && url(self).getHostname() != '' && url(self).getEscapedPath() in ['', '/'] && !self.contains('?') && !self.contains('#')",message="recordings.webIdentity.endpoint must be an http(s) URL of a host without a path, such as https://sts.eu-west-1.amazonaws.com"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[^:/?#]+://[^/?#]*@')",message="recordings.webIdentity.endpoint must not carry credentials"
	Endpoint string `json:"endpoint,omitempty"`
	// audience of the tokens, one of those that the platform allows. Defaults to sts.amazonaws.com.
	// +optional
	// +kubebuilder:default="sts.amazonaws.com"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^[!-~]+$`
	Audience string `json:"audience,omitempty"`
	// sessionDuration is the lifetime of the credentials that the STS is asked for, 15m to 12h, at most the role's
	// maximum session duration. The operator renews them after about half of it. Defaults to 1h.
	// +optional
	// +kubebuilder:default="1h"
	// +kubebuilder:validation:XValidation:rule="size(self) <= 32 && duration(self) >= duration('15m') && duration(self) <= duration('12h')",message="recordings.webIdentity.sessionDuration must be between 15m and 12h"
	SessionDuration *metav1.Duration `json:"sessionDuration,omitempty"`
}
