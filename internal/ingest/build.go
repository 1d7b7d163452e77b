package ingest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Bounds of columns, in bytes.
const (
	maxContentType = 256
	maxQuery       = 16 << 10
	maxWord        = 64 // a type, a status, an id
	maxNumber      = 128
	maxLegKey      = 256
	maxText        = 512
	maxURL         = 2048
)

const (
	// maxPark bounds how long a recording waits for the time from which it is said to be there: one in the wrong zone
	// must not park it.
	maxPark = 2 * time.Hour
	// maxAhead is how far an event's time may lie ahead: clocks go wrong, and zones are taken for others.
	maxAhead = 24 * time.Hour
	// maxCall is how long a call may last, where its beginning is the only time that an event tells.
	maxCall = 24 * time.Hour
	// unknownCall stands for the id of a call or stream that could not be read.
	unknownCall = store.UnreadCall
)

// BuildAll makes the events of a verified delivery: one, or those of a list. Each event of a list has its own part of
// the body, so that what is stored for a call is of this call alone. A list that cannot be separated is one dead event.
func BuildAll(t *tenantconfig.Tenant, sources recording.SourcePolicy, d Delivery) []store.Event {
	parts := exotel.Events(d.Fields)
	if parts == nil || d.Whole {
		return []store.Event{Build(t, sources, d)}
	}
	events := make([]store.Event, len(parts))
	for i, part := range parts {
		of := d
		of.Fields = part
		of.ContentType = part.ContentType
		of.Raw = part.Body
		if d.SignedDigest != nil { // one digest covers them all
			digest := sha256.Sum256(append(bytes.Clone(d.SignedDigest), part.Body...))
			of.SignedDigest = digest[:]
		}
		events[i] = Build(t, sources, of)
	}
	return events
}

// Build makes an event of a verified delivery. One that names no call becomes a dead event with its reason. A field
// that cannot be read, and a recording that the tenant does not allow, is left out and noted.
func Build(t *tenantconfig.Tenant, sources recording.SourcePolicy, d Delivery) store.Event {
	event := store.Event{
		Tenant:      t.ID,
		Kind:        d.Kind,
		Source:      d.Source,
		ContentType: bound(d.ContentType, maxContentType),
		Raw:         d.Raw,
		Query:       bound(d.Query, maxQuery),
		CoversQuery: d.Fields.RawQuery != "",
		CoversBody:  len(d.Fields.Body) > 0,
	}
	parsed, err := exotel.ParseEvent(d.Kind, d.Fields, location(t.TimeZone))
	if err != nil {
		return unreadable(event, d, err)
	}
	event.CallSID = parsed.CallSID
	event.EventType = bound(parsed.EventType, maxWord)
	if d.SignedDigest != nil {
		event.DedupKey = signedKey(t.ID, d.SignedDigest)
	} else {
		event.DedupKey = parsed.DedupKey(t.ID)
	}
	addUnread(&event, parsed.Unread)
	event.Call = store.Call{
		Direction:           parsed.Direction,
		From:                fit(&event, "From", parsed.From, maxNumber),
		To:                  fit(&event, "To", parsed.To, maxNumber),
		StartedAt:           parsed.StartedAt,
		EndedAt:             parsed.EndedAt,
		ConversationSeconds: parsed.ConversationSeconds,
		CustomField:         fit(&event, "CustomField", parsed.CustomField, maxText),
		RecordingSeconds:    parsed.RecordingSeconds,
	}
	addFacts(&event, parsed)
	event.Stream = stream(parsed.Stream)
	addRecordings(&event, t, sources, notAfter(parsed.AvailableAt, d.ReceivedAt.Add(maxPark)), parsed.RecordingURLs...)
	if !fresh(t.Freshness, parsed.At, d.ReceivedAt) || parsed.At.IsZero() && !begunLately(t.Freshness, parsed.Begun(),
		d.ReceivedAt) {
		event.DeadReason = reason.DeadStale
	}
	return event
}

// unreadable makes a dead event of one that names no call, under a key of all that was believed of it. A newer reader
// may find a call in it.
func unreadable(e store.Event, d Delivery, err error) store.Event {
	e.DeadReason = reason.DeadMissingCallSID
	e.CallSID = unknownCall
	var refused *exotel.ParseError
	if errors.As(err, &refused) {
		e.DeadReason = refused.Code
	}
	if d.SignedDigest != nil {
		e.DedupKey = signedKey(e.Tenant, d.SignedDigest)
		return e
	}
	e.DedupKey = sha256.Sum256(append([]byte(e.Tenant+"\x00"+e.Kind+"\x00"+d.Fields.RawQuery+"\x00"), d.Fields.Body...))
	return e
}

// signedKey is the dedup key of signed bytes. The kind is not part of it: a replay under another path is not a new
// event.
func signedKey(tenant string, digest []byte) [32]byte {
	return sha256.Sum256(append([]byte(tenant+"\x00signed\x00"), digest...))
}

func stream(s *exotel.Stream) *store.Stream {
	if s == nil {
		return nil
	}
	sid := bound(s.SID, maxWord)
	if sid == "" {
		sid = unknownCall // a stream that was never made has none, and its error is what people look for
	}
	return &store.Stream{
		SID:            sid,
		Status:         bound(s.Status, maxWord),
		DisconnectedBy: bound(s.DisconnectedBy, maxWord),
		Error:          bound(s.Error, maxText),
		DetailedStatus: bound(s.DetailedStatus, maxText),
		RecordingURL:   bound(s.RecordingURL, maxURL),
		Seconds:        s.Seconds,
	}
}

// fresh tells whether an event's own time is within the window. An event that tells no time, and a tenant without a
// window, pass.
func fresh(window time.Duration, at, received time.Time) bool {
	if window <= 0 || at.IsZero() {
		return true
	}
	return !at.Before(received.Add(-window)) && !at.After(received.Add(maxAhead))
}

// begunLately stands in for fresh where an event tells only when its call began: a call may last for a day.
func begunLately(window time.Duration, begun, received time.Time) bool {
	if window <= 0 {
		return true
	}
	return fresh(window+maxCall, begun, received)
}

func notAfter(t, limit time.Time) time.Time {
	if t.After(limit) {
		return limit
	}
	return t
}

// zones are those that tenants name; reading one from the database takes longer than all else that is done for an
// event. They are as many as the database has, since no other name is kept.
var zones sync.Map // string -> *time.Location

// location falls back to IST, which has no daylight saving, where the zone is unknown to this machine.
func location(name string) *time.Location {
	if known, ok := zones.Load(name); ok {
		return known.(*time.Location) //nolint:forcetypeassert // nothing else is kept
	}
	loc, err := time.LoadLocation(name)
	if err != nil || name == "" {
		return time.FixedZone("IST", 5*3600+1800)
	}
	zones.Store(name, loc)
	return loc
}

// bound makes a sender's text fit for a column: at most n bytes of valid UTF-8 without NUL.
func bound(s string, n int) string {
	s = strings.ReplaceAll(s[:min(len(s), n)], "\x00", "")
	return strings.ToValidUTF8(s, "")
}
