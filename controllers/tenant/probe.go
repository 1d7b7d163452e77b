package tenant

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// probe asks the Tenant's bucket. It comes after the configs are written: a store that is away must not keep webhooks out.
func (r *Reconciler) probe(ctx context.Context, s *scope) error {
	key := probeKey(s.upload)
	if !r.probes.fresh(s.tenant.ID(), key) {
		leave, err := r.stores.enter(ctx, s.tenant.Namespace)
		if err != nil {
			return err
		}
		defer leave()
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := r.Buckets.Probe(ctx, s.upload); err != nil {
			r.probes.forget(s.tenant.ID())
			return unreachable(s, err)
		}
		r.probes.keep(s.tenant.ID(), key)
	}
	s.requeueAfter = reprobe
	conditions.Set(s.tenant, v1alpha1.ConditionStorageReachable, metav1.ConditionTrue, v1alpha1.ReasonBucketReachable,
		"bucket "+s.upload.Bucket+" answered with the Tenant's credentials")
	return nil
}

// unreachable tells what the probe found. An answer that only a person can change stalls the Tenant, and is asked again all
// the same, slowly, since the mend may lie on the store's side where no watch sees it.
func unreachable(s *scope, err error) error {
	v := &verdict{reason: v1alpha1.ReasonEndpointUnreachable, message: err.Error(), retry: 30 * time.Second}
	var p *objectstore.ProbeError
	if errors.As(err, &p) {
		v.reason, v.stalled = string(p.Reason), p.Stop
	}
	if v.stalled {
		v.retry = time.Minute
	}
	conditions.Set(s.tenant, v1alpha1.ConditionStorageReachable, metav1.ConditionFalse, v.reason, v.message)
	return v
}

func probeKey(u *tenantconfig.Upload) [32]byte {
	return sha256.Sum256([]byte(u.Endpoint + "\x00" + u.Region + "\x00" + u.Bucket + "\x00" + u.AccessKeyID.Reveal() + "\x00" + u.SecretAccessKey.Reveal()))
}

// probeCache remembers which buckets answered lately, so that not every reconcile asks. It holds one entry a Tenant.
type probeCache struct {
	mu   sync.Mutex
	good map[string]probed
}

type probed struct {
	key [32]byte
	at  time.Time
}

func (c *probeCache) fresh(id string, key [32]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.good[id]
	return ok && p.key == key && time.Since(p.at) < reprobe-time.Second
}

func (c *probeCache) keep(id string, key [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.good == nil {
		c.good = map[string]probed{}
	}
	c.good[id] = probed{key, time.Now()}
}

func (c *probeCache) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.good, id)
}

// S3 is the Buckets of tenants, asked for real.
type S3 struct {
	// Registry of breakers, so that a store that is away is not asked at every reconcile; nil asks each time, once.
	Registry *resilience.Registry
	// Transport to the stores; nil allows public ones alone.
	Transport *objectstore.Transport
}

func (s S3) do(ctx context.Context, u *tenantconfig.Upload, fn func(context.Context) error) error {
	if s.Registry == nil {
		return fn(ctx)
	}
	// By endpoint, so that the breaker which a wrong one opened is not in the way of the right one.
	return s.Registry.Do(ctx, u.ID+" "+u.Endpoint, "s3", fn)
}

// Probe asks the tenant's bucket.
func (s S3) Probe(ctx context.Context, u *tenantconfig.Upload) error {
	b, err := s.open(u)
	var refused *objectstore.PolicyError
	if errors.As(err, &refused) {
		return objectstore.NotAllowed(refused)
	}
	if err != nil {
		return err
	}
	return s.do(ctx, u, func(ctx context.Context) error {
		err := b.Probe(ctx)
		var p *objectstore.ProbeError
		if errors.As(err, &p) && p.Reason == objectstore.EndpointUnreachable { // the Tenant's author must not learn why
			log.FromContext(ctx).Info("a Tenant's store does not answer", "tenant", u.ID, "endpoint", u.Endpoint, "cause",
				objectstore.Detail(err))
		}
		return err
	})
}

// DeletePrefix removes the objects below a prefix, and the uploads that were never finished there. It returns
// objectstore.ErrUnfinished if it must be called again.
func (s S3) DeletePrefix(ctx context.Context, u *tenantconfig.Upload, prefix string) error {
	b, err := s.open(u)
	if err != nil {
		return err
	}
	return s.do(ctx, u, func(ctx context.Context) error {
		if err := b.AbortIncomplete(ctx, prefix); err != nil {
			return err
		}
		_, err := b.DeletePrefix(ctx, prefix)
		return err
	})
}

func (s S3) open(u *tenantconfig.Upload) (*objectstore.Bucket, error) {
	return objectstore.New(objectstore.Config{
		Endpoint:        u.Endpoint,
		Region:          u.Region,
		Bucket:          u.Bucket,
		AccessKeyID:     u.AccessKeyID.Reveal(),
		SecretAccessKey: u.SecretAccessKey.Reveal(),
	}, s.Transport)
}
