package ingest

import (
	"errors"
	"strings"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/exotel/calldetails"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

const malformedQuery = "malformed_query" // of an exotel.ParseError

// Again makes the event that a kept one is by what the tenant says now. It was verified when it came, and whoever applies it again
// has looked at it, so its age does not count. What cannot be read still is dead, with its reason.
func Again(t *tenantconfig.Tenant, sources tenantconfig.SourcePolicy, k store.KeptEvent) (store.Event, error) {
	if k.Source == SourceBackfill {
		call, err := calldetails.Decode(k.Raw, location(t.TimeZone))
		if err != nil {
			return store.Event{}, err
		}
		return FromCall(t, sources, &call, k.Raw)
	}
	if k.CoversQuery && (k.Reason == malformedQuery || len(k.Query) >= maxQuery) {
		return store.Event{Tenant: k.Tenant, DeadReason: k.Reason}, nil // not all of the query was kept
	}
	ageless := *t
	ageless.Freshness = 0
	e, err := Build(&ageless, sources, Delivery{Kind: k.Kind, Source: k.Source, Fields: believed(k), ContentType: k.ContentType,
		Query: k.Query, Raw: k.Raw, ReceivedAt: k.ReceivedAt})
	var refused *exotel.ParseError
	if errors.As(err, &refused) {
		return store.Event{Tenant: k.Tenant, DeadReason: refused.Code}, nil
	}
	return e, err
}

// believed is the part of the kept request that its verifier covered, without what was redacted.
func believed(k store.KeptEvent) (r exotel.Request) {
	if k.CoversQuery {
		var pairs []string
		for pair := range strings.SplitSeq(k.Query, "&") {
			if !strings.HasSuffix(pair, "=redacted") {
				pairs = append(pairs, pair)
			}
		}
		r.RawQuery = strings.Join(pairs, "&")
	}
	if k.CoversBody {
		r.ContentType, r.Body = k.ContentType, k.Raw
	}
	return r
}
