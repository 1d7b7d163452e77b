// Package stream is the endpoint of Exotel's audio streams: it lets them in and bridges them to the agents of their tenants.
package stream

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/admission"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/dataplane/rejection"
	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/dataplane/stream/capture"
	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/dataplane/verify"
	"github.com/caly-dev/caly/internal/budget"
	"github.com/caly-dev/caly/internal/netguard"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/tracing"
)

// PathPrefix of the endpoint.
const PathPrefix = "/audio/exotel/"

// tenantShare is the share of the places that one tenant has at most: a quarter.
const tenantShare = 4

// retryAfter of what a pod has no room for.
const retryAfter = 2 * time.Second

// Sessions let streams in. *live.Registry is one.
type Sessions interface {
	Admit(ctx context.Context, t *tenantconfig.Tenant, limit int, s registry.Stream) (*registry.Live, error)
}

// Options of a Handler. Zero durations and numbers are the defaults.
type Options struct {
	// Tenants returns the tenants known now.
	Tenants  func() *tenantconfig.Snapshot
	Sessions Sessions
	// Key of the one-time tokens, equal in all pods; nil while there is none.
	Key func() []byte
	// PublicURL is where Exotel reaches the data plane, for the URLs of streams. nil: where the request says it was
	// sent, which any client can write into its headers.
	PublicURL *url.URL
	// TrustedProxies whose X-Forwarded headers are believed.
	TrustedProxies []netip.Prefix
	// AllowedAgents are ranges, other than public ones, that agents may have their addresses in.
	AllowedAgents []netip.Prefix
	// Egress is the platform's proxy to agents; nil: none.
	Egress *netguard.Egress
	// DialWithin bounds the connection to the agent; 5 s by default: Exotel waits 10 s for the whole handshake.
	DialWithin time.Duration
	// MaxHandshakes is the maximum number of handshakes in progress, and that of questions for a URL whose body is
	// read; 512 by default. One tenant has at most a quarter of them.
	MaxHandshakes int
	// BodyWithin is how long the body of a question for a URL may take to arrive; 5 s by default. Exotel waits 10 s
	// for the answer.
	BodyWithin time.Duration
	// Captures record streams of tenants that want that; nil records none.
	Captures *capture.Captures
	// Bridge has what all bridges share: budget, times, memory.
	Bridge bridge.Options
	// Tracer begins the trace of a verified stream; nil: no stream is traced.
	Tracer  *tracing.Tracer
	Log     *slog.Logger
	Metrics prometheus.Registerer
	now     func() time.Time
}

func (o *Options) setDefaults() {
	if o.DialWithin <= 0 {
		o.DialWithin = 5 * time.Second
	}
	if o.MaxHandshakes <= 0 {
		o.MaxHandshakes = 512
	}
	if o.BodyWithin <= 0 {
		o.BodyWithin = 5 * time.Second
	}
	if o.Bridge.Memory == nil {
		o.Bridge.Memory = budget.New(bridge.SharedMemory)
	}
	if o.now == nil {
		o.now = time.Now
	}
}

// Handler is the endpoint.
type Handler struct {
	o          Options
	m          *metrics
	dialer     bridge.Dialer
	places     *admission.Gate // of handshakes, which are verified
	bodies     *admission.Gate // of questions for a URL whose body is read
	redials    *admission.Gate // of second connections to agents
	memory     *budget.Parts   // half for each tenant
	draining   atomic.Bool
	bridges    sync.WaitGroup
	rejections *rejection.Log
}

// New makes the endpoint.
func New(o Options) *Handler {
	o.setDefaults()
	gate := func(name string) *admission.Gate {
		g := admission.New(admission.Options{Places: o.MaxHandshakes, Share: tenantShare})
		g.Register(o.Metrics, name)
		return g
	}
	handler := &Handler{
		o:          o,
		rejections: rejection.New(o.Log, "rejected a stream"),
		m:          newMetrics(o.Metrics, o.Bridge.Memory),
		places:     gate("stream"),
		bodies:     gate("stream_url"),
		redials:    gate("stream_redial"),
		dialer:     bridge.Dialer{NetDial: netguard.NewDialer(o.AllowedAgents, o.Egress).DialContext},
	}
	handler.memory = o.Bridge.Memory.Parts(bridge.SharedMemory / 2)
	handler.o.Bridge.Observer = handler.m.audio.Observer()
	return handler
}

// Drain refuses new streams from now on. Live streams go on.
func (h *Handler) Drain() { h.draining.Store(true) }

// Wait waits for the bridges. Call Drain and end the streams first.
func (h *Handler) Wait() { h.bridges.Wait() }

// ServeHTTP answers a handshake, or a question for a stream's URL.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := h.serve(w, r)
	if err == nil {
		return
	}
	var p *refusal
	if !errors.As(err, &p) {
		p = &refusal{problem.New(problem.Internal, "the stream could not be started").WithCause(err), reasonInternal}
	}
	h.rejected(w, r, p.reason)
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
	}
	p.Write(w, w.Header().Get("X-Request-Id"))
}

// rejected counts and logs a rejection. A path that is not a stream's may have a token anywhere, and is left out.
func (h *Handler) rejected(w http.ResponseWriter, r *http.Request, reason string) {
	h.m.rejected[reason].Inc()
	tenant := ""
	if r.Pattern != "" {
		to, _ := route(r)
		tenant = to.tenantID
	}
	h.rejections.Add(rejection.Rejection{
		RequestID: w.Header().Get("X-Request-Id"),
		Tenant:    tenant,
		Address:   verify.NewRequest(r, nil, "", h.o.TrustedProxies, time.Time{}).ClientIP,
		Route:     r.Pattern,
		Reason:    reason,
	})
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) error {
	arrived := time.Now()
	to, err := route(r)
	if err != nil {
		return err
	}
	r.Pattern = to.pattern // what the log may tell of the path
	if h.draining.Load() {
		return refuse(reasonDraining, problem.New(problem.Unavailable,
			"this pod is shutting down; retry").WithRetryAfter(retryAfter))
	}
	if to.url {
		return h.answerURL(w, r, to)
	}
	return h.open(w, r, to, arrived)
}

// busy refuses a request for which there is no place.
func busy(err error) error {
	reason := reasonBusy
	detail := "too many handshakes are in progress; retry later"
	if errors.Is(err, admission.ErrShare) {
		reason = reasonTenantBusy
		detail = "too many handshakes of this tenant or client are in progress; retry later"
	}
	return refuse(reason, problem.New(problem.Unavailable, detail).WithRetryAfter(retryAfter))
}

// refusal is a problem, and what is counted.
type refusal struct {
	*problem.Problem
	reason string
}

func refuse(reason string, p *problem.Problem) error { return &refusal{p, reason} }
