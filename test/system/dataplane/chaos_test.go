package dataplane

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// chaos is how much of it there is.
type chaos struct {
	events, senders int
	// lasts is for how long events are born.
	lasts time.Duration
	// kills is the least number of kills of the data plane. PostgreSQL is restarted after every few of them.
	kills                 int
	fastAfter, crashAfter int
}

const (
	// chaosPatience bounds the whole run, chaosMemory each data plane: the race detector takes most of that.
	chaosPatience = 200 * time.Second
	chaosMemory   = 1 << 30
)

// TestChaos verifies that each event answered 2xx is stored once and applied while pods are killed and PostgreSQL
// restarts twice. It takes most of a minute. Alone: go test -race -run '^TestChaos$' -v ./test/system/dataplane; -short
// makes it smaller.
func TestChaos(t *testing.T) {
	plan := chaos{events: 20_000, senders: 64, lasts: 30 * time.Second, kills: 12, fastAfter: 3, crashAfter: 7}
	if testing.Short() {
		plan = chaos{events: 2_000, senders: 64, lasts: 8 * time.Second, kills: 3, fastAfter: 1, crashAfter: 2}
	}
	pg := pgtest.New(t)
	h := &havoc{t: t, plan: plan, pg: pg, d: calytest.NewDataPlane(t, pg)}
	ctx, cancel := context.WithTimeout(t.Context(), chaosPatience)
	defer cancel()
	h.p = h.d.Start()
	h.awaitReady(ctx)
	ledger := newLedger(t, plan)
	sent := make(chan struct{})
	go func() {
		ledger.send(ctx, "http://"+h.d.Public+"/webhooks/exotel/acme/support/status")
		close(sent)
	}()
	h.run(ctx, sent)
	<-sent
	if ctx.Err() != nil {
		t.Fatalf("the senders are not through within %s", chaosPatience)
	}
	t.Logf(
		"%d kills -9, %d ends of its own, %d restarts of PostgreSQL, at most %d MiB",
		h.kills,
		h.ends,
		h.restarts,
		h.memory>>20,
	)
	if h.kills < plan.kills || h.restarts != 2 {
		t.Errorf("%d kills and %d restarts of PostgreSQL, want at least %d and 2", h.kills, h.restarts, plan.kills)
	}
	ledger.compare(readKept(t, pg))
}

// havoc is what befalls the data plane.
type havoc struct {
	t    *testing.T
	plan chaos
	d    *calytest.DataPlane
	pg   *pgtest.Server
	p    *calytest.Process // the one under way

	kills, ends, restarts int
	memory                int64 // the most that one of them took, in bytes
}

// run kills a data plane that has been up for a second, until the senders are through.
func (h *havoc) run(ctx context.Context, sent <-chan struct{}) {
	h.t.Helper()
	for {
		switch h.kills {
		case h.plan.fastAfter:
			h.restart(ctx, h.pg.StopFast)
		case h.plan.crashAfter:
			h.restart(ctx, h.pg.Stop)
		}
		select {
		case <-sent:
			h.bury()
			return
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		h.bury()
		h.kills++
		h.p = h.d.Start()
		h.awaitReady(ctx)
	}
}

// restart takes PostgreSQL away from under the senders, and brings it back.
func (h *havoc) restart(ctx context.Context, stop func(testing.TB)) {
	h.t.Helper()
	calytest.Pause(ctx, 300*time.Millisecond)
	stop(h.t)
	calytest.Pause(ctx, 300*time.Millisecond)
	h.pg.Start(h.t)
	h.restarts++
}

// bury ends the data plane with kill -9, and looks at what it leaves.
func (h *havoc) bury() {
	h.t.Helper()
	h.p.Kill()
	code := h.p.End()
	if said := h.p.Printed(); strings.Contains(said, "DATA RACE") || strings.Contains(said, "panic") {
		h.t.Fatalf("the data plane ended with %d: %s", code, said)
	}
	if h.memory = max(h.memory, h.p.MaxMemory()); h.memory > chaosMemory {
		h.t.Fatalf("a data plane took %d MiB", h.memory>>20)
	}
}

// awaitReady starts one that ends by itself again, as a kubelet does: it does so where PostgreSQL is away.
func (h *havoc) awaitReady(ctx context.Context) {
	h.t.Helper()
	for !h.d.Ready() {
		select {
		case <-ctx.Done():
			h.bury()
			h.t.Fatalf("the data plane does not become ready: %s", h.p.Errs())
		case <-h.p.Ended():
			h.bury()
			h.ends++
			h.p = h.d.Start()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// chaosClient is that of all senders. A sender gives up on an attempt after two seconds; Exotel's 15 are scaled down as its waits are.
func chaosClient(senders int) *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: senders}, Timeout: 2 * time.Second}
}
