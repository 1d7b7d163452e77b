package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
)

// streamID is of the nth stream that insertStream makes.
func streamID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// insertStream makes a row of a stream; one without a reason is live.
func (f *fixture) insertStream(t *testing.T, tenant, id, sid string, at time.Time, reason string) {
	t.Helper()
	f.Exec(
		t,
		`INSERT INTO stream_sessions (tenant, id, call_sid, pod, agent, started_at, last_seen_at, end_reason, ended_at)
		VALUES ($1, $2, $3, 'pod', 'bot.example', $4, $4, $5, CASE WHEN $5 <> '' THEN $4::timestamptz + interval '1 minute' END)`,
		tenant,
		id,
		sid,
		at,
		reason,
	)
}

func streamIDs(list []store.StreamSession) (ids []string) {
	for _, s := range list {
		ids = append(ids, s.ID)
	}
	return ids
}

// TestStreamSessions verifies which streams each filter selects, newest first.
func TestStreamSessions(t *testing.T) {
	fixture := newFixture(t)
	fixture.insertStream(t, acme, streamID(0), "c0", listed(0), "")
	fixture.insertStream(t, acme, streamID(1), "c1", listed(1), "call_ended")
	fixture.insertStream(t, acme, streamID(2), "c1", listed(2), "")
	fixture.insertStream(t, acme, streamID(3), "", listed(2), reason.StreamOrphaned)
	fixture.insertStream(t, globex, streamID(4), "c1", listed(1), "")
	fixture.Exec(t, `UPDATE stream_sessions SET close_requested_at = now() WHERE id = $1`, streamID(2))
	ids := func(n ...int) (list []string) {
		for _, n := range n {
			list = append(list, streamID(n))
		}
		return list
	}
	for name, tc := range map[string]struct {
		tenant string
		f      store.StreamFilter
		want   []string
		more   bool
	}{
		"all":            {acme, store.StreamFilter{}, ids(0, 1, 3, 2), false},
		"live":           {acme, store.StreamFilter{Live: true}, ids(0, 2), false},
		"of a call":      {acme, store.StreamFilter{CallSID: "c1"}, ids(1, 2), false},
		"live of a call": {acme, store.StreamFilter{CallSID: "c1", Live: true}, ids(2), false},
		"of no call":     {acme, store.StreamFilter{CallSID: "c2"}, nil, false},
		"since":          {acme, store.StreamFilter{Page: store.Page{Since: listed(1)}}, ids(0, 1), false},
		"until":          {acme, store.StreamFilter{Page: store.Page{Until: listed(1)}}, ids(3, 2), false},
		"a page":         {acme, store.StreamFilter{Page: store.Page{Limit: 3}}, ids(0, 1, 3), true},
		"the next": {acme, store.StreamFilter{Page: store.Page{
			Limit: 3,
			After: store.Position{At: listed(2), ID: streamID(3)},
		}}, ids(2), false},
		"behind the last": {acme, store.StreamFilter{Page: store.Page{After: store.Position{
			At: listed(2),
			ID: streamID(2),
		}}}, nil, false},
		"another tenant's":    {globex, store.StreamFilter{}, ids(4), false},
		"of nobody":           {"no/body", store.StreamFilter{}, nil, false},
		"a call with a quote": {acme, store.StreamFilter{CallSID: "' OR true--"}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			list, more, err := fixture.Dataplane.StreamSessions(t.Context(), tc.tenant, tc.f)
			if diff := cmp.Diff(tc.want, streamIDs(list)); diff != "" || more != tc.more || err != nil {
				t.Errorf("more %v, %v (-want +got):\n%s", more, err, diff)
			}
		})
	}
	if list, _, err := fixture.Dataplane.StreamSessions(
		t.Context(), acme+","+globex, store.StreamFilter{},
	); err == nil ||
		list != nil {
		t.Errorf("of two tenants at once: %v, %v", list, err)
	}
}

// TestStreamByID reads live, ended and unknown streams with all their fields.
func TestStreamByID(t *testing.T) {
	fixture := newFixture(t)
	ref := fixture.admit(t, acme, "pod")
	toAgent := store.StreamCounts{Frames: 1, Bytes: 2, Dropped: 3}
	toExotel := store.StreamCounts{Frames: 4, Bytes: 5, Dropped: 6}
	read := func() store.StreamSession {
		t.Helper()
		streamSession, err := fixture.Dataplane.StreamByID(t.Context(), acme, ref.ID)
		if err != nil || time.Since(streamSession.StartedAt).Abs() > time.Minute ||
			streamSession.LastSeenAt.Before(streamSession.StartedAt) {
			t.Fatalf("%+v, %v", streamSession, err)
		}
		streamSession.StartedAt = time.Time{}
		streamSession.LastSeenAt = time.Time{}
		return streamSession
	}
	want := store.StreamSession{StreamRef: ref, CallSID: "c", Pod: "pod", Agent: "bot.example"}
	if diff := cmp.Diff(want, read()); diff != "" {
		t.Errorf("new (-want +got):\n%s", diff)
	}
	beat := store.StreamBeat{StreamRef: ref, CallSID: "told", StreamSID: "s", ToAgent: toAgent, ToExotel: toExotel}
	if _, err := fixture.Dataplane.HeartbeatStreams(t.Context(), []store.StreamBeat{beat}); err != nil {
		t.Fatal(err)
	}
	fixture.Exec(t, `UPDATE stream_sessions SET close_requested_at = now()`)
	want.CallSID = "told"
	want.StreamSID = "s"
	want.ToAgent = toAgent
	want.ToExotel = toExotel
	want.Closing = true
	if diff := cmp.Diff(want, read()); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
	// The end of a stream whose pod has nothing to tell any more.
	if n, err := fixture.Dataplane.EndStreams(t.Context(), []store.StreamEnd{{
		StreamRef:   ref,
		Reason:      "closed",
		Reconnected: true,
	}}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	got := read()
	if got.EndedAt.IsZero() {
		t.Error("it has no end")
	}
	want.Closing = false
	want.EndedAt = got.EndedAt
	want.EndReason = "closed"
	want.Reconnected = true
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ended (-want +got):\n%s", diff)
	}
	for name, tc := range map[string][2]string{
		"another's":         {globex, ref.ID},
		"unknown":           {acme, store.NewID()},
		"no id":             {acme, "x"},
		"no id at all":      {acme, ""},
		"an id in capitals": {acme, strings.ToUpper(streamID(0)[:35] + "a")},
		"nobody's":          {"no/body", ref.ID},
	} {
		if streamSession, err := fixture.Dataplane.StreamByID(t.Context(), tc[0], tc[1]); !errors.Is(
			err, store.ErrNotFound,
		) {
			t.Errorf("%s: %+v, %v", name, streamSession, err)
		}
	}
}
