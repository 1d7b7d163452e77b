// Package monitoring answers operators who ask a pod how it is: without a token on the internal listener, with the operator's token
// on the public one.
package monitoring

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caly-dev/caly/dataplane/problem"
)

// PathPrefix of all that is answered.
const PathPrefix = "/api/monitoring/"

// Section is one part of the status.
type Section interface {
	// Name is its member in the answer.
	Name() string
	// Status becomes JSON. It should heed ctx: one that does not is answered for, and not asked again before it has ended.
	Status(ctx context.Context) any
}

// NewSection makes a section of a function.
func NewSection(name string, status func(context.Context) any) Section { return section{name, status} }

type section struct {
	name   string
	status func(context.Context) any
}

// Name implements Section.
func (s section) Name() string { return s.name }

// Status implements Section.
func (s section) Status(ctx context.Context) any { return s.status(ctx) }

// Handler answers GET /api/monitoring/status, and further paths.
type Handler struct {
	timeout  time.Duration
	sections []*guarded
	further  map[string]http.Handler // by the path
	actions  map[string]http.Handler // by the path
}

// New makes a handler of sections, which are asked at once, and for at most the timeout; 0 means 2 s.
func New(timeout time.Duration, sections ...Section) *Handler {
	if timeout == 0 {
		timeout = 2 * time.Second
	}
	handler := &Handler{timeout: timeout}
	for _, s := range sections {
		handler.sections = append(handler.sections, &guarded{Section: s})
	}
	return handler
}

// Handle answers GET and HEAD of /api/monitoring/name by another handler, on every listener that the Handler is on. It is for before the
// first request.
func (h *Handler) Handle(name string, further http.Handler) {
	if h.further == nil {
		h.further = map[string]http.Handler{}
	}
	h.further[PathPrefix+name] = further
}

// HandleAction answers POST of /api/monitoring/name by another handler, to authenticated requests alone. It is for before
// the first request.
func (h *Handler) HandleAction(name string, action http.Handler) {
	if h.actions == nil {
		h.actions = map[string]http.Handler{}
	}
	h.actions[PathPrefix+name] = action
}

// serveAuthenticated answers requests with the operator's token: actions too.
func (h *Handler) serveAuthenticated(w http.ResponseWriter, r *http.Request) {
	action := h.actions[r.URL.Path]
	switch {
	case action == nil:
		h.ServeHTTP(w, r)
	case r.Method != http.MethodPost:
		problem.MethodNotAllowed(
			"the path does not support the method", "POST",
		).Write(w, w.Header().Get("X-Request-Id"))
	default:
		action.ServeHTTP(w, r)
	}
}

// ServeHTTP answers without authentication, and does nothing: it is for the internal listener. Public is for the other.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := w.Header().Get("X-Request-Id")
	further := h.further[r.URL.Path]
	switch {
	case r.URL.Path != PathPrefix+"status" && further == nil:
		problem.New(problem.NotFound, "the path does not exist").Write(w, id)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		problem.MethodNotAllowed("the path does not support the method", "GET, HEAD").Write(w, id)
		return
	case further != nil:
		further.ServeHTTP(w, r)
		return
	}
	body, err := json.MarshalIndent(h.status(r.Context()), "", "  ")
	if err != nil {
		problem.New(problem.Internal, "a section cannot be written as JSON").Write(w, id)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n')) // the peer may have gone
}

// trouble stands where a section has no answer.
type trouble struct {
	Error string `json:"error"`
}

func (h *Handler) status(ctx context.Context) map[string]any {
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	answers := make([]any, len(h.sections))
	var group sync.WaitGroup
	for i, s := range h.sections {
		group.Go(func() { answers[i] = s.ask(ctx) })
	}
	group.Wait()
	all := map[string]any{"time": time.Now().UTC().Truncate(time.Second)}
	for i, s := range h.sections {
		all[s.Name()] = answers[i]
	}
	return all
}

// guarded is a section that is asked once at a time, in bounded time.
type guarded struct {
	Section
	busy atomic.Bool
}

func (g *guarded) ask(ctx context.Context) any {
	if !g.busy.CompareAndSwap(false, true) {
		return trouble{"it is still at work on an answer to somebody else"}
	}
	answer := make(chan any, 1)
	go func() {
		defer g.busy.Store(false)
		answer <- g.recovered(ctx)
	}()
	select {
	case a := <-answer:
		return a
	case <-ctx.Done():
		return trouble{"no answer in time"}
	}
}

func (g *guarded) recovered(ctx context.Context) (answer any) {
	defer func() {
		if v := recover(); v != nil {
			answer = trouble{fmt.Sprintf("it panicked: %v", v)}
		}
	}()
	return g.Status(ctx)
}
