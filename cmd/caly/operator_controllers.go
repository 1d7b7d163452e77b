package main

import (
	"fmt"
	"net/netip"
	"time"

	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/controllers/backfill"
	"github.com/caly-dev/caly/controllers/callrecording"
	"github.com/caly-dev/caly/controllers/diagnosis"
	"github.com/caly-dev/caly/controllers/intake"
	keyringctl "github.com/caly-dev/caly/controllers/keyring"
	"github.com/caly-dev/caly/controllers/retention"
	"github.com/caly-dev/caly/controllers/tenant"
	"github.com/caly-dev/caly/controllers/tenantmetrics"
	"github.com/caly-dev/caly/dataplane/stream/bridge"
	adminserver "github.com/caly-dev/caly/internal/adminapi/server"
	"github.com/caly-dev/caly/internal/buildinfo"
	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/netguard"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// operatorParts has what the controllers of the operator share.
type operatorParts struct {
	operatorOptions
	mgr      ctrl.Manager
	db       *store.Operator
	registry *resilience.Registry
	// cidrs are the private ranges that recordings may be fetched from.
	cidrs    []netip.Prefix
	storage  objectstore.Policy
	recorder events.EventRecorder
	configs  *tenant.ConfigList
}

// addControllers adds the controllers, and what else runs on the leader.
func addControllers(
	mgr ctrl.Manager, db *store.Operator, o operatorOptions, cidrs []netip.Prefix, registry *resilience.Registry,
) error {
	storage, err := o.storage.Policy()
	if err != nil {
		return err
	}
	p := &operatorParts{
		operatorOptions: o,
		mgr:             mgr,
		db:              db,
		registry:        registry,
		cidrs:           cidrs,
		storage:         storage,
		recorder:        mgr.GetEventRecorder("caly-operator"),
		configs: &tenant.ConfigList{
			Client:        mgr.GetClient(),
			APIReader:     mgr.GetAPIReader(),
			WorkNamespace: o.workNamespace,
		},
	}
	for _, add := range []func() error{
		p.addTenants, p.addUploads, p.addRecordings, p.addBackfill, p.addTenantMetrics, p.addRunnables, p.addAdminAPI,
	} {
		if err := add(); err != nil {
			return err
		}
	}
	return nil
}

// addTenants adds the controller that compiles Tenants.
func (p *operatorParts) addTenants() error {
	hosts, err := tenantconfig.ParseHostPatterns(p.publicURL, p.platformHosts)
	if err != nil {
		return cli.UsageError(nil, fmt.Errorf("--platform-hosts: %w", err))
	}
	return (&tenant.Reconciler{
		Client:    p.mgr.GetClient(),
		APIReader: p.mgr.GetAPIReader(),
		Recorder:  p.recorder,
		Store:     p.db,
		Buckets: tenant.S3{
			Registry:  p.registry,
			Transport: objectstore.NewTransport(p.storage, 8),
		},
		WorkNamespace:   p.workNamespace,
		UploadNamespace: p.uploadNamespace,
		PublicURL:       p.publicURL,
		PlatformHosts:   hosts,
		Ceilings:        p.ceilings(),
		SecretLabel:     p.secretLabel,
		Configs:         p.configs,
		Identities:      p.identities(p.mgr),
		Accounts: tenant.ExotelAccounts{
			Registry:     p.registry,
			Transport:    netguard.NewTransport(p.cidrs, p.storage.Egress, 8),
			TrustedHosts: p.trustedExotelHosts,
			AllowHTTP:    p.allowHTTP,
		},
	}).SetupWithManager(p.mgr)
}

// addUploads adds the controller that keeps upload Jobs.
func (p *operatorParts) addUploads() error {
	template, err := podTemplate(p.uploadPodTemplate)
	if err != nil {
		return err
	}
	return p.uploadJobs(p.mgr, p.db, template).SetupWithManager(p.mgr)
}

// sources is what the platform allows recordings to be fetched from.
func (p *operatorParts) sources() recording.SourcePolicy {
	return recording.SourcePolicy{AllowHTTP: p.allowHTTP, AllowedCIDRs: p.cidrs}
}

// addRecordings adds the controller that mirrors recordings into CallRecordings.
func (p *operatorParts) addRecordings() error {
	return (&callrecording.Reconciler{
		Client:          p.mgr.GetClient(),
		Recorder:        p.recorder,
		Store:           p.db,
		Sources:         p.sources(),
		MaxPerNamespace: intake.PerNamespace(p.maxViews),
	}).SetupWithManager(p.mgr)
}

// addBackfill adds the controller that asks Exotel for calls without webhooks.
func (p *operatorParts) addBackfill() error {
	return (&backfill.Reconciler{
		Client:      p.mgr.GetClient(),
		APIReader:   p.mgr.GetAPIReader(),
		Recorder:    p.recorder,
		Store:       p.db,
		Registry:    p.registry,
		Sources:     p.sources(),
		Transport:   netguard.NewTransport(p.cidrs, p.storage.Egress, 8),
		Metrics:     backfill.NewMetrics(metrics.Registry),
		Tracer:      p.tracer,
		SecretLabel: p.secretLabel,
		MinInterval: p.minBackfillInterval,
	}).SetupWithManager(p.mgr)
}

// addTenantMetrics adds what exports the backlog and the outcomes of all tenants.
func (p *operatorParts) addTenantMetrics() error {
	exporter := tenantmetrics.New(p.mgr.GetClient(), p.db, tenantmetrics.Options{
		MaxTenants: p.maxMetricTenants,
		Words:      endingWords(),
	})
	if err := metrics.Registry.Register(exporter); err != nil {
		return err
	}
	return p.mgr.Add(exporter)
}

// addAdminAPI adds the admin API, which every replica serves.
func (p *operatorParts) addAdminAPI() error {
	if p.adminPort == 0 {
		return nil
	}
	return p.mgr.Add(adminserver.New(adminserver.Options{
		Port:       p.adminPort,
		Client:     p.mgr.GetClient(),
		Reader:     p.mgr.GetAPIReader(),
		Store:      p.db,
		Namespaces: p.watchNamespaces,
		Sources:    p.sources(),
		Doctor:     p.diagnosis(),
		Version:    buildinfo.Of(version),
	}))
}

// diagnosis returns the checks that the operator makes for `kubectl caly doctor`. They have no circuit breaker: an open one
// would hide what is asked for.
func (p *operatorParts) diagnosis() *diagnosis.Diagnosis {
	return &diagnosis.Diagnosis{
		Client:          p.mgr.GetClient(),
		Reader:          p.mgr.GetAPIReader(),
		Store:           p.db,
		Buckets:         tenant.S3{Transport: objectstore.NewTransport(p.storage, 1), Key: recording.DoctorKey},
		HTTP:            netguard.NewTransport(p.cidrs, p.storage.Egress, 1),
		UploadNamespace: p.uploadNamespace,
		WorkNamespace:   p.workNamespace,
		Namespaces:      p.watchNamespaces,
		Now:             time.Now,
	}
}

// endingWords returns the codes and reasons that metrics of tenants count by name.
func endingWords() store.EndingWords {
	words := store.EndingWords{
		Recordings: reason.Uploads(),
		Captures:   reason.Captures(),
		Streams:    []string{reason.StreamFailed},
	}
	for _, r := range objectstore.Reasons() {
		words.Recordings = append(words.Recordings, reason.Storage(string(r)))
	}
	for _, r := range bridge.Reasons() {
		words.Streams = append(words.Streams, string(r))
	}
	return words
}

// addRunnables adds what runs on the leader without an object that wakes it.
func (p *operatorParts) addRunnables() error {
	for _, runnable := range []manager.Runnable{
		p.configs,
		&tenant.PartialCounter{Client: p.mgr.GetClient(), Store: p.db},
		&intake.Intake{
			Client:       p.mgr.GetClient(),
			Store:        p.db,
			MaxTotal:     p.maxViews,
			MaxPerTenant: p.maxViewsPerTenant,
		},
		&keyringctl.Keeper{
			Client:        p.mgr.GetClient(),
			APIReader:     p.mgr.GetAPIReader(),
			WorkNamespace: p.workNamespace,
			Policy:        keyring.Policy{Period: p.signingKeyPeriod},
			Metrics:       keyringctl.NewMetrics(metrics.Registry),
		},
		keepPartitions(p.db),
		retention.New(p.db, metrics.Registry),
		&tenant.Sweeper{
			Client:          p.mgr.GetClient(),
			APIReader:       p.mgr.GetAPIReader(),
			Store:           p.db,
			WorkNamespace:   p.workNamespace,
			UploadNamespace: p.uploadNamespace,
			Configs:         p.configs,
			Every:           10 * time.Minute,
		},
	} {
		if err := p.mgr.Add(runnable); err != nil {
			return err
		}
	}
	return nil
}
