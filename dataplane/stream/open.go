package stream

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"code.dny.dev/ssrf"
	"github.com/gorilla/websocket"
	"go.opentelemetry.io/otel/trace"

	"github.com/caly-dev/caly/dataplane/admission"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/dataplane/stream/capture"
	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/budget"
	"github.com/caly-dev/caly/internal/exotel/agentstream"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/tracing"
)

// open begins a stream: the agent first, so that one that is away fails the handshake and Exotel's flow goes on, and a one-time token
// is still good for Exotel's second try; then the session; then the upgrade.
func (h *Handler) open(w http.ResponseWriter, r *http.Request, to destination, arrived time.Time) error {
	guest, err := h.verified(r, to, nil)
	if err != nil {
		return err
	}
	r, span := h.trace(r, guest, to, arrived)
	if err := h.start(w, r, guest, arrived); err != nil {
		endStep(span, err)
		return err
	}
	return nil
}

// start begins a stream of a verified request. It ends the request's span unless it returns an error.
func (h *Handler) start(w http.ResponseWriter, r *http.Request, guest guest, arrived time.Time) error {
	span := trace.SpanFromContext(r.Context())
	audio := guest.tenant.Audio
	codec, err := agent.New(agent.Protocol(audio.Protocol))
	if err != nil {
		return err
	}
	place, err := h.places.Take(nil, admission.Tenant(guest.tenant.ID)) // only now: an unverified request takes none
	if err != nil {
		return busy(err)
	}
	defer place.Leave()
	memory := h.memory.Of(guest.tenant.ID)
	log := h.o.Log.With("request", w.Header().Get("X-Request-Id"), "tenant", guest.tenant.ID)
	log = tracing.Logger(r.Context(), log)
	peer, err := h.dial(r.Context(), log.With("call", guest.token.callSID), audio, memory)
	switch {
	case errors.Is(err, context.Canceled):
		return refuse(reasonGone, problem.New(problem.Unavailable, "the client closed the handshake"))
	case err != nil:
		return refuse(reasonAgent, problem.New(problem.UpstreamFailure,
			"the tenant's agent did not accept the call").WithCause(err))
	}
	session, err := h.admit(r.Context(), log, guest)
	if err != nil {
		_ = peer.Close()
		return h.turnAway(w, r, err)
	}
	conn, err := bridge.Upgrade(w, r, bridge.ConnOptions{Memory: memory})
	if err != nil { // answered already
		_ = peer.Close()
		session.End(context.WithoutCancel(r.Context()), nil)
		h.rejected(w, r, reasonHandshake)
		tracing.Fail(span, reasonHandshake)
		span.End()
		return nil
	}
	span.AddEvent("upgraded")
	tracing.Observe(r.Context(), h.m.handshake, time.Since(arrived).Seconds())
	options := h.o.Bridge
	options.Codec = codec
	options.SampleRate = rateOf(r.URL.Query())
	options.Memory = memory
	s := admitted{
		Live:     session,
		captured: h.o.Captures.Begin(guest.tenant, session.ID(), options.SampleRate),
		token:    guest.token,
		span:     span,
	}
	if audio.Reconnect {
		options.Redial = func(ctx context.Context) (*bridge.Conn, error) {
			return h.redial(trace.ContextWithSpan(ctx, span), s.logger(log), guest.tenant, memory)
		}
	}
	options.Tap = s.captured.Tap()
	// Apart from the request, whose buffers and stack are then free while the call lasts.
	h.bridges.Go(func() { h.run(s, log, options, conn, peer) })
	return nil
}

// partWithin is how long a rejected stream has to answer the close.
const partWithin = 2 * time.Second

// turnAway tells a stream beyond its tenant's limit so with a close code: a refused handshake is tried again at once, perhaps at another
// pod, but this limit is one over all pods. Other refusals are answered as they are.
func (h *Handler) turnAway(w http.ResponseWriter, r *http.Request, reason error) error {
	var p *refusal
	if !errors.As(reason, &p) || p.reason != reasonTenantLimit {
		return reason
	}
	h.rejected(w, r, p.reason)
	endStep(trace.SpanFromContext(r.Context()), p)
	if conn, err := bridge.Upgrade(w, r, bridge.ConnOptions{}); err == nil { // else it was answered
		conn.Refuse(websocket.CloseTryAgainLater, reasonTenantLimit, partWithin)
	}
	return nil
}

// admitted is a stream with a session.
type admitted struct {
	*registry.Live
	captured *capture.Capture
	token    oneTime
	span     trace.Span // of the whole stream
}

// logger returns a logger that names the session and the call, which Exotel may name after the handshake only.
func (s admitted) logger(log *slog.Logger) *slog.Logger {
	return log.With("session", s.ID(), "call", s.CallSID())
}

