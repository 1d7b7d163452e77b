package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/controllers/tenant"
	"github.com/caly-dev/caly/controllers/tenantmetrics"
	"github.com/caly-dev/caly/controllers/uploadjob"
	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/metric"
	"github.com/caly-dev/caly/internal/monitoring"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/secretlabel"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tracing"
)

type operatorOptions struct {
	databaseURLFile, publicURL           string
	workNamespace, uploadNamespace       string
	uploadImage, uploadPullPolicy        string
	uploadServiceAccount                 string
	uploadPodTemplate                    string
	metricsAddress, probeAddress         string
	leaderElect, allowHTTP               bool
	sourceCIDRs, watchNamespaces         []string
	identityAudiences                    []string
	platformHosts, trustedExotelHosts    []string
	maxViews, maxViewsPerTenant, maxPods int
	maxRecordingBytes                    int64
	signingKeyPeriod                     time.Duration
	storage                              cli.StorageFlags
	pprof                                cli.Pprof
	trace                                cli.TraceFlags
	tracer                               *tracing.Tracer // runOperator sets it; nil: no trace is made
	maxParallelism                       int
	maxStreamsPerTenant                  int
	maxMetricTenants                     int
	adminPort                            int
	minBackfillInterval                  time.Duration
	requireSecretLabel                   string
	secretLabel                          secretlabel.Label // runOperator: what requireSecretLabel stands for
}

