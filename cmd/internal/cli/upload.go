package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/dataplane/upload"
	"github.com/caly-dev/caly/internal/metric"
)

type uploadOptions struct {
	upload.Options
	version       string
	cidrs         []string
	storage       StorageFlags
	metricsListen string
	pprof         Pprof
	trace         TraceFlags
}

// NewUploadCommand is "caly upload", and the whole of caly-upload. The version is for its metrics.
func NewUploadCommand(version string) *cobra.Command {
	return newUploadCommand(uploadOptions{version: version})
}

// newUploadCommand returns the command with options that its flags do not have.
func newUploadCommand(o uploadOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "upload",
		Short: "Upload one tenant's recordings until there are none left",
		Long: "Upload one tenant's recordings until there are none left.\n\n" +
			"Exit codes: 0 nothing left to do; 1 something was unreachable for too long, start it again;\n" +
			"64 a person must correct the Tenant, its Secrets or the release first;\n" +
			"75 terminated by a signal before the queue was empty.",
		Args:          NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		PreRunE:       func(cmd *cobra.Command, _ []string) error { return FromEnvironment(cmd.Flags()) },
		RunE:          func(cmd *cobra.Command, _ []string) error { return runUpload(cmd.Context(), o) },
	}
	cmd.SetFlagErrorFunc(UsageError)
	flags := cmd.Flags()
	flags.StringVar(&o.ConfigPath, "config", "/etc/caly/upload/config.json", "file with the tenant's upload config")
	flags.StringVar(
		&o.Owner, "owner", "", "name of this worker on its leases, unique (default: host name and process id)",
	)
	flags.IntVar(&o.Concurrency, "concurrency", 8, "recordings to move at once")
	flags.DurationVar(&o.IdleExit, "idle-exit", 10*time.Second, "end after so long without work")
	flags.DurationVar(&o.MaxRun, "max-run", 0,
		"end after this time, once the recordings in progress are settled (default: unlimited)")
	flags.DurationVar(&o.Drain, "drain", 0,
		"after SIGTERM, go on with the recordings in progress for this time (default: hand them back at once)")
	flags.DurationVar(&o.TransferTimeout, "transfer-timeout", time.Hour,
		"longest time of one recording; the next attempt starts again")
	flags.DurationVar(&o.Lease, "lease", time.Minute, "how long a recording is reserved; renewed at every third of it")
	flags.Int64Var(&o.MaxSize, "max-size", 1<<30, "largest recording in bytes")
	flags.StringSliceVar(&o.cidrs, "allowed-source-cidrs", nil, "private address ranges that recordings may come from")
	flags.BoolVar(&o.AllowHTTP, "allow-http-sources", false, "allow recordings over plain http")
	o.storage.AddTo(flags)
	o.pprof.AddTo(flags, "--metrics-listen")
	o.trace.AddTo(flags)
	flags.StringVar(&o.metricsListen, "metrics-listen", "", "address to serve /metrics on (default: none)")
	return cmd
}

func runUpload(ctx context.Context, o uploadOptions) error {
	cidrs, err := ParseCIDRs("allowed-source-cidrs", o.cidrs)
	if err != nil {
		return &ExitError{upload.ExitConfig, err}
	}
	if o.Stores, err = o.storage.Policy(); err != nil {
		return &ExitError{upload.ExitConfig, err}
	}
	if bool(o.pprof) && o.metricsListen == "" {
		return &ExitError{upload.ExitConfig, errors.New("--pprof needs --metrics-listen")}
	}
	o.AllowedCIDRs = cidrs
	o.Log = NewLogger()
	if o.metricsListen != "" {
		registry := prometheus.NewRegistry()
		registry.MustRegister(
			collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
			metric.NewBuildInfo(o.version),
		)
		o.Metrics = registry
		stop, err := o.serveMetrics(ctx, registry)
		if err != nil {
			return &ExitError{upload.ExitConfig, err}
		}
		defer stop()
	}
	traces, stopTraces, err := o.trace.Start(TraceTarget{
		Service: "caly-upload",
		Version: o.version,
		Metrics: o.Metrics,
		Log:     o.Log,
	})
	if err != nil {
		return &ExitError{upload.ExitConfig, err}
	}
	defer stopTraces()
	o.Tracer = traces.Tracer()
	if err := upload.Run(ctx, o.Options); err != nil {
		return &ExitError{upload.ExitCode(err), err}
	}
	return nil
}

// serveMetrics serves the metrics, and the profiles if the flag is set, until stop is called.
func (o uploadOptions) serveMetrics(ctx context.Context, registry *prometheus.Registry) (stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.metricsListen)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w; choose another --metrics-listen", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, o.trace.MetricsOptions()))
	o.pprof.AddHandlers(mux)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			NewLogger().Error("metrics are not served any more", "error", err)
		}
	}()
	return func() {
		_ = server.Close()
		<-ended
	}, nil
}
