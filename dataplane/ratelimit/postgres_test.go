package ratelimit

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

const patient = 30 * time.Second // where a slow machine must not decide

func admin(t testing.TB, pg *pgtest.Server) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// TestExactAcrossPods verifies that 200 concurrent tries through three pods get exactly as many permits as the limit.
func TestExactAcrossPods(t *testing.T) {
	pg := pgtest.New(t)
	var pods [3]*pod
	for i := range pods {
		pods[i] = newPod(openDB(t, pg), patient, nil)
	}
	for round := range 10 {
		key := fmt.Sprintf("ann@example.com from 192.0.2.%d", round)
		var allowed, fallback atomic.Int32
		remaining := make([]atomic.Int32, 6)
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				switch decision := pods[i%3].Take(t.Context(), acme, Login, key); {
				case decision.Fallback:
					fallback.Add(1)
				case decision.Allowed:
					allowed.Add(1)
					remaining[decision.Remaining].Add(1)
				case decision.RetryAfter <= 0 || decision.RetryAfter > 15*time.Minute:
					t.Errorf("refused without a time to come back: %+v", decision)
				}
			})
		}
		all.Wait()
		if allowed.Load() != 6 || fallback.Load() != 0 {
			t.Errorf(
				"round %d: %d were let through and %d decided alone; want 6 and 0",
				round,
				allowed.Load(),
				fallback.Load(),
			)
		}
		for n := range remaining {
			if remaining[n].Load() != 1 {
				t.Errorf("round %d: %d were told that %d remain, want 1", round, remaining[n].Load(), n)
			}
		}
	}
	for i, p := range pods {
		if n := p.asked.Load(); n > 10*8 { // at most the limit, one refusal, and the one under way
			t.Errorf("pod %d asked the database %d times for 10 keys", i, n)
		}
	}
}

// TestKeysAreHashed verifies that the database has only hashes of the limited keys. Two keys never share a row.
func TestKeysAreHashed(t *testing.T) {
	pg := pgtest.New(t)
	pod := newPod(openDB(t, pg), patient, nil)
	globex := &tenantconfig.Tenant{ID: "globex/sales"}
	for _, try := range []struct {
		t    *tenantconfig.Tenant
		name Name
		key  string
	}{
		{acme, Verify, "ann@example.com"},
		{acme, Forgot, "ann@example.com"},
		{acme, Verify, "bob@example.com"},
		{globex, Verify, "ann@example.com"},
	} {
		if decision := pod.Take(t.Context(), try.t, try.name, try.key); !decision.Allowed ||
			decision.Remaining != decision.Limit.Requests-1 {
			t.Errorf("%s %s %s: %+v, want the first try of its own", try.t.ID, try.name, try.key, decision)
		}
	}
	rows, _ := admin(t, pg).Query(t.Context(), `SELECT key FROM rate_limits WHERE tenant = 'acme/support'`)
	keys, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil || len(keys) != 3 {
		t.Fatalf("%d rows, %v; want 3", len(keys), err)
	}
	mac := hmac.New(sha256.New, testKey())
	mac.Write([]byte("acme/support\x00verify\x00ann@example.com"))
	found := false
	for _, k := range keys {
		found = found || bytes.Equal(k, mac.Sum(nil))
	}
	if !found {
		t.Error("no row has the keyed hash of tenant, limit and key")
	}
}

