// Package adminapi is the admin API of the operator as it is on the wire: paths, bodies and the resources that a caller
// needs rights on. Package server serves it in the operator's pods, and package client calls it from a workstation
// with the credentials of a kubeconfig. The commands of `kubectl caly` are in cmd/internal/kubectl.
//
// A new verb needs four things:
//
//   - a type in this package, with JSON names in camelCase and times in UTC;
//   - a route in server.routes: a path, the resource and verb of its SubjectAccessReview, and a function
//     func(*server.Request) (any, error) that returns the body or an error of package apierrors or store;
//   - a call of client.Client.Get or Post, with the path of this package;
//   - a command in cmd/internal/kubectl, whose Session gives it the client and the namespace.
//
// A path that contains {namespace} is authorised in that namespace; any other path is authorised for the whole cluster. A
// handler gets tenants from Request.Tenants alone, which returns the Tenants of the authorised namespaces whose rows are
// their own: a handler cannot reach the data of another namespace by a parameter or a cursor.
package adminapi

import (
	"time"

	"github.com/caly-dev/caly/internal/replay"
)

// Virtual resources of the API group voice.caly.dev: the API server has no objects of these kinds, and RBAC rules may
// name them.
const (
	ResourceRecordings = "recordings"
	ResourceStreams    = "streams"
	ResourceEvents     = "events"
	ResourceUsers      = "users"
	// ResourceDoctor is a run of checks, which writes to buckets: its verb is create.
	ResourceDoctor = "doctor"
	// ResourceTenants is that of the Tenant objects.
	ResourceTenants = "tenants"
)

// Names by which a client finds the admin API.
const (
	// PortName is the name of the container port of the operator's pods.
	PortName = "admin"
	// DefaultPort is the port that the chart uses.
	DefaultPort = 8443
	// PodSelector selects the pods of the operator in the namespace of the installation.
	PodSelector = "app.kubernetes.io/part-of=caly,app.kubernetes.io/component=operator"
	// DefaultNamespace is the namespace that the documentation installs the chart in.
	DefaultNamespace = "caly-system"
)

// MaxPage bounds the items of one page.
const MaxPage = 200

// Path returns the path of a resource in a namespace, or in all namespaces with "". More elements follow the resource,
// such as the id of an object.
func Path(namespace, resource string, more ...string) string {
	path := "/v1/"
	if namespace != "" {
		path += "namespaces/" + namespace + "/"
	}
	path += resource
	for _, element := range more {
		path += "/" + element
	}
	return path
}

// VersionPath is the path of the operator's buildinfo.Info. Every authenticated caller may read it.
const VersionPath = "/v1/version"

// List is a page of objects. They are ordered by their tenants and, within a tenant, as the resource's list says.
type List[T any] struct {
	Items []T `json:"items"`
	// Next is the cursor of the next page: the parameter "cursor". It is empty at the end. A page may have fewer items
	// than the limit, even zero, and still a next one.
	Next string `json:"next,omitempty"`
}

// Recording is a recording, the newest first in a list.
type Recording struct {
	// Tenant is namespace/name.
	Tenant  string `json:"tenant"`
	ID      string `json:"id"`
	CallSID string `json:"callSid"`
	// State is pending, leased, uploaded or failed.
	State     string    `json:"state"`
	Attempts  int       `json:"attempts"`
	CreatedAt time.Time `json:"createdAt"`
	// NextAttemptAt is set while the recording is pending.
	NextAttemptAt *time.Time `json:"nextAttemptAt,omitempty"`
	FinishedAt    *time.Time `json:"finishedAt,omitempty"`
	// Code and Message say why the last attempt failed.
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	// SourceURL has no query, which may hold a signature.
	SourceURL string  `json:"sourceUrl,omitempty"`
	Object    *Object `json:"object,omitempty"`
	// Captured reports whether Caly captured it from a stream. It cannot be uploaded again.
	Captured bool `json:"captured,omitempty"`
}

// Activity is what was done for a Tenant last. Its path is that of the resource tenants.
type Activity struct {
	Tenant string `json:"tenant"`
	// LastEventAt is when the last event of the newest call came, and LastUploadAt when a recording was uploaded last.
	LastEventAt  *time.Time `json:"lastEventAt,omitempty"`
	LastUploadAt *time.Time `json:"lastUploadAt,omitempty"`
	// Waiting recordings can be uploaded now, counted up to 1000; the oldest has waited since OldestWaitingAt.
	Waiting         int        `json:"waiting"`
	OldestWaitingAt *time.Time `json:"oldestWaitingAt,omitempty"`
	// Streams are live.
	Streams int `json:"streams"`
}

// Object is an object of a bucket.
type Object struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"`
}

