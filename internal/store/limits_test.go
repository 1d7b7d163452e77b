package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

func take(tenant, key string, wanted, limit int, window time.Duration) store.HitTake {
	return store.HitTake{
		Tenant:  tenant,
		Key:     sha256.Sum256([]byte(key)),
		Wanted:  wanted,
		Max:     limit,
		Window:  window,
		Timeout: 10 * time.Second,
	}
}

// age lets time pass for all hits.
func age(t testing.TB, admin *pgx.Conn, by time.Duration) {
	t.Helper()
	_, err := admin.Exec(context.Background(), `UPDATE rate_limits SET expires_at = expires_at - $1::interval,
		hits = ARRAY(SELECT h - $1::interval FROM unnest(hits) AS h ORDER BY h)`, by)
	if err != nil {
		t.Fatal(err)
	}
}

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// step of a sliding log: first time passes, then hits are asked for.
type hitStep struct {
	passes                           time.Duration
	tenant, key                      string
	wanted, max                      int
	wantGranted, wantUsed, wantFreeS int // seconds, rounded up
}

func TestTakeHits(t *testing.T) {
	pg := pgtest.New(t)
	db := storetest.Open(t, pg.DataplaneDSN, store.OpenDataplane)
	admin := connect(t, pg.AdminDSN)
	const window = 100 * time.Second
	for name, steps := range map[string][]hitStep{
		"until it is full, and again once the oldest falls off": {
			{wanted: 1, max: 2, wantGranted: 1, wantUsed: 1, wantFreeS: 100},
			{passes: 40 * time.Second, wanted: 1, max: 2, wantGranted: 1, wantUsed: 2, wantFreeS: 60},
			{wanted: 1, max: 2, wantGranted: 0, wantUsed: 2, wantFreeS: 60},
			{passes: 59 * time.Second, wanted: 1, max: 2, wantGranted: 0, wantUsed: 2, wantFreeS: 1},
			{passes: time.Second, wanted: 1, max: 2, wantGranted: 1, wantUsed: 2, wantFreeS: 40},
		},
		"a refused one does not count": {
			{wanted: 1, max: 1, wantGranted: 1, wantUsed: 1, wantFreeS: 100},
			{passes: 99 * time.Second, wanted: 9, max: 1, wantGranted: 0, wantUsed: 1, wantFreeS: 1},
			{passes: time.Second, wanted: 1, max: 1, wantGranted: 1, wantUsed: 1, wantFreeS: 100},
		},
		"several at once get what there is": {
			{wanted: 4, max: 6, wantGranted: 4, wantUsed: 4, wantFreeS: 100},
			{wanted: 4, max: 6, wantGranted: 2, wantUsed: 6, wantFreeS: 100},
		},
		"more than ever fit, on a new key": {{wanted: 9, max: 6, wantGranted: 6, wantUsed: 6, wantFreeS: 100}},
		"the greatest limit": {{
			wanted:      1500,
			max:         1000,
			wantGranted: 1000,
			wantUsed:    1000,
			wantFreeS:   100,
		}},
		"a lowered limit waits for all that are too many": {
			{wanted: 2, max: 4, wantGranted: 2, wantUsed: 2, wantFreeS: 100},
			{passes: 10 * time.Second, wanted: 2, max: 4, wantGranted: 2, wantUsed: 4, wantFreeS: 90},
			{wanted: 1, max: 2, wantGranted: 0, wantUsed: 4, wantFreeS: 100},
			{passes: 90 * time.Second, wanted: 1, max: 2, wantGranted: 0, wantUsed: 2, wantFreeS: 10},
		},
		"a raised limit lets more in at once": {
			{wanted: 3, max: 2, wantGranted: 2, wantUsed: 2, wantFreeS: 100},
			{wanted: 3, max: 4, wantGranted: 2, wantUsed: 4, wantFreeS: 100},
		},
		"keys and tenants do not share": {
			{wanted: 1, max: 1, wantGranted: 1, wantUsed: 1, wantFreeS: 100},
			{key: "another", wanted: 1, max: 1, wantGranted: 1, wantUsed: 1, wantFreeS: 100},
			{tenant: globex, wanted: 1, max: 1, wantGranted: 1, wantUsed: 1, wantFreeS: 100},
			{wanted: 1, max: 1, wantGranted: 0, wantUsed: 1, wantFreeS: 100},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for i, s := range steps {
				if s.tenant == "" {
					s.tenant = acme
				}
				age(t, admin, s.passes)
				got, err := db.TakeHits(t.Context(), take(s.tenant, name+s.key, s.wanted, s.max, window))
				if err != nil {
					t.Fatal(err)
				}
				have := []int{got.Granted, got.Used, int((got.FreeIn + time.Second - 1) / time.Second)}
				if diff := cmp.Diff([]int{s.wantGranted, s.wantUsed, s.wantFreeS}, have); diff != "" {
					t.Fatalf("step %d: granted, used, free in (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

// TestTakeHitsAtOnce verifies that concurrent takers on several connections never get more than the limit of a new key.
func TestTakeHitsAtOnce(t *testing.T) {
	pg := pgtest.New(t)
	dbs := []*store.Dataplane{
		storetest.Open(t, pg.DataplaneDSN, store.OpenDataplane),
		storetest.Open(t, pg.DataplaneDSN, store.OpenDataplane),
		storetest.Open(t, pg.DataplaneDSN, store.OpenDataplane),
	}
	for _, key := range []string{"a", "b", "c"} {
		var granted atomic.Int32
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				got, err := dbs[i%3].TakeHits(t.Context(), take(acme, key, 1, 6, time.Hour))
				if err != nil {
					t.Error(err)
				}
				granted.Add(int32(got.Granted))
			})
		}
		all.Wait()
		if granted.Load() != 6 {
			t.Errorf("key %s: granted %d of 200, want 6", key, granted.Load())
		}
	}
}

// TestHitsSlide verifies that no window of the length holds more hits than the limit, under takers that never pause. A
// taker is rejected only while the window is full.
func TestHitsSlide(t *testing.T) {
	const limit, window = 5, 100 * time.Millisecond
	pg := pgtest.New(t)
	admin := connect(t, pg.AdminDSN)
	_, err := admin.Exec(t.Context(), `CREATE TABLE seen (hit timestamptz);
		CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
			'BEGIN INSERT INTO public.seen SELECT unnest(NEW.hits); RETURN NULL; END';
		CREATE TRIGGER see AFTER INSERT OR UPDATE ON rate_limits FOR EACH ROW EXECUTE FUNCTION see()`)
	if err != nil {
		t.Fatal(err)
	}
	var granted atomic.Int32
	var all sync.WaitGroup
	until := time.Now().Add(10 * window)
	for range 6 {
		db := storetest.Open(t, pg.DataplaneDSN, store.OpenDataplane)
		all.Go(func() {
			for time.Now().Before(until) {
				got, err := db.TakeHits(t.Context(), take(acme, "slides", 1, limit, window))
				if err != nil || got.FreeIn <= 0 || got.FreeIn > window || (got.Granted == 0 && got.Used != limit) {
					t.Errorf("%+v, %v", got, err)
					return
				}
				granted.Add(int32(got.Granted))
			}
		})
	}
	all.Wait()
	rows, _ := admin.Query(t.Context(), `SELECT hit FROM seen GROUP BY hit ORDER BY hit`)
	hits, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		t.Fatal(err)
	}
	if len(hits) != int(granted.Load()) || len(hits) < 2*limit {
		t.Fatalf(
			"%d hits are in the log, %d were granted; want the same, and at least %d",
			len(hits),
			granted.Load(),
			2*limit,
		)
	}
	for i := range hits[limit:] {
		if wait := hits[i+limit].Sub(hits[i]); wait < window {
			t.Errorf("%d hits within %s", limit+1, wait)
		}
	}
}

// TestTakeHitsAgreesWithModel verifies that TakeHits agrees with a model, for any requests, any pauses and a limit that
// changes.
func TestTakeHitsAgreesWithModel(t *testing.T) {
	pg := pgtest.New(t)
	db := storetest.Open(t, pg.DataplaneDSN, store.OpenDataplane)
	admin := connect(t, pg.AdminDSN)
	const unit = 100 * time.Second // much longer than a case takes: a hit is as old as the units that have passed
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		key := time.Duration(run).String()
		window := rapid.IntRange(1, 5).Draw(rt, "window")
		var hits []int // ages in units
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			passes := rapid.IntRange(0, 3).Draw(rt, "passes")
			limit := rapid.IntRange(1, 5).Draw(rt, "limit")
			wanted := rapid.IntRange(1, 4).Draw(rt, "wanted")
			if passes > 0 {
				age(t, admin, time.Duration(passes)*unit)
			}
			for i := range hits {
				hits[i] += passes
			}
			hits = slices.DeleteFunc(hits, func(age int) bool { return age >= window })
			granted := min(wanted, max(limit-len(hits), 0))
			hits = append(hits, make([]int, granted)...)
			want := store.HitsTaken{
				Granted: granted,
				Used:    len(hits),
				FreeIn:  time.Duration(window-hits[max(len(hits)-limit, 0)]) * unit,
			}
			got, err := db.TakeHits(context.Background(), take(acme, key, wanted, limit, time.Duration(window)*unit))
			if err != nil {
				rt.Fatal(err)
			}
			got.FreeIn = got.FreeIn.Round(unit)
			if diff := cmp.Diff(want, got); diff != "" {
				rt.Fatalf("-want +got:\n%s", diff)
			}
		}
	})
}

