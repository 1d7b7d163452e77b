// Package webhook takes Exotel's webhooks: verified, kept and applied in PostgreSQL before they are answered.
package webhook

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/auth"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// PathPrefix of every webhook: {PathPrefix}{namespace}/{tenant}/{event}.
const PathPrefix = "/webhooks/exotel/"

// ingestTimeout bounds the transaction: Exotel waits 15 s for its answer, and a 503 in time is better than none.
const ingestTimeout = 10 * time.Second

// kinds by the path's last element.
var kinds = map[string]string{
	"status": exotel.KindStatus, "call-start": exotel.KindStatus, "call-answered": exotel.KindStatus,
	"call-end": exotel.KindStatus, "recording": exotel.KindStatus, "passthru": exotel.KindPassthru,
}

// Ingester keeps and applies one event in one transaction.
type Ingester interface {
	Ingest(context.Context, store.Event) (store.Outcome, error)
}

// Options of New.
type Options struct {
	// Tenants returns the tenants known now.
	Tenants func() *tenantconfig.Snapshot
	Store   Ingester
	// MaxBody in bytes; 0 means 1 MiB.
	MaxBody int64
	// Sources is the platform's part of the source policy; the tenant's hosts are filled in.
	Sources tenantconfig.SourcePolicy
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Handler answers the webhooks.
type Handler struct {
	o Options
	m *metrics
}

// New returns a handler.
func New(o Options) *Handler {
	if o.MaxBody == 0 {
		o.MaxBody = 1 << 20
	}
	return &Handler{o: o, m: newMetrics(o.Metrics)}
}

// ServeHTTP answers 200 only after COMMIT. It never redirects: Exotel takes 302 for a branch of a call's flow.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	outcome, err := h.serve(w, r)
	if err == nil {
		h.m.events.WithLabelValues(outcomeName(outcome)).Inc()
		h.m.ack.Observe(time.Since(start).Seconds())
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusOK)
		return
	}
	var p *problem.Problem
	if !errors.As(err, &p) {
		p = problem.New(http.StatusInternalServerError, problem.Internal, "the event could not be kept; it is safe to send it again")
	}
	if p.Status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "GET, POST")
	}
	h.m.rejected.WithLabelValues(string(p.Code)).Inc()
	p.Write(w, w.Header().Get("X-Request-Id"))
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) (store.Outcome, error) {
	tenantID, kind, err := route(r)
	if err != nil {
		return 0, err
	}
	h.m.received.WithLabelValues(kind).Inc()
	body, err := h.body(w, r)
	if err != nil {
		return 0, err
	}
	signed := signedPart(r, body)
	tenant, err := h.verify(r, tenantID, signed)
	if err != nil {
		return 0, err
	}
	event, err := h.parse(tenant, kind, r, body, signed)
	if err != nil {
		return 0, err
	}
	return h.ingest(r.Context(), event)
}

// route takes the path apart itself: a ServeMux pattern would answer a doubled slash with a redirect.
func route(r *http.Request) (tenantID, kind string, err error) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, PathPrefix), "/")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || kinds[parts[2]] == "" {
		return "", "", problem.New(http.StatusNotFound, problem.NotFound, "no such webhook: the path is "+PathPrefix+"{namespace}/{tenant}/{status|passthru|...}")
	}
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return "", "", problem.New(http.StatusMethodNotAllowed, problem.MethodNotAllowed, "webhooks are sent with GET or POST")
	}
	return parts[0] + "/" + parts[1], kinds[parts[2]], nil
}

func (h *Handler) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.o.MaxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, problem.New(http.StatusRequestEntityTooLarge, problem.PayloadTooLarge, "the body is larger than a webhook may be")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, problem.New(http.StatusRequestTimeout, problem.Timeout, "the body did not end in time")
	case err != nil:
		return nil, problem.New(http.StatusBadRequest, problem.Validation, "the body broke off before its end")
	}
	return body, nil
}

