package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RegistrationPolicy says who may make an account.
// +kubebuilder:validation:Enum=Open;Closed
type RegistrationPolicy string

const (
	// RegistrationOpen lets anybody register who can read mail at the address.
	RegistrationOpen RegistrationPolicy = "Open"
	// RegistrationClosed leaves it to the Tenant's admins, and to the platform engineer, to make accounts.
	RegistrationClosed RegistrationPolicy = "Closed"
)

// RateLimitSpec allows a number of requests in any window of a length.
type RateLimitSpec struct {
	// requests that are let through in any window, 1 to 1000.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	Requests int32 `json:"requests,omitempty"`
	// window that the requests are counted in, 1s to 24h. It slides: no moment begins a new one.
	// +required
	// +kubebuilder:validation:XValidation:rule="size(self) <= 32 && duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="a limit's window must be between 1s and 24h"
	Window *metav1.Duration `json:"window,omitempty"`
}

// AuthLimitsSpec are the limits that differ from the platform's. They are counted over all pods.
//
// +kubebuilder:validation:MinProperties=1
type AuthLimitsSpec struct {
	// login bounds tries to sign in, for each email and address together. A right password does not count. The
	// platform's own: 6 in 15m.
	// +optional
	Login *RateLimitSpec `json:"login,omitempty"`
	// loginFailures bounds failed tries to sign in, for each address, whatever the email. The platform's own: 100 in
	// 15m.
	// +optional
	LoginFailures *RateLimitSpec `json:"loginFailures,omitempty"`
	// register bounds registrations, for each address. The platform's own: 5 in 15m.
	// +optional
	Register *RateLimitSpec `json:"register,omitempty"`
	// verify bounds tries to verify an email by its code, for each email. A right code does not count. The platform's
	// own: 5 in 5m.
	// +optional
	Verify *RateLimitSpec `json:"verify,omitempty"`
	// resend bounds how often a code is sent again, for each email. The platform's own: 3 in 2m.
	// +optional
	Resend *RateLimitSpec `json:"resend,omitempty"`
	// forgot bounds mails with a link to set a new password, for each email. The platform's own: 3 in 15m.
	// +optional
	Forgot *RateLimitSpec `json:"forgot,omitempty"`
	// reset bounds tries to set a new password by such a link, for each address. A right link does not count. The
	// platform's own: 20 in 15m.
	// +optional
	Reset *RateLimitSpec `json:"reset,omitempty"`
	// refresh bounds renewals of access tokens, for each address. The platform's own: 600 in 15m.
	// +optional
	Refresh *RateLimitSpec `json:"refresh,omitempty"`
	// api bounds all other requests and logins with a right password, for each user, or address where nobody is signed
	// in. The platform's own: 100 in 15m.
	// +optional
	API *RateLimitSpec `json:"api,omitempty"`
}

// AuthSpec says how the Tenant's people sign in to the API.
type AuthSpec struct {
	// registration says who may make an account: Open, anybody who can read mail at the address, as a viewer; or
	// Closed, only people that an admin of the Tenant invites, or that the platform engineer adds with "caly user
	// create". Defaults to Closed.
	// +optional
	// +kubebuilder:default=Closed
	Registration RegistrationPolicy `json:"registration,omitempty"`
	// accessTokenLifetime is how long an access token is good, 1m to 1h. Defaults to 15m.
	// +optional
	// +kubebuilder:default="15m"
	// +kubebuilder:validation:XValidation:rule="size(self) <= 32 && duration(self) >= duration('1m') && duration(self) <= duration('1h')",message="auth.accessTokenLifetime must be between 1m and 1h"
	AccessTokenLifetime *metav1.Duration `json:"accessTokenLifetime,omitempty"`
	// sessionLifetime is how long after its login a session ends, however busy it is, 1h to 2160h. Defaults to 720h.
	// +optional
	// +kubebuilder:default="720h"
	// +kubebuilder:validation:XValidation:rule="size(self) <= 32 && duration(self) >= duration('1h') && duration(self) <= duration('2160h')",message="auth.sessionLifetime must be between 1h and 2160h"
	SessionLifetime *metav1.Duration `json:"sessionLifetime,omitempty"`
	// allowedEmailDomains are the domains whose addresses may register, such as acme.example, in lower case. A domain
	// stands for itself, not for those below it. Absent: any. An admin may invite any address, and existing accounts
	// stay.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="auth.allowedEmailDomains are domains such as acme.example, in lower case and without an @"
	AllowedEmailDomains []string `json:"allowedEmailDomains,omitempty"`
	// hosts are host names that belong to this Tenant: a request to one of them is for this Tenant and no other. A name
	// that another Tenant holds, and a name of the platform, is not given to this Tenant: NameTaken, NameNotAllowed.
	// The DNS and the certificate are up to the platform.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="auth.hosts are names such as voice.acme.example, in lower case and without a port"
	Hosts []string `json:"hosts,omitempty"`
	// allowedOrigins are the origins of web pages whose scripts may use the API, exactly as browsers send them:
	// https://host[:port], or http for localhost alone. Absent: none.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=272
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^(https://[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*|http://localhost)(:[1-9][0-9]{0,4})?$') && !self.matches('^(https://.*:443|http://.*:80)$')",message="auth.allowedOrigins are written as browsers send them: https://host or https://host:port, in lower case, without a path and without the scheme's own port; http is for localhost alone"
	AllowedOrigins []string `json:"allowedOrigins,omitempty"`
	// limits that differ from the platform's.
	// +optional
	Limits *AuthLimitsSpec `json:"limits,omitempty"`
}
