package ingest

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// addUnread notes fields that could not be read.
func addUnread(e *store.Event, unread []exotel.Unread) {
	for _, u := range unread {
		e.Unread = append(e.Unread, store.Unread(u))
	}
}

// fit returns a text for a column of n bytes. A longer one is left out and noted: a part of it would be another text.
// One with NUL was noted when it was read.
func fit(e *store.Event, field, s string, n int) string {
	if strings.IndexByte(s, 0) >= 0 {
		return ""
	}
	if len(s) <= n {
		return s
	}
	e.Unread = append(e.Unread, store.Unread{Field: field, Reason: reason.FieldTooLarge})
	return ""
}

// recordingField is the name in Event.Unread of recordings that are rejected.
const recordingField = "RecordingUrl"

// addRecordings queues the recordings that the event names, each once. One that the tenant does not allow is rejected
// with the reason; the event is applied all the same.
func addRecordings(
	e *store.Event, t *tenantconfig.Tenant, sources recording.SourcePolicy, available time.Time, urls ...string,
) {
	sources.Hosts = t.AllowedSourceHosts
	for _, u := range urls {
		if u == "" {
			continue
		}
		found := store.NewRecording{SourceURL: u, AvailableAt: available}
		if err := sources.Validate(u); err != nil {
			found = store.NewRecording{SourceURL: harmless(u), Rejected: err.Error()}
		}
		found.ID = recording.ID(e.CallSID, found.SourceURL)
		known := slices.ContainsFunc(e.Recordings, func(r store.NewRecording) bool { return r.ID == found.ID })
		if known {
			continue
		}
		e.Recordings = append(e.Recordings, found)
		if rejected := (store.Unread{Field: recordingField, Reason: reason.FieldRejected}); found.Rejected != "" &&
			!slices.Contains(e.Unread, rejected) {
			e.Unread = append(e.Unread, rejected)
		}
	}
}

// harmless returns a URL that nothing is fetched from as people may see it: without credentials, its query, and what
// cannot be stored.
func harmless(raw string) string {
	raw = bound(exotel.WithoutQuery(raw), maxURL)
	address, err := url.Parse(raw)
	if err == nil && address.User != nil {
		address.User = nil
		return address.String()
	}
	if scheme, rest, found := strings.Cut(raw, "://"); err != nil && found {
		return scheme + "://" + rest[strings.LastIndexByte(rest, '@')+1:]
	}
	return raw
}