// TestBlockedCostsNothing verifies that a refused key causes no more queries until it has room again, even while the
// database is down.
func TestBlockedCostsNothing(t *testing.T) {
	pg := pgtest.New(t)
	limit := Limit{Requests: 2, Window: time.Hour}
	pod := newPod(openDB(t, pg), patient, map[Name]Limit{Login: limit})
	other := newPod(openDB(t, pg), patient, map[Name]Limit{Login: limit})
	other.Take(t.Context(), acme, Login, "k")
	other.Take(t.Context(), acme, Login, "k")
	if _, known := pod.Blocked(acme, Login, "k"); known {
		t.Error("a pod that has not asked yet knows of the block")
	}
	if decision := pod.Take(t.Context(), acme, Login, "k"); decision.Allowed || decision.Fallback {
		t.Fatalf("%+v, want a refusal by the database", decision)
	}
	pg.Stop(t)
	for range 50 {
		decision := pod.Take(t.Context(), acme, Login, "k")
		if decision.Allowed || decision.Fallback || decision.RetryAfter <= 59*time.Minute ||
			decision.RetryAfter > time.Hour ||
			decision.Limit != limit ||
			decision.Name != Login {
			t.Fatalf("%+v, want a refusal for an hour", decision)
		}
	}
	if decision, known := pod.Blocked(acme, Login, "k"); !known || decision.Allowed || decision.RetryAfter <= 0 {
		t.Errorf("Blocked: %+v, %v", decision, known)
	}
	pg.Start(t)
	if n := pod.asked.Load(); n != 1 {
		t.Errorf("the database was asked %d times, want once", n)
	}
	if diff := cmp.Diff(map[string]float64{
		outcomeRejected: 1,
		outcomeBlocked:  51,
	}, pod.outcomes(t, Login)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	pod.clock.advance(time.Hour)
	if _, known := pod.Blocked(acme, Login, "k"); known {
		t.Error("still blocked when its time is over")
	}
}

// TestDatabaseAway verifies that a pod limits by its own log while the database is down. It waits for the database
// once, and uses it again after its return.
func TestDatabaseAway(t *testing.T) {
	pg := pgtest.New(t)
	pod := newPod(openDB(t, pg), patient, map[Name]Limit{Login: {Requests: 3, Window: time.Hour}})
	if decision := pod.Take(t.Context(), acme, Login, "k"); !decision.Allowed || decision.Fallback {
		t.Fatalf("%+v, want the database's leave", decision)
	}
	pg.Stop(t)
	var got []bool
	for range 4 {
		decision := pod.Take(t.Context(), acme, Login, "k")
		if !decision.Fallback {
			t.Fatalf("%+v, want a decision of the pod's own", decision)
		}
		got = append(got, decision.Allowed)
	}
	if diff := cmp.Diff([]bool{true, true, false, false}, got); diff != "" {
		t.Errorf("the one that the database let through counts too (-want +got):\n%s", diff)
	}
	if n := pod.asked.Load(); n != 2 {
		t.Errorf("the database was asked %d times, want 2: once away, it is left alone for a second", n)
	}
	pod.clock.advance(alone)
	pod.Take(t.Context(), acme, Login, "k") // asks again, in vain
	if asked, said := pod.asked.Load(), pod.log.count("limits by what it sees itself"); asked != 3 || said != 1 {
		t.Errorf("asked %d times and said so %d times; want 3 and 1", asked, said)
	}
	if n := pod.metric(t, "caly_ratelimit_fallback_total", nil); n != 2 {
		t.Errorf("fallback_total = %v, want 2", n)
	}
	pg.Start(t)
	pod.clock.advance(alone)
	// The crash has emptied the table, which is unlogged.
	if decision := pod.Take(t.Context(), acme, Login, "k"); !decision.Allowed || decision.Fallback ||
		decision.Remaining != 2 {
		t.Errorf("%+v, want the database's leave", decision)
	}
	if n := pod.log.count("limits hold across pods"); n != 1 {
		t.Errorf("said %d times that the database is back, want once", n)
	}
}

// TestDatabaseSlow verifies that a try waits for a locked row no longer than the pod's patience. A late answer does not
// count.
func TestDatabaseSlow(t *testing.T) {
	pg := pgtest.New(t)
	pod := newPod(openDB(t, pg), 0, nil)
	other := newPod(openDB(t, pg), patient, nil)
	other.Take(t.Context(), acme, Login, "k")
	tx, err := admin(t, pg).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM rate_limits FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if decision := pod.Take(t.Context(), acme, Login, "k"); !decision.Allowed || !decision.Fallback {
			t.Errorf("%+v, want the pod's own leave", decision)
		}
	}
	if n := pod.asked.Load(); n != 1 {
		t.Errorf("the database was asked %d times, want once", n)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if decision := other.Take(t.Context(), acme, Login, "k"); decision.Fallback || decision.Remaining != 4 {
		t.Errorf("%+v, want the second hit: what gave up must not have counted", decision)
	}
}
