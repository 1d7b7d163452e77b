// Package upload is the upload pod: it drains one tenant's queue of recordings, from Exotel to the tenant's bucket, without
// touching a disk, and ends.
//
// A recording is reported as uploaded only when the object in the bucket was seen to be the source's, byte for byte. The
// object's key is the same at every try, so that whatever a crash leaves behind is overwritten by the next one.
package upload

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/caly-dev/caly/internal/metric"
	"github.com/caly-dev/caly/internal/netguard"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Run works until the queue is idle, which is success, until ctx ends, which is errTerminated, or until the tenant's
// bucket, source or database stays unreachable: see ExitCode.
func Run(ctx context.Context, o Options) error {
	o = o.withDefaults()
	cfg, err := readConfig(o.ConfigPath)
	if err != nil {
		return &configError{err}
	}
	db, err := openQueue(ctx, o, cfg)
	if err != nil {
		return err
	}
	defer db.Close()
	if o.Metrics != nil {
		o.Metrics.MustRegister(metric.NewPools(map[string]metric.Pool{"upload": db}))
	}
	return runWith(ctx, o, cfg, db)
}

// openQueue opens the database, and waits for it as long as a run waits for a database that is lost.
func openQueue(ctx context.Context, o Options, cfg *tenantconfig.Upload) (db *store.Upload, err error) {
	patient, cancel := context.WithTimeout(ctx, o.DatabasePatience)
	defer cancel()
	err = store.Await(patient, o.Log.With("tenant", cfg.ID), func(ctx context.Context) (err error) {
		db, err = store.OpenUpload(ctx, cfg.DatabaseURL.Reveal(), store.Options{
			MaxConns: store.ConnectionsOfUploadPod,
		})
		return err
	})
	switch {
	case err == nil:
		return db, nil
	case ctx.Err() != nil:
		return nil, errTerminated
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrSchema), patient.Err() != nil:
		return nil, err // a migration may be in progress
	}
	return nil, &configError{err}
}

func readConfig(path string) (*tenantconfig.Upload, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the operator's own flag
	if err != nil {
		return nil, fmt.Errorf("read the upload config: %w; the pod must mount the tenant's Secret there", err)
	}
	cfg, err := tenantconfig.DecodeUpload(data)
	if err != nil {
		return nil, fmt.Errorf("upload config: %w", err)
	}
	return cfg, nil
}

func runWith(ctx context.Context, o Options, cfg *tenantconfig.Upload, db queue) error {
	s3 := objectstore.NewTransport(o.Stores, o.Concurrency)
	defer s3.CloseIdleConnections()
	store := cfg.Config()
	store.Buffers = o.Concurrency
	if cfg.Temporary != nil {
		store.Current = newKeys(o, cfg).current
	}
	b, err := objectstore.New(store, s3)
	if err != nil {
		return &configError{err}
	}
	guarded := netguard.NewTransport(o.AllowedCIDRs, o.Stores.Egress, o.Concurrency)
	defer guarded.CloseIdleConnections()
	worker := newWorker(o, cfg, db)
	policy := recording.SourcePolicy{
		Hosts:        cfg.AllowedSourceHosts,
		AllowHTTP:    o.AllowHTTP,
		AllowedCIDRs: o.AllowedCIDRs,
	}
	src := newSource(cfg, policy, guarded, o.Registry, o.SourceStall)
	src.resumed = worker.metrics.resumes.Inc
	lanes := newLanes()
	defer lanes.close()
	worker.mover = &mover{
		cfg:          cfg,
		source:       src,
		bucket:       b,
		lanes:        lanes,
		registry:     o.Registry,
		maxSize:      o.MaxSize,
		storageStall: o.StorageStall,
		mark:         func(ctx context.Context, id string) error { return db.MarkUploadStarted(ctx, o.Owner, id) },
	}
	return worker.run(ctx)
}
