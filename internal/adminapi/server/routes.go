package server

import (
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/internal/adminapi"
)

// Parts of the paths of routes.
const (
	all = "/v1/"
	one = "/v1/namespaces/{namespace}/"
)

// routes returns all operations. A list has two paths: one for a namespace, one for the whole cluster.
func (s *Server) routes() []route {
	return []route{
		{method: http.MethodGet, path: adminapi.VersionPath, do: func(*Request) (any, error) { return s.Version, nil }},

		{http.MethodGet, all + "recordings", adminapi.ResourceRecordings, "list", listRecordings},
		{http.MethodGet, one + "recordings", adminapi.ResourceRecordings, "list", listRecordings},
		{http.MethodGet, one + "recordings/{id}", adminapi.ResourceRecordings, "get", showRecording},
		{http.MethodGet, all + "tenants", adminapi.ResourceTenants, "list", listActivities},
		{http.MethodGet, one + "tenants", adminapi.ResourceTenants, "list", listActivities},

		{http.MethodPost, all + "doctor", adminapi.ResourceDoctor, "create", runDoctor},
		{http.MethodPost, one + "doctor", adminapi.ResourceDoctor, "create", runDoctor},

		{http.MethodPost, one + "recordings/retry", adminapi.ResourceRecordings, "update", retryRecordings},

		{http.MethodGet, all + "streams", adminapi.ResourceStreams, "list", listStreams},
		{http.MethodGet, one + "streams", adminapi.ResourceStreams, "list", listStreams},
		{http.MethodGet, one + "streams/{id}", adminapi.ResourceStreams, "get", showStream},
		{http.MethodPost, one + "streams/close", adminapi.ResourceStreams, "delete", closeStreams},

		{http.MethodGet, all + "events", adminapi.ResourceEvents, "list", listEvents},
		{http.MethodGet, one + "events", adminapi.ResourceEvents, "list", listEvents},
		{http.MethodGet, one + "events/{id}", adminapi.ResourceEvents, "get", showEvent},
		{http.MethodPost, one + "events/replay", adminapi.ResourceEvents, "update", replayEvents},

		{http.MethodGet, all + "users", adminapi.ResourceUsers, "list", listUsers},
		{http.MethodGet, one + "users", adminapi.ResourceUsers, "list", listUsers},
		{http.MethodPost, one + "users", adminapi.ResourceUsers, "create", createUser},
		{http.MethodPost, one + "users/change", adminapi.ResourceUsers, "update", changeUser},
	}
}

// unknownOperation answers a path or method that this version does not have.
func unknownOperation(r *Request) (any, error) {
	return nil, &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure,
		Code:   http.StatusNotFound,
		Reason: metav1.StatusReasonNotFound,
		Message: fmt.Sprintf("the operator, version %s, has no operation %s %.100q; use the client of its version",
			r.server.Version.Version, r.Method, r.URL.Path),
	}}
}
