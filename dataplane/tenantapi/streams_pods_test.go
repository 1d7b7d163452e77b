package tenantapi_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/background"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// pod is one that has streams, on a database connection of its own.
func (r *rig) pod(t *testing.T, name string) *registry.Registry {
	t.Helper()
	db, err := store.OpenDataplane(t.Context(), r.db.DataplaneDSN, store.Options{MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	snapshot := tenantconfig.NewSnapshot(r.Tenant, tenantNamed(globex))
	p := registry.New(registry.Options{
		Store:          db,
		Pod:            name,
		Tenants:        func() *tenantconfig.Snapshot { return snapshot },
		HeartbeatEvery: 50 * time.Millisecond,
		LookEvery:      20 * time.Millisecond,
	})
	background.Run(t, p.Run)
	return p
}

// admit lets a stream in that ends as a bridge does when it is cut off, and tells its cut.
func (r *rig) admit(
	t *testing.T, p *registry.Registry, tenant *tenantconfig.Tenant, frames uint64,
) (*registry.Live, <-chan bridge.Cut) {
	t.Helper()
	live, err := p.Admit(t.Context(), tenant, 100, registry.Stream{CallSID: "call", Agent: "bot.example"})
	if err != nil {
		t.Fatal(err)
	}
	live.Measured(func() (toAgent, toExotel bridge.Counts) {
		return bridge.Counts{Frames: frames}, bridge.Counts{Dropped: frames}
	})
	cuts := make(chan bridge.Cut, 1)
	context.AfterFunc(live.Context(), func() {
		var cut *bridge.Cut
		if errors.As(context.Cause(live.Context()), &cut) {
			live.End(context.Background(), &bridge.End{Reason: cut.Reason, ToAgent: bridge.Counts{Frames: frames + 1}})
			cuts <- *cut
		}
	})
	return live, cuts
}

// TestCloseIsHeardByThePodOfTheStream verifies that a close through the API of a third pod reaches the pod of the
// stream. The API also shows the counts of live streams.
func TestCloseIsHeardByThePodOfTheStream(t *testing.T) {
	rig := newRig(t)
	registry := rig.pod(t, "pod-a")
	b := rig.pod(t, "pod-b")
	onA, cutA := rig.admit(t, registry, rig.Tenant, 10)
	onB, cutB := rig.admit(t, b, rig.Tenant, 20)
	theirs, _ := rig.admit(t, b, tenantNamed(globex), 30)
	admin := bearer(acme, "admin")
	var seen items
	eventually.Holds(t, "the counts of both pods are shown", func() bool {
		rig.get(t, "/api/streams?live=true", admin, &seen)
		return cmp.Equal(map[string]any{onA.ID(): 10.0, onB.ID(): 20.0}, framesOf(seen))
	})
	closed := bridge.Cut{Reason: bridge.Closed, Code: websocket.CloseNormalClosure}
	if answer := rig.ask("DELETE", "/api/streams/"+onB.ID(), admin, ""); answer.Status != 202 {
		t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	wait(t, cutB, closed)
	if onA.Context().Err() != nil || theirs.Context().Err() != nil {
		t.Error("others were closed too")
	}
	eventually.Holds(t, "its end is shown", func() bool {
		var got map[string]any
		rig.get(t, "/api/streams/"+onB.ID(), admin, &got)
		counts, _ := got["toAgent"].(map[string]any)
		return got["state"] == "ended" && got["endReason"] == "closed" && counts["frames"] == 21.0
	})
	if answer := rig.ask("DELETE", "/api/streams/"+onB.ID(), admin, ""); answer.Status != 409 {
		t.Errorf("one that has ended: %d %s", answer.Status, answer.Body)
	}
	if answer := rig.ask("POST", "/api/streams/close", admin, ""); answer.Status != 202 {
		t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	wait(t, cutA, closed)
	if theirs.Context().Err() != nil {
		t.Error("another tenant's was closed too")
	}
	theirs.End(t.Context(), nil)
}

// framesOf are the frames to the agents, by stream.
func framesOf(seen items) map[string]any {
	frames := map[string]any{}
	for _, item := range seen.Items {
		counts, _ := item["toAgent"].(map[string]any)
		id, _ := item["id"].(string)
		frames[id] = counts["frames"]
	}
	return frames
}

func wait(t *testing.T, cuts <-chan bridge.Cut, want bridge.Cut) {
	t.Helper()
	select {
	case got := <-cuts:
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the cut (-want +got):\n%s", diff)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nobody heard of it")
	}
}
