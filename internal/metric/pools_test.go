package metric

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/tracelog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/metrictest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// acquireTracer reports each start of an acquisition.
type acquireTracer struct {
	*tracelog.TraceLog
	acquire chan struct{}
}

// TraceAcquireStart is called by the pool.
func (a acquireTracer) TraceAcquireStart(
	ctx context.Context, pool *pgxpool.Pool, data pgxpool.TraceAcquireStartData,
) context.Context {
	a.acquire <- struct{}{}
	return a.TraceLog.TraceAcquireStart(ctx, pool, data)
}

// TestPools uses up a pool of one connection: another request has to wait for it.
func TestPools(t *testing.T) {
	cfg, err := pgxpool.ParseConfig(pgtest.New(t).AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxConns = 1
	started := acquireTracer{
		TraceLog: &tracelog.TraceLog{LogLevel: tracelog.LogLevelNone},
		acquire:  make(chan struct{}, 2),
	}
	cfg.ConnConfig.Tracer = started
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	held, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-started.acquire
	collector := NewPools(map[string]Pool{"api": pool})
	before := pool.Stat().EmptyAcquireCount() // a pool also counts a connection that it had to make
	expect := func(acquired, idle string) {
		t.Helper()
		want := `
			# HELP caly_database_pool_connections Connections to PostgreSQL, by state: acquired, idle, constructing.
			# TYPE caly_database_pool_connections gauge
			caly_database_pool_connections{pool="api",state="acquired"} {A}
			caly_database_pool_connections{pool="api",state="idle"} {I}
			caly_database_pool_connections{pool="api",state="constructing"} 0
			# HELP caly_database_pool_max_connections The most connections that the pool may have.
			# TYPE caly_database_pool_max_connections gauge
			caly_database_pool_max_connections{pool="api"} 1
		`
		want = strings.NewReplacer("{A}", acquired, "{I}", idle).Replace(want)
		if err := testutil.CollectAndCompare(collector, strings.NewReader(want),
			"caly_database_pool_connections", "caly_database_pool_max_connections"); err != nil {
			t.Error(err)
		}
	}
	expect("1", "0")
	const waits = 50 * time.Millisecond // of the second request
	done := make(chan error, 1)
	go func() {
		second, err := pool.Acquire(t.Context())
		if err == nil {
			second.Release()
		}
		done <- err
	}()
	<-started.acquire
	time.Sleep(waits)
	held.Release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	eventually.Holds(t, "the connection is idle", func() bool { return pool.Stat().IdleConns() == 1 })
	expect("0", "1")
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector)
	got := metrictest.Values(t, registry)
	if n := got["caly_database_pool_waits_total api"]; n != float64(before+1) {
		t.Errorf("%v waits, want %d", n, before+1)
	}
	if s := got["caly_database_pool_wait_seconds_total api"]; s < .02 || s > 30 {
		t.Errorf("waited %v s, want about 0.05", s)
	}
}