func newOperatorCommand() *cobra.Command {
	var o operatorOptions
	cmd := &cobra.Command{
		Use:   "operator",
		Short: "Run the operator: compile Tenants, manage upload Jobs and CallRecordings",
		Args:  cli.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return runOperator(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.StringVar(
		&o.databaseURLFile, "database-url-file", "", "file with the operator's database URL (or CALY_DATABASE_URL)",
	)
	flags.StringVar(
		&o.workNamespace, "work-namespace", "caly-work", "namespace of the configs that the data plane reads",
	)
	flags.StringVar(&o.uploadNamespace, "upload-namespace", "caly-uploads",
		"namespace of upload configs and upload Jobs; the data plane must not be able to read it")
	flags.StringSliceVar(&o.watchNamespaces, "watch-namespaces", nil, "namespaces that Tenants live in (default: all)")
	flags.StringVar(&o.publicURL, "public-url", "https://localhost", "where Exotel reaches the data plane")
	flags.StringSliceVar(&o.platformHosts, "platform-hosts", nil,
		"hosts that no Tenant may have, in addition to that of --public-url; *.domain is every name below it")
	flags.StringSliceVar(&o.trustedExotelHosts, "trusted-exotel-hosts", nil,
		"hosts of exotel.apiBaseURL whose answers prove access to an account, in addition to Exotel's own")
	flags.StringVar(&o.uploadImage, "upload-image", "caly:dev", "image of the upload pods")
	flags.StringVar(&o.uploadPullPolicy, "upload-pull-policy", "IfNotPresent", "pull policy of the upload pods")
	flags.StringVar(
		&o.uploadServiceAccount,
		"upload-service-account",
		"caly-upload",
		"service account of the upload pods, without rights",
	)
	flags.StringVar(&o.uploadPodTemplate, "upload-pod-template", "",
		"file with a strategic merge patch of the upload pods' template: resources, placement, labels, environment")
	flags.StringVar(&o.metricsAddress, "metrics-bind-address", ":8080", "address for metrics")
	flags.StringVar(&o.probeAddress, "health-probe-bind-address", ":8081", "address for probes")
	flags.BoolVar(&o.leaderElect, "leader-elect", false, "elect a leader: only one of several replicas works at a time")
	flags.BoolVar(&o.allowHTTP, "allow-http-sources", false, "allow plain http for recordings and Exotel's API")
	flags.StringSliceVar(&o.sourceCIDRs, "allowed-source-cidrs", nil,
		"private address ranges that recordings and Exotel's API may be in")
	o.pprof.AddTo(flags, "--metrics-bind-address")
	o.storage.AddTo(flags)
	o.trace.AddTo(flags)
	flags.StringSliceVar(&o.identityAudiences, "web-identity-audiences", nil,
		"audiences that Tenants may ask for in tokens of ServiceAccounts, such as sts.amazonaws.com; never one of the "+
			"API server's; empty: no Tenant may use web identity")
	flags.IntVar(&o.maxViews, "max-callrecordings", 2000,
		"bound on CallRecordings in the cluster; one namespace may have three quarters of them")
	flags.IntVar(&o.maxViewsPerTenant, "max-callrecordings-per-tenant", 500, "bound on CallRecordings of one tenant")
	flags.Int64Var(&o.maxRecordingBytes, "max-recording-bytes", 1<<30, "largest recording that is uploaded")
	flags.IntVar(&o.maxPods, "max-upload-pods", 64, "bound on upload pods of all tenants")
	flags.IntVar(&o.maxParallelism, "max-parallelism", 0,
		"bound on the upload pods of one tenant, whatever its Tenant says (default: a quarter of --max-upload-pods)")
	flags.IntVar(&o.maxStreamsPerTenant, "max-streams-per-tenant", 10_000,
		"bound on the audio streams of one tenant over all pods, whatever its Tenant says; 0 means unlimited")
	flags.IntVar(&o.maxMetricTenants, "metrics-max-tenants", tenantmetrics.DefaultMaxTenants,
		"how many tenants have series of their own in the operator's metrics; the others are one, named other")
	flags.IntVar(&o.adminPort, "admin-port", 0,
		"port of the admin API of kubectl caly, on the loopback addresses only; 0: no admin API")
	flags.DurationVar(&o.minBackfillInterval, "min-backfill-interval", 5*time.Minute,
		"bound on the time between two backfills of one tenant, whatever its Tenant says; 0 means no bound")
	flags.DurationVar(&o.signingKeyPeriod, "signing-key-period", keyring.DefaultPeriod,
		"how long a key signs access tokens before it is rotated")
	flags.StringVar(&o.requireSecretLabel, "require-secret-label", secretlabel.Auto,
		"label key=value that a Secret needs before a Tenant may name it; none: no label; auto: "+
			secretlabel.Default.String()+" unless the installation had Tenants before this setting existed")
	return cmd
}

// runOperator runs the controllers until ctx is done or one of them fails.
func runOperator(ctx context.Context, o operatorOptions) error {
	ctrl.SetLogger(logr.FromSlogHandler(cli.NewLogger().Handler()))
	cidrs, err := cli.ParseCIDRs("allowed-source-cidrs", o.sourceCIDRs)
	if err != nil {
		return err
	}
	if _, err := o.storage.Policy(); err != nil {
		return err
	}
	if err := (keyring.Policy{Period: o.signingKeyPeriod}).Check(); err != nil {
		return cli.UsageError(nil, fmt.Errorf("--signing-key-period: %w", err))
	}
	if o.maxParallelism < 0 || o.maxStreamsPerTenant < 0 {
		return cli.UsageError(nil, errors.New("--max-parallelism and --max-streams-per-tenant must not be negative"))
	}
	if o.maxMetricTenants < 0 {
		return cli.UsageError(nil, errors.New("--metrics-max-tenants must not be negative"))
	}
	if o.adminPort < 0 || o.adminPort > 65535 {
		return cli.UsageError(nil, errors.New("--admin-port must be between 0 and 65535"))
	}
	if o.minBackfillInterval < 0 || o.minBackfillInterval > 24*time.Hour {
		return cli.UsageError(nil, errors.New("--min-backfill-interval must be between 0s and 24h"))
	}
	dsn, err := databaseURL(o.databaseURLFile)
	if err != nil {
		return err
	}
	var db *store.Operator
	err = awaitDatabase(ctx, cli.NewLogger(), o.serveWaiting, func(ctx context.Context) (err error) {
		db, err = store.OpenOperator(ctx, dsn, store.Options{})
		return err
	})
	if ctx.Err() != nil {
		return nil // terminated while it waited
	}
	if err != nil {
		return err
	}
	defer db.Close()
	registry := resilience.NewRegistry(resilience.Options{}, nil) // its counts are part of the statistics
	stats := monitoring.NewRetryStats(db, registry)
	for _, c := range append(databaseMetrics(db), stats,
		metric.NewBuildInfo(version), metric.NewPools(map[string]metric.Pool{"operator": db})) {
		if err := metrics.Registry.Register(c); err != nil {
			return err
		}
	}
	traces, stopTraces, err := o.trace.Start(cli.TraceTarget{
		Service: "caly-operator",
		Version: version,
		Metrics: metrics.Registry,
		Log:     cli.NewLogger(),
	})
	if err != nil {
		return err
	}
	defer stopTraces()
	o.tracer = traces.Tracer()
	checkRoles(ctx, db)
	if o.secretLabel, err = secretLabel(ctx, db, o.requireSecretLabel); err != nil {
		return err
	}
	mgr, err := newManager(o, stats)
	if err != nil {
		return err
	}
	if err := mgr.Add(stats); err != nil {
		return err
	}
	if err := addControllers(mgr, db, o, cidrs, registry); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// checkRoles repairs what it may of the database's roles, and logs what an administrator has to do: the conditions of
// the Tenants report it only once a role has to change.
func checkRoles(ctx context.Context, db *store.Operator) {
	problems, err := db.RepairRoles(ctx)
	if err != nil {
		ctrl.Log.Error(err, "the database's roles were not checked")
	}
	for _, problem := range problems {
		ctrl.Log.Error(errors.New(problem), "the database's owner lacks privileges")
	}
}

// secretLabel returns the label that Secrets of Tenants need, and logs it: what "auto" stands for is in the database.
func secretLabel(ctx context.Context, db *store.Operator, setting string) (secretlabel.Label, error) {
	label, err := secretlabel.Resolve(ctx, setting, db.RequireLabels)
	if err != nil {
		return label, cli.UsageError(nil, fmt.Errorf("--require-secret-label: %w", err))
	}
	if label == (secretlabel.Label{}) {
		ctrl.Log.Info("a Tenant may name every Secret of its namespace; set --require-secret-label to change that",
			"label", secretlabel.Default.String())
		return label, nil
	}
	ctrl.Log.Info("a Tenant may name only Secrets with the required label", "label", label.String())
	return label, nil
}

// newManager returns a manager with leader election, health checks and the cache's selectors.
func newManager(o operatorOptions, stats http.Handler) (ctrl.Manager, error) {
	cfg, err := ctrl.GetConfig()
	if err != nil {
		return nil, err
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	extra := map[string]http.Handler{monitoring.RetryStatsPath: stats}
	maps.Copy(extra, o.pprof.Handlers())
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme:                        scheme,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              "caly-operator",
		LeaderElectionReleaseOnCancel: true,
		Metrics: server.Options{
			BindAddress:   o.metricsAddress,
			ExtraHandlers: extra,
		},
		HealthProbeBindAddress: o.probeAddress,
		Cache:                  cacheOptions(o),
		// Secrets are other people's: they are read when needed and never kept.
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	if err != nil {
		return nil, err
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, err
	}
	return mgr, mgr.AddReadyzCheck("ping", healthz.Ping)
}

// cacheOptions narrow the caches to where Tenants live, and that of Jobs to the upload namespace.
func cacheOptions(o operatorOptions) cache.Options {
	options := cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&batchv1.Job{}: {Namespaces: map[string]cache.Config{o.uploadNamespace: {}}},
		},
	}
	for _, ns := range o.watchNamespaces {
		if options.DefaultNamespaces == nil {
			options.DefaultNamespaces = map[string]cache.Config{}
		}
		options.DefaultNamespaces[ns] = cache.Config{}
	}
	return options
}

// identities returns what obtains temporary credentials; nil unless the platform enables it.
func (o operatorOptions) identities(mgr ctrl.Manager) *tenant.Identities {
	if len(o.identityAudiences) == 0 {
		return nil
	}
	i := &tenant.Identities{Audiences: o.identityAudiences, Client: mgr.GetClient(), Config: mgr.GetConfig()}
	i.Metrics = tenant.NewIdentityMetrics(metrics.Registry, i)
	return i
}

// uploadJobs returns the reconciler of upload Jobs.
func (o operatorOptions) uploadJobs(
	mgr ctrl.Manager, db *store.Operator, template uploadjob.PodTemplate,
) *uploadjob.Reconciler {
	return &uploadjob.Reconciler{
		Client:            mgr.GetClient(),
		Store:             db,
		UploadNamespace:   o.uploadNamespace,
		Image:             o.uploadImage,
		PullPolicy:        corev1.PullPolicy(o.uploadPullPolicy),
		ServiceAccount:    o.uploadServiceAccount,
		PodTemplate:       template,
		AllowHTTP:         o.allowHTTP,
		SourceCIDRs:       o.sourceCIDRs,
		AllowHTTPStorage:  o.storage.AllowHTTP,
		StorageCIDRs:      o.storage.CIDRs,
		EgressProxy:       o.storage.EgressProxy,
		EgressNoProxy:     o.storage.EgressNoProxy,
		TraceEndpoint:     o.trace.Endpoint,
		MaxRecordingBytes: o.maxRecordingBytes,
		MaxPods:           o.podsOfAll(),
		MaxPerTenant:      o.podsOfOne(),
	}
}

// ceilings returns the platform's bounds on limits that Tenants set.
func (o operatorOptions) ceilings() tenant.Ceilings {
	return tenant.Ceilings{
		MaxParallelism:      uploadjob.Ceiling(o.podsOfAll(), o.podsOfOne()),
		MaxStreams:          int32(min(o.maxStreamsPerTenant, 1_000_000)), //nolint:gosec // bounded here
		MinBackfillInterval: o.minBackfillInterval,
	}
}

// podsOfAll is the bound on upload pods of all tenants.
func (o operatorOptions) podsOfAll() int32 { return int32(min(o.maxPods, 10_000)) } //nolint:gosec // bounded here

// podsOfOne is the bound on upload pods of one tenant; 0 means a share of podsOfAll.
func (o operatorOptions) podsOfOne() int32 {
	return int32(min(o.maxParallelism, 10_000)) //nolint:gosec // bounded here
}

// podTemplate reads the template of upload pods; without a file it changes nothing.
func podTemplate(file string) (uploadjob.PodTemplate, error) {
	if file == "" {
		return uploadjob.PodTemplate{}, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return uploadjob.PodTemplate{}, cli.UsageError(nil, fmt.Errorf("--upload-pod-template: %w", err))
	}
	t, err := uploadjob.ParsePodTemplate(data)
	if err != nil {
		return t, cli.UsageError(nil, fmt.Errorf("--upload-pod-template %s: %w", file, err))
	}
	return t, nil
}

// keepPartitions makes the history's partitions of the coming months, at once and then every day.
func keepPartitions(db *store.Operator) manager.RunnableFunc {
	return func(ctx context.Context) error {
		wait.UntilWithContext(ctx, func(ctx context.Context) {
			if err := db.EnsureHistoryPartitions(ctx, 3); err != nil && ctx.Err() == nil {
				log.FromContext(ctx).Error(
					err,
					"make the partitions of the history; tried again tomorrow, rows go to the default one until then",
				)
			}
		}, 24*time.Hour)
		return nil
	}
}
