package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/caly-dev/caly/internal/metric"
	"github.com/caly-dev/caly/internal/store"
)

// poolOptions are the flags of the data plane's database connections.
type poolOptions struct {
	ingest           int
	live             int
	api              int
	statementTimeout time.Duration
}

// Constants of the pools.
const (
	// limitConnections is the number of connections for rate limits and revocations. Their statements are short.
	limitConnections = 4
	// idleLiveConnections are kept open for live calls: no call waits for a new connection.
	idleLiveConnections = 2
	// maxPool bounds the connections of one pool.
	maxPool = 1000
	// maxWaitingRequests bounds the API transactions of one tenant that wait for a connection.
	maxWaitingRequests = 64
)

// addTo adds the flags of the pod's connection pools.
func (o *poolOptions) addTo(f *pflag.FlagSet) {
	f.IntVar(&o.ingest, "db-ingest-connections", 6,
		"database connections of this pod for webhooks; at least one more than --commit-workers are used")
	f.IntVar(&o.live, "db-live-connections", 6,
		"database connections of this pod for live calls: admission, heartbeats, ends and captures")
	f.IntVar(&o.api, "db-api-connections", 16,
		"database connections of this pod for the tenant API; one tenant uses at most a quarter")
	f.DurationVar(&o.statementTimeout, "api-statement-timeout", 5*time.Second,
		"longest time of one database statement of the tenant API")
}

// check returns a usage error for a pool size or a statement timeout out of range.
func (o *poolOptions) check() error {
	for _, n := range []int{o.ingest, o.live, o.api} {
		if n < 2 || n > maxPool {
			return usage("--db-ingest-connections, --db-live-connections and --db-api-connections: "+
				"each must be between 2 and %d", maxPool)
		}
	}
	if o.statementTimeout < time.Millisecond {
		return usage("--api-statement-timeout must be at least 1ms")
	}
	return nil
}

// pools are the data plane's database connections. Each kind of work has its own, so that no kind can use up those of
// another.
type pools struct {
	// ingest stores webhooks.
	ingest *store.Dataplane
	// live admits audio streams, keeps their sessions and ends them.
	live *store.Dataplane
	// api serves the tenant API: accounts and lists.
	api *store.Dataplane
	// limits counts rate limits and reads revocations.
	limits *store.Dataplane
}

// openPools connects all pools. The caller closes them.
func openPools(ctx context.Context, dsn string, o poolOptions, commitWorkers int) (*pools, error) {
	p := &pools{}
	for _, pool := range []struct {
		db      **store.Dataplane
		options store.Options
	}{
		{&p.ingest, store.Options{
			MaxConns: int32(max(o.ingest, min(commitWorkers+1, maxPool))), //nolint:gosec // bounded by maxPool
		}},
		{&p.live, store.Options{
			ApplicationName: "caly-dataplane-live",
			MaxConns:        int32(o.live), //nolint:gosec // checked
			MinIdleConns:    idleLiveConnections,
			Shared:          true,
		}},
		{&p.api, store.Options{
			ApplicationName:  "caly-dataplane-api",
			MaxConns:         int32(o.api), //nolint:gosec // checked
			StatementTimeout: o.statementTimeout,
			Shared:           true,
			MaxWaiting:       maxWaitingRequests,
		}},
		{&p.limits, store.Options{ApplicationName: "caly-dataplane-limits", MaxConns: limitConnections, Shared: true}},
	} {
		db, err := store.OpenDataplane(ctx, dsn, pool.options)
		if err != nil {
			p.close()
			return nil, err
		}
		*pool.db = db
	}
	return p, nil
}

// close closes the pools that are open. It works on nil too.
func (p *pools) close() {
	if p == nil {
		return
	}
	for _, db := range []*store.Dataplane{p.ingest, p.live, p.api, p.limits} {
		if db != nil {
			db.Close()
		}
	}
}

// register adds the metrics of the pools.
func (p *pools) register(r *prometheus.Registry) {
	r.MustRegister(databaseMetrics(p.limits, p.ingest, p.live, p.api)...)
	r.MustRegister(metric.NewPools(map[string]metric.Pool{
		"limits": p.limits,
		"ingest": p.ingest,
		"live":   p.live,
		"api":    p.api,
	}))
}