// RetryPath is the last element of the path of Retry.
const RetryPath = "retry"

// Retry asks for another upload of failed or waiting recordings of one tenant.
type Retry struct {
	// Tenant is the name without the namespace.
	Tenant string `json:"tenant"`
	// IDs of recordings, at most MaxPage.
	IDs []string `json:"ids"`
}

// Results of one object of a change.
const (
	ResultDone     = "done"
	ResultNotFound = "not found"
	ResultRejected = "rejected"
)

// Result is what a change did to one object.
type Result struct {
	Tenant string `json:"tenant"`
	ID     string `json:"id"`
	Result string `json:"result"`
	// Message says why it was not done.
	Message string `json:"message,omitempty"`
}

// Done is the answer to a change of several objects.
type Done struct {
	Results []Result `json:"results"`
}

// ClosePath is the last element of the path of Close.
const ClosePath = "close"

// Stream is a stream session: live ones the oldest first within a page of a Tenant, all the newest first.
type Stream struct {
	// Tenant is namespace/name.
	Tenant    string `json:"tenant"`
	ID        string `json:"id"`
	CallSID   string `json:"callSid,omitempty"`
	StreamSID string `json:"streamSid,omitempty"`
	Pod       string `json:"pod"`
	// Agent is the host of the agent.
	Agent      string     `json:"agent"`
	StartedAt  time.Time  `json:"startedAt"`
	LastSeenAt time.Time  `json:"lastSeenAt"`
	EndedAt    *time.Time `json:"endedAt,omitempty"`
	EndReason  string     `json:"endReason,omitempty"`
	// Closing reports whether the stream is live and its end was requested.
	Closing     bool `json:"closing,omitempty"`
	Reconnected bool `json:"reconnected,omitempty"`
	// As of LastSeenAt.
	ToAgent  Counts `json:"toAgent"`
	ToExotel Counts `json:"toExotel"`
}

// Counts are those of one direction of a stream.
type Counts struct {
	Frames  int64 `json:"frames"`
	Bytes   int64 `json:"bytes"`
	Dropped int64 `json:"dropped"`
}

// Close asks for the end of live streams of one Tenant.
type Close struct {
	// Tenant is the name without the namespace.
	Tenant string `json:"tenant"`
	// IDs of streams, at most MaxPage. None with All.
	IDs []string `json:"ids,omitempty"`
	// All asks for the end of all live streams of the Tenant.
	All bool `json:"all,omitempty"`
}

// Closed is the answer to Close.
type Closed struct {
	Results []Result `json:"results"`
	// Count is the number of streams that All closes.
	Count int `json:"count,omitempty"`
}

// ReplayPath is the last element of the path of Replay.
const ReplayPath = "replay"

// MaxReplay bounds the events of one Replay: each is a transaction.
const MaxReplay = 50

// Replay asks for stored events of one Tenant to be applied again.
type Replay struct {
	// Tenant is the name without the namespace.
	Tenant string `json:"tenant"`
	// IDs of events, at most MaxReplay.
	IDs    []int64 `json:"ids"`
	DryRun bool    `json:"dryRun,omitempty"`
}

// Replayed is the answer to Replay.
type Replayed struct {
	Results []replay.Result `json:"results"`
}

// User is an account of a Tenant's people.
type User struct {
	// Tenant is namespace/name.
	Tenant string `json:"tenant"`
	ID     string `json:"id"`
	Email  string `json:"email"`
	Role   string `json:"role"`
	// State is active, disabled, invited or unverified.
	State     string    `json:"state"`
	CreatedAt time.Time `json:"createdAt"`
}

// NewUser asks for an account without a password, and a token that sets one.
type NewUser struct {
	// Tenant is the name without the namespace.
	Tenant string `json:"tenant"`
	Email  string `json:"email"`
	// Role is admin, agent or viewer.
	Role string `json:"role"`
}

// CreatedUser is the answer to NewUser. It is the only one that has the token.
type CreatedUser struct {
	User
	ResetToken string    `json:"resetToken"`
	ExpiresAt  time.Time `json:"expiresAt"`
}

// ChangePath is the last element of the path of UserChange.
const ChangePath = "change"

// Changes of an account.
const (
	ChangeDisable = "disable"
	ChangeEnable  = "enable"
	ChangeRevoke  = "revoke"
)

// UserChange asks for a change of an account.
type UserChange struct {
	// Tenant is the name without the namespace.
	Tenant string `json:"tenant"`
	Email  string `json:"email"`
	// Change is disable, enable or revoke.
	Change string `json:"change"`
}

// ChangedUser is the answer to UserChange.
type ChangedUser struct {
	User User `json:"user"`
	// Sessions is the number of login sessions that revoke ended.
	Sessions int `json:"sessions,omitempty"`
}
