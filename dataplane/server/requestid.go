package server

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/netip"
	"strings"

	"github.com/caly-dev/caly/dataplane/verify"
)

// requestIDHeader carries the id of a request, in requests of trusted proxies and in every answer.
const requestIDHeader = "X-Request-Id"

// maxRequestID bounds the id that a proxy chooses, in bytes.
const maxRequestID = 128

// requestID returns the id that a trusted proxy gave the request: its X-Request-Id or else the trace id of its
// traceparent. Every other request gets a new one: a stranger who could choose the id could make the log lines of
// several requests look like one.
func requestID(r *http.Request, trusted []netip.Prefix) string {
	if verify.FromTrusted(r, trusted) {
		if id, ok := verify.Single(r.Header, requestIDHeader); ok && validRequestID(id) {
			return id
		}
		if parent := verify.Parent(r, trusted); parent.IsValid() {
			return parent.TraceID().String()
		}
	}
	return newRequestID()
}

// newRequestID returns a random id.
func newRequestID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// validRequestID reports whether an id is visible ASCII and not too long. An id that is cut or changed would not be
// the one in the proxy's log, so that another one is as good.
func validRequestID(id string) bool {
	return id != "" && len(id) <= maxRequestID &&
		!strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' })
}
