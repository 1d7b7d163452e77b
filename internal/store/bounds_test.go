package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
)

// TestBoundedSID checks that any text of a peer becomes one that the column takes.
func TestBoundedSID(t *testing.T) {
	for name, tc := range map[string]struct{ sent, want string }{
		"empty":             {"", ""},
		"usual":             {"a81bc81b-dead-4e5d-abff-90865d1e13b1", "a81bc81b-dead-4e5d-abff-90865d1e13b1"},
		"zero byte":         {"a\x00b", "ab"},
		"invalid UTF-8":     {"a\xffb", "a\uFFFDb"},
		"as long as may be": {strings.Repeat("ä", 128), strings.Repeat("ä", 128)},
		"too long":          {strings.Repeat("ä", 129), strings.Repeat("ä", 128)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := store.BoundedSID(tc.sent); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// TestPresence checks the words of a leg's presence.
func TestPresence(t *testing.T) {
	got := []string{store.Presence(0).String(), store.PresenceBusy.String(), store.PresenceFree.String()}
	if diff := cmp.Diff([]string{"", "busy", "free"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPartialEvents counts the events of each tenant that lack a field, up to a limit and since a time.
func TestPartialEvents(t *testing.T) {
	fixture := newFixture(t)
	for i, tenant := range []string{acme, acme, acme, globex} {
		event := newEvent(tenant, "c1", string(rune('a'+i)), store.CallState(1), "")
		event.Unread = []store.Unread{{Field: "Duration", Reason: "malformed"}}
		fixture.ingest(t, event)
	}
	fixture.ingest(t, newEvent(acme, "c2", "whole", store.CallState(1), ""))
	fixture.Exec(
		t,
		`UPDATE call_events SET received_at = now() - interval '2 hours' WHERE tenant = $1 AND event_type = 'a'`,
		acme,
	)
	for name, tc := range map[string]struct {
		since time.Duration
		limit int
		want  map[string]int
	}{
		"last hour": {time.Hour, 10, map[string]int{acme: 2, globex: 1, "nobody/here": 0}},
		"all":       {24 * time.Hour, 10, map[string]int{acme: 3, globex: 1, "nobody/here": 0}},
		"limit":     {24 * time.Hour, 1, map[string]int{acme: 1, globex: 1, "nobody/here": 0}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := fixture.Operator.PartialEvents(
				t.Context(), []string{acme, globex, "nobody/here"}, time.Now().Add(-tc.since), tc.limit,
			)
			if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// TestReplaceTenant removes the rows of a deleted Tenant for a new one of the same name, if they are still its
// predecessor's.
func TestReplaceTenant(t *testing.T) {
	fixture := newFixture(t)
	owner := func(uid string) string {
		t.Helper()
		got, err := fixture.Operator.ClaimTenant(t.Context(), acme, uid, true)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := owner("first"); got != "first" {
		t.Fatalf("the owner is %q", got)
	}
	fixture.ingest(t, newEvent(acme, "c1", "x", store.CallState(1), ""))
	if err := fixture.Operator.ReplaceTenant(t.Context(), acme, "another", "second"); !errors.Is(
		err, store.ErrNotFound,
	) {
		t.Errorf("of another predecessor: %v, want ErrNotFound", err)
	}
	if n := fixture.Number(t, `SELECT count(*)::int FROM calls WHERE tenant = $1`, acme); n != 1 {
		t.Errorf("%d calls are left after a replacement that failed, want 1", n)
	}
	if err := fixture.Operator.ReplaceTenant(t.Context(), acme, "first", "second"); err != nil {
		t.Fatal(err)
	}
	if n := fixture.Number(t, `SELECT count(*)::int FROM calls WHERE tenant = $1`, acme); n != 0 {
		t.Errorf("%d calls of the predecessor are left", n)
	}
	if got := owner("second"); got != "second" {
		t.Errorf("the owner is %q, want second", got)
	}
}
