package webhook

import (
	"errors"
	"net/http"
	"time"

	"github.com/caly-dev/caly/dataplane/admission"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/dataplane/verify"
)

// tenantShare is the share of the webhooks in progress that one tenant has at most: half of them.
const tenantShare = 2

// enter returns a place for a webhook whose body is not read yet. The place counts for the tenant if its verifiers
// accept the webhook whatever the body is; else it counts for the client until the body is verified.
func (h *Handler) enter(w http.ResponseWriter, request *verify.Request, to destination) (*admission.Place, error) {
	holder := admission.Address(request.ClientIP)
	if t, known := h.o.Tenants().Tenant(to.tenantID); known && verify.AcceptsHead(t.Webhooks, request) {
		holder = admission.Tenant(t.ID)
	}
	place, err := h.gate.Enter(w, holder)
	if err != nil {
		return nil, overloaded(err)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.o.BodyWithin)) // a recorder has none
	return place, nil
}

// bodyReceived says that the body is there: the place cannot be taken away, and no deadline runs while the event is
// committed.
func bodyReceived(w http.ResponseWriter, place *admission.Place) {
	place.Received()
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a recorder has none
}

// overloaded answers a webhook for which there is no place.
func overloaded(err error) error {
	detail := "the server is busy; retry later"
	if errors.Is(err, admission.ErrShare) {
		detail = "too many webhooks of this tenant or client are in progress; retry later"
	}
	return problem.New(problem.Unavailable, detail).WithRetryAfter(time.Second)
}
