package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/dataplane/server"
	"github.com/caly-dev/caly/internal/store"
)

const (
	// openWithin bounds the first try to open the database, so that a pod answers its probes soon after its start.
	openWithin = 10 * time.Second
	// databaseWithin is how long a client of a pod without a database waits before it sends its request again.
	databaseWithin = 5 * time.Second
)

var errNoDatabase = errors.New("waiting for PostgreSQL")

// awaitDatabase opens the database. While no server accepts writes it runs serve, which answers probes: the pod is
// alive and not ready. A pod that exits instead is restarted after longer and longer pauses, up to five minutes.
func awaitDatabase(
	ctx context.Context, log *slog.Logger, serve func(context.Context) error, open func(context.Context) error,
) error {
	first, cancel := context.WithTimeout(ctx, openWithin)
	err := open(first)
	cancel()
	if !errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	group, serving := errgroup.WithContext(serving)
	group.Go(func() error { return serve(serving) })
	group.Go(func() error {
		defer stop()
		return store.Await(serving, log, open)
	})
	return group.Wait()
}

// serveWaiting answers webhooks, streams and the API with 503 until ctx is done.
func (o dataplaneOptions) serveWaiting(log *slog.Logger) func(context.Context) error {
	registry := newMetricsRegistry()
	registry.MustRegister(databaseMetrics()...)
	return func(ctx context.Context) error {
		return server.Run(ctx, server.Options{
			Listen:         o.listen,
			InternalListen: o.internalListen,
			Public:         http.HandlerFunc(refuseWithoutDatabase),
			Internal:       o.internalHandler(registry, http.NotFoundHandler(), http.NotFoundHandler()),
			Ready:          func(context.Context) error { return errNoDatabase },
			Grace:          time.Second,
			TLSCertFile:    o.tlsCertFile,
			TLSKeyFile:     o.tlsKeyFile,
			Log:            log,
		})
	}
}

// refuseWithoutDatabase rejects a request before its body is read.
func refuseWithoutDatabase(w http.ResponseWriter, r *http.Request) {
	problem.Unread(w, r)
	problem.New(problem.Unavailable, "this pod has no connection to its database yet; retry later").
		WithRetryAfter(databaseWithin).Write(w, w.Header().Get("X-Request-Id"))
}

// serveWaiting answers the operator's probes and requests for metrics until ctx is done.
func (o operatorOptions) serveWaiting(ctx context.Context) error {
	registry := newMetricsRegistry()
	registry.MustRegister(databaseMetrics()...)
	metrics := http.NewServeMux()
	metrics.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	o.pprof.AddHandlers(metrics)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serveUntil(ctx, "probes", o.probeAddress, waitingProbes()) })
	group.Go(func() error {
		return serveUntil(ctx, "metrics", cmp.Or(o.metricsAddress, metricsserver.DefaultBindAddress), metrics)
	})
	return group.Wait()
}

// waitingProbes are the answers of a program that is alive and not ready.
func waitingProbes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, errNoDatabase.Error(), http.StatusServiceUnavailable)
	})
	return mux
}

// serveUntil serves what until ctx is done. As for controller-runtime, no address and "0" mean that it is not served.
func serveUntil(ctx context.Context, what, address string, handler http.Handler) error {
	if address == "" || address == "0" {
		<-ctx.Done()
		return nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for %s: %w", what, err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	ended := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer ended()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", what, err)
	}
	return nil
}
