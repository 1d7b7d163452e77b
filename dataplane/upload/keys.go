package upload

import (
	"log/slog"
	"sync"
	"time"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// keys are the temporary credentials of the bucket. A run may last longer than they do.
type keys struct {
	path  string
	every time.Duration
	log   *slog.Logger

	mu   sync.Mutex
	cfg  *tenantconfig.Upload
	read time.Time
}

// newKeys returns the tenant's temporary storage keys, which are read again from the mounted file.
func newKeys(o Options, cfg *tenantconfig.Upload) *keys {
	return &keys{path: o.ConfigPath, every: o.RereadKeys, log: o.Log.With("tenant", cfg.ID), cfg: cfg, read: time.Now()}
}

// current returns the credentials of the upload config as it is now.
func (k *keys) current() objectstore.Keys {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); now.Sub(k.read) >= k.every {
		k.read = now
		k.reread()
	}
	return objectstore.Keys{
		AccessKeyID:     k.cfg.AccessKeyID.Reveal(),
		SecretAccessKey: k.cfg.SecretAccessKey.Reveal(),
		SessionToken:    k.cfg.SessionToken.Reveal(),
	}
}

// reread takes the credentials of the file. Those of another bucket are for the next run.
func (k *keys) reread() {
	cfg, err := readConfig(k.path)
	switch {
	case err != nil:
		k.log.Warn("the upload config cannot be read again; the run goes on with the credentials that it has",
			"error", err,
		)
	case cfg.Bucket == k.cfg.Bucket && cfg.Endpoint == k.cfg.Endpoint:
		k.cfg = cfg
	}
}
