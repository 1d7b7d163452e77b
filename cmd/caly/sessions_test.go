package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// streams of two tenants on a pod that is at work.
func (a *accounts) streams() (acme, acme2, globex *registry.Live) {
	a.t.Helper()
	snapshot := tenantconfig.NewSnapshot(
		&tenantconfig.Tenant{ID: "acme/support"}, &tenantconfig.Tenant{ID: "globex/sales"},
	)
	pod := registry.New(registry.Options{
		Store:          a.Dataplane,
		Pod:            "pod-1",
		HeartbeatEvery: 50 * time.Millisecond,
		Tenants:        func() *tenantconfig.Snapshot { return snapshot },
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = pod.Run(ctx) })
	a.t.Cleanup(func() { cancel(); running.Wait() })
	admit := func(tenant, call string) *registry.Live {
		t, _ := snapshot.Tenant(tenant)
		live, err := pod.Admit(a.t.Context(), t, 10, registry.Stream{CallSID: call, Agent: "bot.example"})
		if err != nil {
			a.t.Fatal(err)
		}
		context.AfterFunc(live.Context(), func() { live.End(context.Background(), nil) })
		return live
	}
	return admit("acme/support", "call-1"), admit("acme/support", "call-2"), admit("globex/sales", "call-3")
}

func TestSessionsList(t *testing.T) {
	accounts := newAccounts(t)
	if result := execute(t, "sessions", "list", "-ojson"); result.err != nil ||
		strings.Join(strings.Fields(result.out), "") != `{"sessions":[]}` {
		t.Errorf("without any: %q, %v", result.out, result.err)
	}
	first, second, theirs := accounts.streams()
	for name, tc := range map[string]struct {
		args      []string
		want      []*registry.Live
		wantNever []*registry.Live
		wantErrs  string
	}{
		"of all": {nil, []*registry.Live{first, second, theirs}, nil, ""},
		"of a tenant": {
			[]string{"--tenant=acme/support"},
			[]*registry.Live{first, second},
			[]*registry.Live{theirs},
			"",
		},
		"some": {
			[]string{"--limit=1"},
			[]*registry.Live{first},
			[]*registry.Live{second, theirs},
			"there are more: raise --limit, or give --tenant\n",
		},
		"of nobody": {[]string{"--tenant=no/body"}, nil, []*registry.Live{first, second, theirs}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			result := execute(t, append([]string{"sessions", "list"}, tc.args...)...)
			if result.err != nil || result.errs != tc.wantErrs || !strings.HasPrefix(result.out, "TENANT") ||
				strings.Count(result.out, "bot.example") != len(tc.want) {
				t.Errorf("%q, %q, %v", result.out, result.errs, result.err)
			}
			for _, l := range tc.want {
				if !strings.Contains(result.out, l.ID()) {
					t.Errorf("%s is not in %q", l.ID(), result.out)
				}
			}
			for _, l := range tc.wantNever {
				if strings.Contains(result.out, l.ID()) {
					t.Errorf("%s is in %q", l.ID(), result.out)
				}
			}
		})
	}
	var out struct {
		Sessions []streamView `json:"sessions"`
		More     bool         `json:"more"`
	}
	result := execute(t, "sessions", "list", "--output=json", "--limit=2")
	if err := json.Unmarshal([]byte(result.out), &out); err != nil || len(out.Sessions) != 2 || !out.More {
		t.Fatalf("%q, %v", result.out, err)
	}
	if v := out.Sessions[0]; v.ID != first.ID() || v.Tenant != "acme/support" || v.CallSID != "call-1" ||
		v.Pod != "pod-1" ||
		v.Agent != "bot.example" ||
		time.Since(v.StartedAt).Abs() > time.Minute ||
		v.Closing {
		t.Errorf("%+v", v)
	}
	first.Measured(func() (toAgent, toExotel bridge.Counts) {
		return bridge.Counts{Frames: 11, Bytes: 12, Dropped: 13}, bridge.Counts{Frames: 14, Bytes: 15, Dropped: 16}
	})
	eventually.Holds(t, "the heartbeat has written the counts", func() bool {
		return accounts.count(
			`SELECT count(*)::int FROM stream_sessions WHERE id = $1 AND dropped_to_exotel = 16`, first.ID(),
		) == 1
	})
	result = execute(t, "sessions", "list", "--output=json", "--limit=1")
	if err := json.Unmarshal(
		[]byte(result.out), &out,
	); err != nil || out.Sessions[0].ToAgent != (countsView{11, 12, 13}) ||
		out.Sessions[0].ToExotel != (countsView{14, 15, 16}) {
		t.Errorf("%q, %v", result.out, err)
	}
	if result := execute(t, "sessions", "list", "--limit=1"); !slices.Equal(
		[]string{"11", "14", "29", "false", first.ID()}, lastFields(result.out, 5),
	) {
		t.Errorf("the table is %q", result.out)
	}
}

