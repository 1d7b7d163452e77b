package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/dataplane/monitoring"
	"github.com/caly-dev/caly/dataplane/server"
	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/metric"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/tenantconfig/watch"
	"github.com/caly-dev/caly/internal/tracing/export"
)

type dataplaneOptions struct {
	databaseURLFile, workNamespace string
	listen, internalListen         string
	drainDelay, grace              time.Duration
	maxBody                        int64
	maxInFlight, commitWorkers     int
	trustedProxies, sourceCIDRs    []string
	allowHTTP                      bool
	tlsCertFile, tlsKeyFile        string
	monitoringTokenFile            string
	api                            apiOptions
	audio                          audioOptions
	pools                          poolOptions
	pprof                          cli.Pprof
	trace                          cli.TraceFlags
}

// newDataplaneCommand returns the command "caly dataplane".
func newDataplaneCommand() *cobra.Command {
	var o dataplaneOptions
	cmd := &cobra.Command{
		Use:   "dataplane",
		Short: "Run the data plane: answer Exotel's webhooks and audio streams, and the tenants' API",
		Args:  cli.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return runDataplane(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.StringVar(
		&o.databaseURLFile, "database-url-file", "", "file with the data plane's database URL (or CALY_DATABASE_URL)",
	)
	flags.StringVar(&o.workNamespace, "work-namespace", "caly-work", "namespace of the tenant configs")
	flags.StringVar(&o.listen, "listen", ":8080", "address for webhooks, audio streams and the API")
	flags.StringVar(&o.internalListen, "internal-listen", ":8081", "address for probes, metrics and monitoring")
	flags.DurationVar(
		&o.drainDelay, "drain-delay", 5*time.Second, "how long to go on serving after SIGTERM while not ready",
	)
	flags.DurationVar(&o.grace, "grace", 20*time.Second, "how long requests under way may take after that")
	flags.Int64Var(&o.maxBody, "max-body-bytes", 1<<20, "largest body of a webhook")
	flags.IntVar(
		&o.maxInFlight,
		"max-in-flight",
		1024,
		"webhooks in work at once; those beyond are answered 503 before their body is read",
	)
	flags.IntVar(&o.commitWorkers, "commit-workers", 2, "transactions at the same time; each takes all waiting events")
	flags.StringSliceVar(
		&o.trustedProxies,
		"trusted-proxies",
		nil,
		"address ranges of the proxies whose X-Forwarded headers are believed",
	)
	flags.StringSliceVar(
		&o.sourceCIDRs, "allowed-source-cidrs", nil, "private address ranges that recordings may come from",
	)
	flags.BoolVar(&o.allowHTTP, "allow-http-sources", false, "allow recordings over plain http")
	flags.StringVar(
		&o.tlsCertFile,
		"tls-cert-file",
		"",
		"file with the certificate to speak TLS with; renewed files are live within seconds",
	)
	flags.StringVar(&o.tlsKeyFile, "tls-key-file", "", "file with the certificate's key")
	flags.StringVar(&o.monitoringTokenFile, "monitoring-token-file", "",
		"file with the token that allows /api/monitoring from outside")
	o.api.addTo(flags)
	o.audio.addTo(flags)
	o.pools.addTo(flags)
	o.pprof.AddTo(flags, "--internal-listen")
	o.trace.AddTo(flags)
	return cmd
}

// runDataplane serves until ctx is done, and then drains: webhooks in work are answered, live streams get their grace.
func runDataplane(ctx context.Context, o dataplaneOptions) error {
	log := cli.NewLogger()
	hooks, err := o.webhookOptions()
	if err != nil {
		return err
	}
	settings, err := o.api.settings()
	if err := errors.Join(err, o.audio.check(), o.pools.check()); err != nil {
		return err
	}
	db, err := o.openDatabase(ctx, log)
	if ctx.Err() != nil {
		db.close()
		return nil // terminated while it waited
	}
	if err != nil {
		return err
	}
	defer db.close()
	watcher, err := newWatcher(o.workNamespace, log)
	if err != nil {
		return err
	}
	server.TuneMemory()
	warnOfOwn(log, hooks.TrustedProxies)
	registry := newMetricsRegistry()
	registerConfigs(registry, watcher)
	db.register(registry)
	hooks.Tenants = watcher.Snapshot
	hooks.Store = db.ingest
	hooks.Log = log
	hooks.Metrics = registry
	traces, stopTraces, err := o.startTraces(registry, log)
	if err != nil {
		return err
	}
	defer stopTraces()
	hooks.Tracer = traces.Tracer()
	parts := apiParts{db, watcher, hooks.TrustedProxies, registry, traces.Tracer(), log}
	tenants := newTenantAPI(settings, parts)
	status := tenants.monitoring(watcher, db.limits)
	tenants.handler.Handle(monitoring.PathPrefix, monitoring.NewPublic(o.monitoringTokenFile, status, log))
	streams, err := newStreams(o.audio, parts)
	if err != nil {
		return err
	}
	status.Handle("cleanup-stats", streams.janitor)
	status.Handle("retry-stats", monitoring.RetryStats(streams.retries.Stats))
	status.HandleAction("cleanup", streams.janitor.Cleanup())
	webhooks := webhook.New(hooks)
	defer webhooks.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return watcher.Run(ctx) })
	tenants.run(ctx, group)
	group.Go(func() error { return streams.run(ctx) })
	group.Go(func() error {
		return server.Run(ctx, server.Options{
			Listen:         o.listen,
			InternalListen: o.internalListen,
			Public:         route(webhooks, streams.handler, tenants.handler),
			Internal:       o.internalHandler(registry, status, streams.janitor.Profile()),
			Ready:          func(context.Context) error { return watcher.Ready() },
			DrainDelay:     o.drainDelay,
			Grace:          o.grace,
			Finish:         streams.drain,
			TrustedProxies: hooks.TrustedProxies,
			TLSCertFile:    o.tlsCertFile,
			TLSKeyFile:     o.tlsKeyFile,
			Log:            log,
		})
	})
	return group.Wait()
}