// run bridges a stream until it ends.
func (h *Handler) run(s admitted, log *slog.Logger, o bridge.Options, conn, peer *bridge.Conn) {
	ctx, cut := context.WithCancelCause(s.Context())
	defer cut(nil)
	o.Started = func(info agentstream.StartInfo) {
		s.span.AddEvent("started")
		s.Started(info)
		s.captured.Started(info)
		if s.token.callSID != "" && info.CallSID != s.token.callSID {
			h.m.rejected[reasonOtherCall].Inc()
			s.logger(log).Warn("a stream is cut off: its token is for another call", "reason", reasonOtherCall)
			cut(&bridge.Cut{Reason: bridge.ProtocolError, Code: websocket.ClosePolicyViolation})
		}
	}
	bridge := bridge.New(o)
	s.Measured(bridge.Counts)
	end := bridge.Run(ctx, conn, peer)
	s.captured.End()
	h.m.audio.Ended(end)
	s.End(context.Background(), end)
	s.endTrace(end)
	s.logger(log).Info("a stream ended", "reason", string(end.Reason), "side", string(end.Side), "code", end.Code)
}

// admit has a session for the stream. That the token is used once, over all pods, is the row's unique key.
func (h *Handler) admit(ctx context.Context, log *slog.Logger, g guest) (live *registry.Live, err error) {
	ctx, span := tracing.Child(ctx, "admit stream")
	defer func() { endStep(span, err) }()
	audio := g.tenant.Audio
	stream := registry.Stream{
		CallSID:  g.token.callSID,
		Address:  g.request.ClientIP,
		Agent:    hostOf(audio.AgentURL),
		TokenID:  g.token.id,
		Captured: h.o.Captures.Wants(g.tenant),
	}
	session, err := h.o.Sessions.Admit(ctx, g.tenant, audio.MaxStreams, stream)
	busy := problem.New(problem.Unavailable, "no room for another stream; retry later").WithRetryAfter(retryAfter)
	switch {
	case err == nil:
		return session, nil
	case errors.Is(err, registry.ErrTenantLimit):
		return nil, refuse(reasonTenantLimit, busy)
	case errors.Is(err, registry.ErrPodLimit):
		return nil, refuse(reasonPodLimit, busy)
	case errors.Is(err, registry.ErrDraining):
		return nil, refuse(reasonDraining, busy)
	case errors.Is(err, registry.ErrTokenUsed):
		return nil, refuse(
			reasonUsedToken, problem.New(problem.InvalidSignature, "the stream's secret was not accepted"),
		)
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, refuse(reasonGone, busy)
	}
	log.Error("the session of a stream could not be stored: the stream is rejected",
		"call", g.token.callSID, "error", err)
	return nil, refuse(reasonDatabase, busy)
}

// redial connects to the agent again, as soon as the tenant has a place for that.
func (h *Handler) redial(
	ctx context.Context, log *slog.Logger, t *tenantconfig.Tenant, memory *budget.Budget,
) (*bridge.Conn, error) {
	place, err := h.redials.Wait(ctx, admission.Tenant(t.ID))
	if err != nil {
		return nil, err
	}
	defer place.Leave()
	return h.dial(ctx, log, t.Audio, memory)
}

// dial connects to the agent. Its errors name no URL, which may hold a key.
func (h *Handler) dial(
	ctx context.Context, log *slog.Logger, a *tenantconfig.Audio, memory *budget.Budget,
) (*bridge.Conn, error) {
	ctx, span := dialling(ctx, a)
	defer span.End()
	bounded, cancel := context.WithTimeout(ctx, h.o.DialWithin)
	defer cancel()
	header := make(http.Header, len(a.Headers)+1)
	if parent := tracing.Traceparent(ctx); parent != "" {
		header.Set(tracing.Header, parent)
	}
	for name, value := range a.Headers {
		header.Set(name, value.Reveal())
	}
	dialer := h.dialer
	dialer.TLS = a.TLS()
	dialer.Memory = memory
	conn, resp, err := dialer.Dial(bounded, a.AgentURL, header) //nolint:bodyclose // its body is a copy in memory
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(ctx.Err(), context.Canceled): // the call has gone, the agent need not be at fault
		return nil, ctx.Err()
	}
	status := 0
	reason := whyNot(bounded, err)
	if resp != nil {
		status = resp.StatusCode
		reason = dialRejected
	}
	h.m.dials[reason].Inc()
	tracing.Fail(span, reason)
	log.Warn("the agent did not accept a call", "agent", hostOf(a.AgentURL), "reason", reason, "status", status)
	return nil, errors.New(reason)
}

// whyNot is the reason of a connection that was not made.
func whyNot(ctx context.Context, err error) string {
	var network net.Error
	switch {
	case errors.Is(err, ssrf.ErrProhibitedIP):
		return dialForbidden
	case ctx.Err() != nil, errors.As(err, &network) && network.Timeout():
		return dialTimeout
	case errors.Is(err, bridge.ErrTLS):
		return dialTLS
	}
	return dialUnreachable
}

func hostOf(agentURL string) string {
	address, err := url.Parse(agentURL)
	if err != nil {
		return ""
	}
	return address.Hostname()
}

// rateOf is what the query says until the start does; 0 is the bridge's default.
func rateOf(query url.Values) int {
	rate, _ := strconv.Atoi(query.Get(sampleRate))
	switch rate {
	case 8000, 16000, 24000:
		return rate
	}
	return 0
}