// lastFields are those of a text.
func lastFields(text string, n int) []string {
	fields := strings.Fields(text)
	return fields[max(len(fields)-n, 0):]
}

// ended tells whether a session has ended for the reason.
func (a *accounts) ended(l *registry.Live, reason string) bool {
	return a.count(`SELECT count(*)::int FROM stream_sessions WHERE id = $1 AND end_reason = $2`, l.ID(), reason) == 1
}

// waitEnd waits until a stream that a person closed has ended.
func (a *accounts) waitEnd(l *registry.Live) {
	a.t.Helper()
	eventually.Within(15*time.Second).Holds(a.t, "the stream "+l.ID()+" is closed", func() bool {
		return a.ended(l, string(bridge.Closed))
	})
}

// TestSessionsClose verifies that the pod closes the requested streams and no others, and that the audit log has a row
// of each request.
func TestSessionsClose(t *testing.T) {
	accounts := newAccounts(t)
	first, second, theirs := accounts.streams()
	unknown := store.NewID()
	checkFailure(
		t,
		execute(t, "sessions", "close", "--tenant=globex/sales", first.ID()),
		"no live stream has the id "+first.ID(),
	)
	result := execute(t, "sessions", "close", unknown, first.ID())
	checkFailure(t, result, "no live stream has the id "+unknown)
	if result.out != "the stream "+first.ID()+" of acme/support will be closed\n" {
		t.Errorf("it says %q", result.out)
	}
	accounts.waitEnd(first)
	if second.Context().Err() != nil || theirs.Context().Err() != nil {
		t.Error("others were closed too")
	}
	checkFailure(t, execute(t, "sessions", "close", first.ID()), "no live stream has the id")
	if result := execute(t, "sessions", "close", "--tenant=acme/support", "--all"); result.err != nil ||
		result.out != "1 streams of acme/support will be closed\n" {
		t.Errorf("%q, %v", result.out, result.err)
	}
	accounts.waitEnd(second)
	if result := execute(t, "sessions", "close", "--tenant=acme/support", "--all"); result.err != nil ||
		result.out != "0 streams of acme/support will be closed\n" {
		t.Errorf("%q, %v", result.out, result.err)
	}
	if theirs.Context().Err() != nil {
		t.Error("another tenant's was closed too")
	}
	if n := accounts.count(
		`SELECT count(*)::int FROM audit_log WHERE tenant = 'acme/support' AND actor_id IS NULL AND outcome = 'success' AND
		(action = 'stream_closed' AND reason = 'stream ' || $1 OR action = 'streams_closed'
			AND reason = 'live streams: 1')`,
		first.ID(),
	); n != 2 {
		t.Errorf("%d rows of the audit log tell of it, want 2", n)
	}
	if n := accounts.count(`SELECT count(*)::int FROM audit_log WHERE action LIKE 'stream%'`); n != 2 {
		t.Errorf("%d rows of the audit log tell of streams, want 2", n)
	}
}

// TestSessionsUsage checks that wrong arguments are refused before the command connects to a database.
func TestSessionsUsage(t *testing.T) {
	id := store.NewID()
	for name, tc := range map[string]struct {
		args []string
		says string
	}{
		"no ids":              {[]string{"close"}, "give the ids of streams"},
		"no ids of a tenant":  {[]string{"close", "--tenant=a/b"}, "--tenant and --all"},
		"all of nobody":       {[]string{"close", "--all"}, "--all needs --tenant"},
		"all and some":        {[]string{"close", "--all", "--tenant=a/b", id}, "not both"},
		"no id":               {[]string{"close", id, "topless"}, `"topless" is not a stream id`},
		"no tenant's id":      {[]string{"close", "--tenant=acme", id}, "acme"},
		"list: an output":     {[]string{"list", "-o", "yaml"}, "yaml"},
		"list: no limit":      {[]string{"list", "--limit=0"}, "--limit must be between 1 and 10000"},
		"list: over it":       {[]string{"list", "--limit=10001"}, "--limit must be between 1 and 10000"},
		"list: no tenant":     {[]string{"list", "--tenant=x"}, "x"},
		"list: with a stream": {[]string{"list", id}, id},
		"no database":         {[]string{"list"}, "no database URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CALY_DATABASE_URL", "")
			checkFailure(t, execute(t, append([]string{"sessions"}, tc.args...)...), tc.says)
		})
	}
}
