package api

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/dataplane/verify"
)

// serve answers requests for operations and for paths that do not exist.
func (a *API) serve(w http.ResponseWriter, r *http.Request, f *facts) {
	inner := r.WithContext(context.WithValue(r.Context(), factsKey{}, f))
	inner.URL, f.naming = a.names(r)
	a.secure(w, r)
	a.allowOrigin(w, r, f.naming.tenant(a.o.Tenants()))
	pattern, p := a.route(w, inner)
	if p != nil {
		problem.Unread(w, r)
		finish(inner.Context(), p).Write(w, f.requestID)
		return
	}
	if pattern == "" {
		return // a preflight, answered
	}
	r.Pattern = pattern // set before the handler runs, so that the log has it even if that panics
	a.mux.ServeHTTP(w, inner)
}

// route returns the pattern that a request goes to, or why it goes nowhere. A ServeMux would answer some with a redirect, and others
// without a problem.
func (a *API) route(w http.ResponseWriter, r *http.Request) (pattern string, p *problem.Problem) {
	if !clean(r.URL) {
		return "", problem.New(problem.NotFound, "the path does not exist")
	}
	if r.Method == http.MethodOptions && r.Header.Get("Origin") != "" &&
		r.Header.Get("Access-Control-Request-Method") != "" {
		return "", a.preflight(w, r)
	}
	if _, pattern = a.mux.Handler(r); pattern != "" {
		return pattern, nil
	}
	allowed := a.allowed(r)
	if allowed == "" {
		return "", problem.New(problem.NotFound, "the path does not exist")
	}
	return "", problem.MethodNotAllowed("the path does not support the method", allowed)
}

// allowed are the methods of a path, for Allow; empty: the path does not exist.
func (a *API) allowed(r *http.Request) string {
	probe := headerOnly{}
	handler, _ := a.mux.Handler(r)
	handler.ServeHTTP(probe, r)
	return http.Header(probe).Get("Allow")
}

// headerOnly is a ResponseWriter that keeps only the header. A ServeMux reports the methods of a path only there.
type headerOnly http.Header

// Header implements http.ResponseWriter.
func (h headerOnly) Header() http.Header { return http.Header(h) }

// Write implements http.ResponseWriter.
func (headerOnly) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader implements http.ResponseWriter.
func (headerOnly) WriteHeader(int) {}

// clean tells whether a path is as a ServeMux wants it; it redirects others.
func clean(u *url.URL) bool {
	p := u.EscapedPath()
	return p == path.Clean("/"+p) || p != "/" && p == path.Clean("/"+p)+"/"
}

// below tells whether a path is the one, or below the one if that ends in a slash.
func below(path, prefix string) bool {
	return path == prefix || strings.HasSuffix(prefix, "/") && strings.HasPrefix(path, prefix)
}

// secure sets the headers that all answers have.
func (a *API) secure(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Add("Vary", "Origin")
	if verify.OutsideURL(r, a.o.TrustedProxies).Scheme == "https" {
		header.Set("Strict-Transport-Security", "max-age=31536000")
	}
}
