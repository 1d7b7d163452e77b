// Package api is the frame of the tenant API: which tenant a request is for, who asks, what that person may do, how bodies are read,
// how errors are answered, and the OpenAPI document of it all. Operations are registered by the packages that own them.
package api

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/caly-dev/caly/dataplane/admission"
	"github.com/caly-dev/caly/dataplane/problem"
)

// tenantShare is the share of the requests in progress that one tenant has at most: a quarter.
const tenantShare = 4

// API answers the tenant API's requests. It is immutable once it serves.
type API struct {
	o        Options
	huma     huma.API
	mux      *http.ServeMux
	raw      []rawRoute
	from     map[string]bool // what may name a tenant
	gate     *admission.Gate
	m        *metrics
	document func() asset // made at the first request, when all operations are there
	page     func() asset
}

// New makes an API without operations.
func New(o Options) *API {
	o = o.withDefaults()
	api := &API{o: o, mux: http.NewServeMux(), from: map[string]bool{}, m: newMetrics(o.Metrics)}
	api.gate = admission.New(admission.Options{Places: o.MaxInFlight, Share: tenantShare})
	if o.Metrics != nil {
		api.gate.Register(o.Metrics, "api")
	}
	for _, from := range o.TenantFrom {
		api.from[from] = true
	}
	api.huma = huma.NewAPI(api.config(), humago.NewAdapter(api.mux, ""))
	api.document = sync.OnceValue(api.documentAsset)
	api.page = sync.OnceValue(api.pageAsset)
	api.mux.HandleFunc("GET "+documentPath, func(w http.ResponseWriter, r *http.Request) { api.document().serve(w, r) })
	api.mux.HandleFunc("GET "+pagePath, api.servePage)
	api.registerTestRoutes()
	return api
}

// rawRoute is a handler for paths that are not operations.
type rawRoute struct {
	prefix  string
	handler http.Handler
}

// Handle gives a path, or all that is below one that ends in a slash, to a handler of its own: webhooks, keys, monitoring. It sees
// requests as they came.
func (a *API) Handle(path string, h http.Handler) { a.raw = append(a.raw, rawRoute{path, h}) }

// ServeHTTP answers. It never redirects.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if handler := a.rawHandler(r); handler != nil {
		handler.ServeHTTP(w, r)
		return
	}
	facts := a.newFacts(w, r)
	place, err := a.gate.Take(w, admission.Address(facts.client))
	if err != nil {
		problem.Unread(w, r)
		a.m.fail(problem.Unavailable)
		overloaded(err).Write(w, facts.requestID)
		return
	}
	defer place.Leave()
	facts.place = place
	a.serve(&answer{ResponseWriter: w, place: place}, r, facts)
}

// overloaded answers a request for which there is no place.
func overloaded(err error) *problem.Problem {
	detail := "the server is busy; retry later"
	if errors.Is(err, admission.ErrShare) {
		detail = "too many requests of this tenant or client are in progress; retry later"
	}
	return problem.New(problem.Unavailable, detail).WithRetryAfter(time.Second)
}

// answer is a response whose place can be taken from a peer that does not read it.
type answer struct {
	http.ResponseWriter
	place   *admission.Place
	started bool
}

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) {
	if !a.started {
		a.started = true
		a.place.Answering()
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *API) rawHandler(r *http.Request) http.Handler {
	for _, route := range a.raw {
		if below(r.URL.Path, route.prefix) {
			r.Pattern = route.prefix
			return route.handler
		}
	}
	return nil
}
