// Package api is the frame of the tenant API: which tenant a request is for, who asks, what that person may do, how bodies are read,
// how errors are answered, and the OpenAPI document of it all. Operations are registered by the packages that own them.
package api

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/caly-dev/caly/dataplane/problem"
)

// API answers the tenant API's requests. It is immutable once it serves.
type API struct {
	o        Options
	huma     huma.API
	mux      *http.ServeMux
	raw      []rawRoute
	from     map[string]bool // what may name a tenant
	inFlight atomic.Int64
	m        *metrics
	document func() asset // made at the first request, when all operations are there
	page     func() asset
}

// New makes an API without operations.
func New(o Options) *API {
	o = o.withDefaults()
	a := &API{o: o, mux: http.NewServeMux(), from: map[string]bool{}, m: newMetrics(o.Metrics)}
	for _, from := range o.TenantFrom {
		a.from[from] = true
	}
	a.huma = huma.NewAPI(a.config(), humago.NewAdapter(a.mux, ""))
	a.document, a.page = sync.OnceValue(a.documentAsset), sync.OnceValue(a.pageAsset)
	a.mux.HandleFunc("GET "+documentPath, func(w http.ResponseWriter, r *http.Request) { a.document().serve(w, r) })
	a.mux.HandleFunc("GET "+pagePath, a.servePage)
	a.registerTestRoutes()
	return a
}

// rawRoute is a handler beside the operations.
type rawRoute struct {
	prefix  string
	handler http.Handler
}

// Handle gives a path, or all that is below one that ends in a slash, to a handler of its own: webhooks, keys, monitoring. It sees
// requests as they came.
func (a *API) Handle(path string, h http.Handler) { a.raw = append(a.raw, rawRoute{path, h}) }

// ServeHTTP answers. It never redirects.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := a.beside(r); h != nil {
		h.ServeHTTP(w, r)
		return
	}
	if a.inFlight.Add(1) > int64(a.o.MaxInFlight) {
		a.inFlight.Add(-1)
		a.m.fail(problem.Unavailable)
		problem.Unread(w, r)
		problem.New(problem.Unavailable, "there is more to do than can be done now; send this again").WithRetryAfter(time.Second).
			Write(w, w.Header().Get(requestIDHeader))
		return
	}
	defer a.inFlight.Add(-1)
	a.serve(w, r)
}

func (a *API) beside(r *http.Request) http.Handler {
	for _, route := range a.raw {
		if below(r.URL.Path, route.prefix) {
			r.Pattern = route.prefix
			return route.handler
		}
	}
	return nil
}