// TestTakeHitsGivesUp verifies that TakeHits gives up on a locked row after its timeout, and that the connection stays
// usable.
func TestTakeHitsGivesUp(t *testing.T) {
	pg := pgtest.New(t)
	db := storetest.Open(t, pg.DataplaneDSN, store.OpenDataplane)
	admin := connect(t, pg.AdminDSN)
	want := take(acme, "held", 1, 6, time.Hour)
	if _, err := db.TakeHits(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	tx, err := admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM rate_limits FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	want.Timeout = 50 * time.Millisecond
	if _, err := db.TakeHits(t.Context(), want); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("err = %v, want %v", err, store.ErrUnavailable)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := db.TakeHits(t.Context(), want)
	if err != nil || got.Granted != 1 || got.Used != 2 {
		t.Errorf("after it was let go: %+v, %v; want the second hit: the one that waited must not count", got, err)
	}
}

// TestSweepHits verifies that a sweep removes the rows whose hits have all expired, and no others.
func TestSweepHits(t *testing.T) {
	fixture := newFixture(t)
	admin := connect(t, fixture.AdminDSN)
	for _, key := range []string{"old1", "old2", "old3"} {
		if _, err := fixture.Dataplane.TakeHits(t.Context(), take(acme, key, 1, 6, time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	age(t, admin, time.Minute)
	if _, err := fixture.Dataplane.TakeHits(t.Context(), take(globex, "new", 1, 6, time.Minute)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int64{2, 1, 0} {
		if got, err := fixture.Operator.SweepHits(t.Context(), 2); err != nil || got != want {
			t.Errorf("sweep %d removed %d, %v; want %d", i, got, err, want)
		}
	}
	if n := fixture.Number(t, `SELECT count(*)::int FROM rate_limits`); n != 1 {
		t.Errorf("%d rows are left, want 1", n)
	}
}
