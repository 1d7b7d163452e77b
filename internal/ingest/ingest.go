// Package ingest turns what Exotel says, in a webhook, in an answer of Call Details or in an event that is applied
// again, into what the store applies: one way for all of them.
package ingest

import (
	"time"

	"github.com/caly-dev/caly/internal/exotel"
)

// Sources of events.
const (
	SourceWebhook  = "webhook"
	SourceBackfill = "backfill"
)

// Delivery is one event as it came in.
type Delivery struct {
	// Kind is exotel.KindStatus, exotel.KindPassthru or exotel.KindLeg.
	Kind string
	// Source is SourceWebhook or SourceBackfill.
	Source string
	// Fields is the part of the request that may be believed; nothing else of it is read.
	Fields exotel.Request
	// ContentType, Raw and Query (its secrets redacted) are the request as received, to be kept.
	ContentType, Query string
	Raw                []byte
	// Whole is true if the events of a list must not be separated: they may be of other tenants.
	Whole bool
	// SignedDigest is a SHA-256 of the bytes that a signature covers, or of their id; nil if nothing is signed. A
	// tenant has one event of each, whatever kind the request came as.
	SignedDigest []byte
	// ReceivedAt is when it came.
	ReceivedAt time.Time
}
