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
		if id, ok := single(r.Header, requestIDHeader); ok && validRequestID(id) {
			return id
		}
		if parent, ok := single(r.Header, "Traceparent"); ok {
			if id := traceID(parent); id != "" {
				return id
			}
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

// single returns the value of a header that stands in the request once.
func single(header http.Header, name string) (string, bool) {
	values := header.Values(name)
	if len(values) != 1 {
		return "", false
	}
	return values[0], true
}

// validRequestID reports whether an id is visible ASCII and not too long. An id that is cut or changed would not be
// the one in the proxy's log, so that another one is as good.
func validRequestID(id string) bool {
	return id != "" && len(id) <= maxRequestID &&
		!strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' })
}

// traceID returns the trace id of a traceparent of W3C Trace Context: version, trace id, parent id and flags, in hex.
// It returns the empty string for a value that is not valid.
func traceID(parent string) string {
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if len(parent) < length {
		return ""
	}
	version := parent[:2]
	parts := strings.Split(parent[:length], "-")
	if len(parts) != 4 || version == "ff" || (len(parent) > length && (version == "00" || parent[length] != '-')) {
		return ""
	}
	for i, size := range []int{2, 32, 16, 2} {
		if len(parts[i]) != size || strings.Trim(parts[i], "0123456789abcdef") != "" {
			return ""
		}
	}
	if strings.Trim(parts[1], "0") == "" || strings.Trim(parts[2], "0") == "" {
		return ""
	}
	return parts[1]
}
