package server

import (
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/caly-dev/caly/dataplane/problem"
)

// Middleware gives every request an id, or keeps that of a trusted proxy, logs the request without its path and query
// (which may hold secrets) but with the pattern that the handler sets, and turns a panic into a 500.
func Middleware(next http.Handler, log *slog.Logger, trusted ...netip.Prefix) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := requestID(r, trusted)
		start := time.Now()
		w.Header().Set(requestIDHeader, id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		rec := &recorder{ResponseWriter: w}
		defer func() {
			v := recover()
			if v != nil && v != http.ErrAbortHandler { //nolint:errorlint // a panic's value, as net/http compares it
				log.Error("a handler panicked", "request", id, "panic", v, "stack", string(debug.Stack()))
				if rec.status == 0 {
					problem.New(problem.Internal, "internal error; it is safe to retry").Write(rec, id)
					v = nil
				}
			}
			log.Debug("request",
				"request", id,
				"method", r.Method,
				"route", r.Pattern,
				"status", rec.status,
				"took", time.Since(start),
			)
			if v != nil {
				panic(http.ErrAbortHandler) // cuts the connection: half an answer must not look like a whole one
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the status on its way.
func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Write notes the status that net/http writes by itself.
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
