package objectstore

import (
	"crypto/tls"
	"net/http"
	"time"
)

// SetTLS sets how a transport speaks TLS.
func (t *Transport) SetTLS(c *tls.Config) { t.http.TLSClientConfig = c }

// SetBeginAgainAfter sets the time between two requests that begin an upload in parts.
func SetBeginAgainAfter(d time.Duration) { beginAgainAfter = d }

// SetPatience sets how long an answer may take, and how long an object may bring no byte.
func (t *Transport) SetPatience(within, stall time.Duration) {
	t.answers = answers{next: t.http, within: within, stall: stall}
}

// HTTP returns the transport behind the bounds.
func (t *Transport) HTTP() *http.Transport { return t.http }

// CountTags reports whether an answer that arrives in pieces is within the bounds, with its numbers of records and
// tags.
func CountTags(pieces ...[]byte) (ok bool, records, tags int) {
	var c tagCounter
	ok = true
	for _, p := range pieces {
		if ok {
			ok = c.count(p)
		}
	}
	return ok, c.records, c.tags
}

// Bounds of answers.
const (
	MaxRecords = maxRecords
	MaxAnswer  = maxAnswer
)

// ReadAssumed reads the answer of an STS.
var ReadAssumed = readAssumed