// openDatabase waits for the database and connects to it.
func (o dataplaneOptions) openDatabase(ctx context.Context, log *slog.Logger) (db *pools, err error) {
	dsn, err := databaseURL(o.databaseURLFile)
	if err != nil {
		return nil, err
	}
	err = awaitDatabase(ctx, log, o.serveWaiting(log), func(ctx context.Context) (err error) {
		db, err = openPools(ctx, dsn, o.pools, o.commitWorkers)
		return err
	})
	return db, err
}

// newWatcher returns a watcher of the tenant configs in the work namespace.
func newWatcher(workNamespace string, log *slog.Logger) (*watch.Watcher, error) {
	cfg, err := ctrl.GetConfig()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return watch.New(client, workNamespace, log), nil
}

// startTraces returns what makes traces, and what ends it.
func (o dataplaneOptions) startTraces(
	registry *prometheus.Registry, log *slog.Logger,
) (*export.Provider, func(), error) {
	return o.trace.Start(cli.TraceTarget{
		Service: "caly-dataplane",
		Version: version,
		Proxied: true,
		Metrics: registry,
		Log:     log,
	})
}

// webhookOptions are those that flags give.
func (o dataplaneOptions) webhookOptions() (webhook.Options, error) {
	sources, err := cli.ParseCIDRs("allowed-source-cidrs", o.sourceCIDRs)
	if err != nil {
		return webhook.Options{}, err
	}
	proxies, err := cli.ParseCIDRs("trusted-proxies", o.trustedProxies)
	if err != nil {
		return webhook.Options{}, err
	}
	if o.maxInFlight < 1 || o.commitWorkers < 1 || o.maxBody < 1 {
		return webhook.Options{}, &cli.ExitError{
			Code: cli.ExitUsage,
			Err:  errors.New("--max-in-flight, --commit-workers and --max-body-bytes must be at least 1"),
		}
	}
	return webhook.Options{
		MaxBody:        o.maxBody,
		MaxInFlight:    o.maxInFlight,
		Workers:        o.commitWorkers,
		TrustedProxies: proxies,
		Sources:        recording.SourcePolicy{AllowHTTP: o.allowHTTP, AllowedCIDRs: sources},
	}, nil
}

// newMetricsRegistry returns a registry with the metrics of the build, the Go runtime and the process.
func newMetricsRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		metric.NewBuildInfo(version),
	)
	return registry
}

// registerConfigs tells how many tenants a pod knows, and how many configs it cannot read.
func registerConfigs(r *prometheus.Registry, w *watch.Watcher) {
	known := func() float64 { known, _ := w.Counts(); return float64(known) }
	unreadable := func() float64 { _, unreadable := w.Counts(); return float64(unreadable) }
	missing := func() float64 { return float64(w.Missing()) }
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "caly_tenant_configs",
			Help: "Tenants whose config this pod knows.",
		}, known),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "caly_tenant_configs_missing",
			Help: "Published tenant configs whose Secret this pod does not have.",
		}, missing),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "caly_tenant_configs_unreadable",
			Help: "Tenant configs that this pod cannot read as they are now; the last good one stays in force.",
		}, unreadable))
}

// pingWithin bounds a question whether the database accepts writes.
const pingWithin = time.Second

// database is a pool of connections of any component.
type database interface {
	Writable(ctx context.Context) error
	ReadOnlyAnswers() int64
}

// databaseMetrics report whether the database accepts writes, as the first pool finds. A pod that has not connected
// yet has no pools. Later the database is not part of the pod's readiness: all pods have the same database, and without
// a ready pod a sender is refused a connection instead of being answered 503.
func databaseMetrics(pools ...database) []prometheus.Collector {
	up := func() float64 {
		if len(pools) == 0 || pingDatabase(context.Background(), pools[0]) != nil {
			return 0
		}
		return 1
	}
	readOnly := func() (n float64) {
		for _, pool := range pools {
			n += float64(pool.ReadOnlyAnswers())
		}
		return n
	}
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "caly_database_up",
			Help: "1 while this pod reaches a PostgreSQL server that accepts writes within a second, else 0.",
		}, up),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "caly_database_read_only_total",
			Help: "Times that the server turned out to be read-only, and a pool's connections were made again.",
		}, readOnly),
	}
}

// pingDatabase reports an error if the database is not writable within pingWithin.
func pingDatabase(ctx context.Context, db database) error {
	ctx, cancel := context.WithTimeout(ctx, pingWithin)
	defer cancel()
	return db.Writable(ctx)
}

// internalHandler answers clients inside the cluster. Only this handler serves profiles.
func (o dataplaneOptions) internalHandler(
	registry *prometheus.Registry,
	status, heapProfile http.Handler,
) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(monitoring.PathPrefix, status)
	mux.Handle(monitoring.PathPrefix+"heap-profile", heapProfile)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, o.trace.MetricsOptions()))
	o.pprof.AddHandlers(mux)
	return mux
}
