package main

import (
	"context"
	"errors"
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
	"github.com/caly-dev/caly/dataplane/server"
	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/tenantconfig/watch"
)

type dataplaneOptions struct {
	databaseURLFile, workNamespace string
	listen, internalListen         string
	drainDelay, grace              time.Duration
	maxBody                        int64
	sourceCIDRs                    []string
	allowHTTP                      bool
}

func newDataplaneCommand() *cobra.Command {
	var o dataplaneOptions
	cmd := &cobra.Command{Use: "dataplane", Short: "Answer Exotel's webhooks", Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDataplane(cmd.Context(), o) }}
	f := cmd.Flags()
	f.StringVar(&o.databaseURLFile, "database-url-file", "", "file with the data plane's database URL (or CALY_DATABASE_URL)")
	f.StringVar(&o.workNamespace, "work-namespace", "caly-work", "namespace of the tenant configs")
	f.StringVar(&o.listen, "listen", ":8080", "address for webhooks")
	f.StringVar(&o.internalListen, "internal-listen", ":8081", "address for probes, metrics and monitoring")
	f.DurationVar(&o.drainDelay, "drain-delay", 5*time.Second, "how long to go on serving after SIGTERM while not ready")
	f.DurationVar(&o.grace, "grace", 20*time.Second, "how long requests under way may take after that")
	f.Int64Var(&o.maxBody, "max-body-bytes", 1<<20, "largest body of a webhook")
	f.StringSliceVar(&o.sourceCIDRs, "allowed-source-cidrs", nil, "private address ranges that recordings may come from")
	f.BoolVar(&o.allowHTTP, "allow-http-sources", false, "let recordings come over plain http")
	return cmd
}

func runDataplane(ctx context.Context, o dataplaneOptions) error {
	log := cli.NewLogger()
	cidrs, err := cli.ParseCIDRs(o.sourceCIDRs)
	if err != nil {
		return err
	}
	dsn, err := databaseURL(o.databaseURLFile)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, dsn, store.Options{Component: "dataplane", MaxConns: 16})
	if err != nil {
		return err
	}
	defer db.Close()
	cfg, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	watcher := watch.New(client, o.workNamespace, log)
	registry := newMetricsRegistry()
	handler := webhook.New(webhook.Options{Tenants: watcher.Snapshot, Store: db, MaxBody: o.maxBody, Log: log, Metrics: registry,
		Sources: tenantconfig.SourcePolicy{AllowHTTP: o.allowHTTP, AllowedCIDRs: cidrs}})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return watcher.Run(ctx) })
	group.Go(func() error {
		return server.Run(ctx, server.Options{Listen: o.listen, InternalListen: o.internalListen, Public: handler,
			Internal: internalHandler(registry), Ready: readiness(db, watcher), DrainDelay: o.drainDelay, Grace: o.grace, Log: log})
	})
	return group.Wait()
}

func newMetricsRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

func internalHandler(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

func readiness(db *store.DB, w *watch.Watcher) func(context.Context) error {
	return func(ctx context.Context) error {
		if !w.Synced() {
			return errors.New("the tenant configs are not read yet")
		}
		return db.Ping(ctx)
	}
}
