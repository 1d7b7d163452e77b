package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/dbconn"
	"github.com/caly-dev/caly/internal/store"
)

// route is one operation of the admin API.
type route struct {
	// method and path are a pattern of http.ServeMux. {namespace} is what the right is asked in, {id} the object's name.
	method, path string
	// resource and verb are those of the SubjectAccessReview. Without a resource every authenticated caller may.
	resource, verb string
	// do returns the body of the answer.
	do func(*Request) (any, error)
}

// changes reports whether the route changes something: it is logged then.
func (r route) changes() bool { return r.verb != "" && r.verb != "get" && r.verb != "list" }

// Request is an authorised request.
type Request struct {
	*http.Request
	User User
	// ID names the request in the log.
	ID string
	// Namespace is the one that the caller has the right in; empty means every namespace.
	Namespace string
	server    *Server
	route     route
	// objects is what a change was about, for the log.
	objects string
}

// Read reads the body into a value. Unknown fields are errors.
func (r *Request) Read(into any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil && decoder.More() {
		err = errors.New("there is more than one value")
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("the body has more than %d bytes", maxBody))
	case err != nil:
		return apierrors.NewBadRequest("the body is not the JSON of this operation: " + bounded.Text(err.Error(), 200))
	}
	return nil
}

// About names the objects of a change for the log. It replaces what was named before.
func (r *Request) About(format string, args ...any) { r.objects = fmt.Sprintf(format, args...) }

// Origin is who changes something, for the tenant's audit log: the request's id, by which the operator's log names the
// Kubernetes user. Tenants do not see the names of the platform's people.
func (r *Request) Origin() store.Origin { return store.Origin{Device: "kubectl caly", RequestID: r.ID} }

// Limit returns the parameter "limit": 1 to adminapi.MaxPage.
func (r *Request) Limit(query url.Values) (int, error) {
	text := query.Get("limit")
	if text == "" {
		return adminapi.MaxPage, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > adminapi.MaxPage {
		return 0, apierrors.NewBadRequest(
			fmt.Sprintf("limit: %.20q is not a number from 1 to %d", text, adminapi.MaxPage))
	}
	return limit, nil
}

// handler authenticates, authorises and serves a route.
func (s *Server) handler(route route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), handleTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		request := &Request{
			Request:   r,
			ID:        newID(),
			Namespace: r.PathValue("namespace"),
			server:    s,
			route:     route,
		}
		w.Header().Set("X-Request-Id", request.ID)
		w.Header().Set("Cache-Control", "no-store")
		body, err := s.serve(request)
		if err != nil {
			status := request.status(err)
			if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(int(status.Details.RetryAfterSeconds)))
			}
			write(w, int(status.Code), status)
			return
		}
		write(w, http.StatusOK, body)
	})
}

// serve returns the body of the answer, and logs a change.
func (s *Server) serve(r *Request) (any, error) {
	ctx := r.Context()
	by, err := s.authenticator.authenticate(ctx, r.Request)
	if err != nil {
		return nil, err
	}
	if !s.allow(by.Name) {
		return nil, apierrors.NewTooManyRequests(
			fmt.Sprintf("user %q sends too many requests; retry later", bounded.Text(by.Name, 100)), 1)
	}
	if r.User, err = s.authorizer.impersonate(ctx, by, r.Header); err != nil {
		return nil, err
	}
	if r.route.resource != "" {
		if err := s.authorizer.authorize(ctx, r.User, access{
			Namespace: r.Namespace,
			Verb:      r.route.verb,
			Group:     v1alpha1.GroupVersion.Group,
			Resource:  r.route.resource,
			Name:      r.PathValue("id"),
		}); err != nil {
			return nil, err
		}
	}
	body, err := r.route.do(r)
	if r.route.changes() {
		r.log(err)
	}
	return body, err
}

// log writes the audit line of a change. None of it is a secret: names are cleaned and bounded.
func (r *Request) log(err error) {
	logger := log.FromContext(r.Context()).WithValues(
		"requestID", r.ID,
		"user", bounded.Text(r.User.Name, 256),
		"impersonatedBy", bounded.Text(r.User.By, 256),
		"verb", r.route.verb,
		"resource", r.route.resource,
		"operation", r.route.method+" "+r.route.path,
		"namespace", bounded.Text(r.Namespace, 63),
		"objects", bounded.Text(r.objects, 1024),
	)
	if err != nil {
		logger.Info("a change by the admin API failed", "error", bounded.Text(err.Error(), 500))
		return
	}
	logger.Info("a change by the admin API")
}

// status returns the answer to an error. What the caller cannot correct is logged, and not shown.
func (r *Request) status(err error) metav1.Status {
	var known apierrors.APIStatus
	if errors.As(err, &known) {
		return complete(known.Status())
	}
	resource := schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: r.route.resource}
	var rejected *store.ServerError
	switch {
	case errors.As(err, &rejected) && rejected.Code == dbconn.UnreadableText:
		return complete(apierrors.NewBadRequest(
			"the request has text that PostgreSQL cannot store: it must be UTF-8 without NUL").ErrStatus)
	case errors.Is(err, store.ErrNotFound):
		return complete(apierrors.NewNotFound(resource, r.PathValue("id")).ErrStatus)
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		status := apierrors.NewServiceUnavailable("PostgreSQL does not answer; retry later").ErrStatus
		status.Details = &metav1.StatusDetails{RetryAfterSeconds: 2}
		return complete(status)
	case r.Context().Err() != nil:
		return complete(apierrors.NewTimeoutError("the request was given up", 1).ErrStatus)
	}
	log.FromContext(r.Context()).Error(err, "a request to the admin API failed", "requestID", r.ID)
	return complete(apierrors.NewInternalError(
		fmt.Errorf("see the operator's log for the request %s", r.ID)).ErrStatus)
}

// complete sets what every Status has on the wire.
func complete(s metav1.Status) metav1.Status {
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	if s.Code == 0 {
		s.Code = http.StatusInternalServerError
	}
	return s
}

func write(w http.ResponseWriter, code int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		http.Error(w,
			`{"kind":"Status","apiVersion":"v1","status":"Failure","code":500}`, http.StatusInternalServerError,
		)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(data, '\n'))
}

func newID() string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	return hex.EncodeToString(random[:])
}
