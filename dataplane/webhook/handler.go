// Package webhook takes Exotel's webhooks: verified, kept and applied in PostgreSQL before they are answered.
package webhook

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/admission"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/dataplane/rejection"
	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/budget"
	"github.com/caly-dev/caly/internal/ingest"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/tracing"
)

// ackTimeout bounds a webhook's wait for its commit: Exotel waits 15 s for its answer, and a 503 in time is better than none.
const ackTimeout = 12 * time.Second

// Options of New.
type Options struct {
	// Tenants returns the tenants known now.
	Tenants func() *tenantconfig.Snapshot
	Store   Ingester
	// MaxBody in bytes; 0 means 1 MiB.
	MaxBody int64
	// MaxInFlight is the maximum number of webhooks in progress; one beyond it is rejected before its body is read. One
	// tenant has at most half of them. 0 means 1024.
	MaxInFlight int
	// BodyWithin is how long a body may take to arrive; 0 means 10 s. Exotel waits 15 s for the answer.
	BodyWithin time.Duration
	// Workers is how many transactions run at once; 0 means 2.
	Workers int
	// TrustedProxies whose X-Forwarded headers are believed.
	TrustedProxies []netip.Prefix
	// Sources is the platform's part of the source policy; the tenant's hosts are filled in.
	Sources recording.SourcePolicy
	// Tracer begins the trace of a verified webhook; nil: no webhook is traced.
	Tracer  *tracing.Tracer
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Handler answers the webhooks.
type Handler struct {
	o        Options
	m        *metrics
	gate     *admission.Gate
	memory   *budget.Budget
	pool     pool
	commits  *committer
	rejected *rejection.Log
}

// New returns a handler, which must be closed.
func New(o Options) *Handler {
	if o.MaxBody == 0 {
		o.MaxBody = 1 << 20
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 1024
	}
	if o.BodyWithin == 0 {
		o.BodyWithin = 10 * time.Second
	}
	if o.Workers == 0 {
		o.Workers = 2
	}
	metrics := newMetrics()
	handler := &Handler{
		o:        o,
		m:        metrics,
		gate:     admission.New(admission.Options{Places: o.MaxInFlight, Share: tenantShare}),
		memory:   budget.New(sharedMemory),
		pool:     pool{largest: int(o.MaxBody) + 1},
		commits:  newCommitter(o.Store, o.Workers, o.Log, metrics),
		rejected: rejection.New(o.Log, "rejected a webhook"),
	}
	metrics.register(o.Metrics, handler)
	return handler
}

// Close ends once every event that is under way is settled. A webhook that comes later is told to come again.
func (h *Handler) Close() { h.commits.close() }

// ServeHTTP answers 200 only after COMMIT. It never redirects: Exotel takes 302 for a branch of a call's flow.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	visit := &visit{begun: time.Now(), ctx: r.Context()}
	outcomes, err := h.serve(w, r, visit)
	if err == nil {
		for _, o := range outcomes {
			h.m.events.WithLabelValues(outcomeName(o)).Inc()
		}
		tracing.Observe(visit.ctx, h.m.ack, time.Since(visit.begun).Seconds())
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusOK)
		visit.end(http.StatusOK, outcomes, "")
		return
	}
	var p *problem.Problem
	if !errors.As(err, &p) {
		p = problem.New(problem.Internal, "the event could not be stored; it is safe to retry")
	}
	h.m.rejected.WithLabelValues(string(p.Code)).Inc()
	id := w.Header().Get("X-Request-Id")
	h.logRejection(r, id, p.Code, err)
	p.Write(w, id)
	visit.end(p.Status, nil, string(p.Code))
}

// logRejection logs why a webhook is rejected. A path that is not a webhook's may have a token anywhere, and is left out.
func (h *Handler) logRejection(r *http.Request, id string, code problem.Code, err error) {
	rejected := rejection.Rejection{
		RequestID: id,
		Address:   verify.NewRequest(r, nil, "", h.o.TrustedProxies, time.Time{}).ClientIP,
		Route:     r.Pattern,
		Reason:    string(code),
	}
	if to, err := route(r); err == nil {
		rejected.Tenant = to.tenantID
	}
	var u *unproven
	if errors.As(err, &u) {
		rejected.Reason = u.reason
		rejected.Tenant = u.tenantID
	}
	h.rejected.Add(rejected)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, visit *visit) ([]store.Outcome, error) {
	to, err := route(r)
	if err != nil {
		return nil, unread(w, r, err)
	}
	r.Pattern = to.pattern // what the log may tell of the path
	h.m.received.WithLabelValues(to.kind).Inc()
	request := verify.NewRequest(r, nil, to.token, h.o.TrustedProxies, time.Now())
	place, err := h.enter(w, request, to)
	if err != nil {
		return nil, unread(w, r, err)
	}
	defer place.Leave()
	body, err := h.body(w, r)
	defer body.free()
	if err != nil {
		return nil, err
	}
	bodyReceived(w, place)
	request.Body = body.bytes
	request.Now = time.Now()
	tenant, delivery, err := h.verified(r, request, to, body)
	if err != nil {
		body.reuse()
		return nil, err
	}
	h.trace(r, visit, tenant.ID, to)
	if err := place.Verified(tenant.ID); err != nil {
		return nil, overloaded(err)
	}
	h.m.verified.Inc()
	return h.commit(visit.ctx, ingest.BuildAll(tenant, h.o.Sources, delivery))
}

// unread refuses a request whose body was not read.
func unread(w http.ResponseWriter, r *http.Request, err error) error {
	problem.Unread(w, r)
	return err
}

// commit returns after every event is stored. A sender that is told to retry sends all of them again, and those that
// are stored already are duplicates then.
func (h *Handler) commit(ctx context.Context, events []store.Event) ([]store.Outcome, error) {
	// Apart from the connection: what a sender that hangs up has delivered is kept all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ackTimeout)
	defer cancel()
	ctx, span := ingest.Trace(ctx, events)
	outcomes, err := h.commits.commitAll(ctx, events)
	ingest.EndTrace(span, err)
	var broken *ingest.PanicError
	switch {
	case err == nil:
		return outcomes, nil
	case errors.As(err, &broken):
		return nil, err
	}
	return nil, problem.New(problem.Unavailable,
		"the event could not be stored; retry later").WithRetryAfter(5 * time.Second)
}