// signedPart is what the signature covers: the body of a POST, the raw query of a request without one. Nothing else of the
// request is read for its fields, since whoever has seen one signed request could add to it.
func signedPart(r *http.Request, body []byte) exotel.Request {
	if r.Method == http.MethodGet || len(body) == 0 {
		return exotel.Request{Method: r.Method, RawQuery: r.URL.RawQuery}
	}
	return exotel.Request{Method: r.Method, ContentType: r.Header.Get("Content-Type"), Body: body}
}

// verify returns the tenant if the request proves to come from its Exotel. An unknown tenant and a wrong signature are
// refused alike, so that nobody learns from outside which tenants exist.
func (h *Handler) verify(r *http.Request, tenantID string, part exotel.Request) (*tenantconfig.Tenant, error) {
	signature := r.Header.Get(auth.SignatureHeader)
	if signature == "" {
		return nil, h.refuse(tenantID, "missing_signature", "Missing webhook signature")
	}
	signed := part.Body
	if len(signed) == 0 {
		signed = []byte(part.RawQuery)
	}
	tenant, known := h.o.Tenants().Tenant(tenantID)
	var secrets []tenantconfig.Sensitive
	if known && tenant.Signature != nil {
		secrets = tenant.Signature.Secrets
	}
	if !auth.VerifyHMACSHA1(secrets, signed, signature) {
		return nil, h.refuse(tenantID, refusal(known, len(secrets)), "the webhook's signature was not accepted")
	}
	if tenant.Suspended {
		return nil, problem.New(http.StatusForbidden, problem.Forbidden, "the tenant is suspended")
	}
	return tenant, nil
}

func refusal(known bool, secrets int) string {
	switch {
	case !known:
		return "unknown_tenant"
	case secrets == 0:
		return "no_verifier"
	}
	return "wrong_signature"
}

func (h *Handler) refuse(tenantID, reason, outside string) error {
	h.m.refused.WithLabelValues(reason).Inc()
	h.o.Log.Warn("refused a webhook", "tenant", bound(tenantID, 128), "reason", reason)
	return problem.New(http.StatusUnauthorized, problem.InvalidSignature, outside)
}

func (h *Handler) ingest(ctx context.Context, e store.Event) (store.Outcome, error) {
	// Apart from the connection: what a sender that hangs up has delivered is kept all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ingestTimeout)
	defer cancel()
	outcome, err := h.o.Store.Ingest(ctx, e)
	if err == nil {
		if outcome == store.Dead {
			h.o.Log.Warn("kept an event that cannot be applied", "tenant", e.Tenant, "call", e.CallSID, "reason", e.DeadReason)
		}
		return outcome, nil
	}
	h.o.Log.Error("an event could not be kept", "tenant", e.Tenant, "call", e.CallSID, "error", err)
	if reason := deadReason(err); reason != "" && e.DeadReason == "" {
		// Kept as received, without what was read from it: that may be what the database refuses.
		e.DeadReason, e.Call, e.Recording = reason, store.Call{}, nil
		return h.ingest(ctx, e)
	}
	p := problem.New(http.StatusServiceUnavailable, problem.Unavailable, "the event could not be kept; send it again")
	p.RetryAfter = 5 * time.Second
	return 0, p
}

// deadReason names the errors that sending the event again does not mend; for the others it is empty.
func deadReason(err error) string {
	var refused *store.ServerError
	switch {
	case errors.Is(err, store.ErrTooManyRecordings):
		return "too_many_recordings"
	case errors.As(err, &refused) && !passing(refused.Code):
		return "refused_by_database"
	}
	return ""
}

// passing tells whether a refusal is about the moment, not the event: a transaction rolled back (40) or an object in use (55).
func passing(sqlState string) bool {
	return strings.HasPrefix(sqlState, "40") || strings.HasPrefix(sqlState, "55")
}

// bound makes a sender's text fit for a column: at most n bytes of valid UTF-8 without NUL.
func bound(s string, n int) string {
	s = strings.ReplaceAll(s[:min(len(s), n)], "\x00", "")
	return strings.ToValidUTF8(s, "")
}
