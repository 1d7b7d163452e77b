package ingest

import (
	"errors"
	"strings"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/exotel/calldetails"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// errList is why a list of events is not applied again: one row has one event.
var errList = errors.New("the body is a list of events, and one stored event cannot become several; " +
	"have the sender send each event by itself")

// Again makes the event that a stored one is for the reader and the tenant of now. Its age does not count: it was
// verified when it came, and the person who applies it again has looked at it. An event that still names no call is
// dead, with its reason.
func Again(t *tenantconfig.Tenant, sources recording.SourcePolicy, k store.KeptEvent) (store.Event, error) {
	if k.Source == SourceBackfill {
		call, err := calldetails.Decode(k.Raw, location(t.TimeZone))
		if err != nil {
			return store.Event{}, err
		}
		return FromCall(t, sources, &call, k.Raw)
	}
	ageless := *t
	ageless.Freshness = 0
	fields, lost := believed(k)
	if exotel.Events(fields) != nil {
		return store.Event{}, errList
	}
	event := Build(&ageless, sources, Delivery{
		Kind:        k.Kind,
		Source:      k.Source,
		Fields:      fields,
		ContentType: k.ContentType,
		Query:       k.Query,
		Raw:         k.Raw,
		ReceivedAt:  k.ReceivedAt,
	})
	if lost != "" {
		event.Unread = append(event.Unread, store.Unread{Field: "(query)", Reason: lost})
	}
	return event, nil
}

// believed is the part of the stored request that its verifier covered, without what was redacted. It also returns why
// a part of the query was not stored, or "".
func believed(k store.KeptEvent) (r exotel.Request, lost string) {
	if k.CoversQuery {
		r.RawQuery, lost = storedQuery(k)
	}
	if k.CoversBody {
		r.ContentType = k.ContentType
		r.Body = k.Raw
	}
	return r, lost
}

func storedQuery(k store.KeptEvent) (query, lost string) {
	query = k.Query
	switch {
	case len(query) >= maxQuery: // it ends somewhere within a pair
		query = query[:max(strings.LastIndexByte(query, '&'), 0)]
		lost = reason.FieldTooLarge
	case k.Reason == reason.DeadMalformedQuery:
		lost = reason.FieldMalformed
	}
	var pairs []string
	for pair := range strings.SplitSeq(query, "&") {
		if !strings.HasSuffix(pair, "=redacted") {
			pairs = append(pairs, pair)
		}
	}
	return strings.Join(pairs, "&"), lost
}
