package tenant

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Waits between two checks of a bucket.
const (
	// reprobe is the wait between two checks.
	reprobe = 5 * time.Minute
	// rewriteKept is the wait between two writes to a bucket that keeps what the check has written, and rewriteFailed
	// that after a write for whose failure only a person can help. During an outage the wait doubles from rewriteFirst
	// to rewriteLast.
	rewriteKept   = 24 * time.Hour
	rewriteFailed = 15 * time.Minute
	rewriteFirst  = time.Minute
	rewriteLast   = time.Hour
	// rejudge is the wait between two decisions on the checksum. A store that is upgraded may support a better one.
	rejudge = 24 * time.Hour
	// probeWithin bounds one check: 10 requests, or 24 to decide on the checksum of the worst bucket.
	probeWithin = 30 * time.Second
)

// probe checks the Tenant's bucket. It comes after the configs are written: a store that is down must not keep webhooks
// out.
func (r *Reconciler) probe(ctx context.Context, s *scope) error {
	last, err := r.look(ctx, s)
	switch {
	case abandoned(err), ctx.Err() != nil:
		return err
	case err != nil:
		return r.unreachable(s, err)
	}
	conditions.Set(s.tenant, v1alpha1.ConditionStorageReachable, metav1.ConditionTrue, v1alpha1.ReasonBucketReachable,
		last.message(s.upload))
	return r.storeFinding(ctx, s, last.found)
}

// look returns the last check of the bucket, after another one if its time has come.
func (r *Reconciler) look(ctx context.Context, s *scope) (probed, error) {
	key := probeKey(s.upload)
	last := r.probes.get(s.tenant.ID(), key)
	if time.Since(last.at) < reprobe-time.Second {
		return last, nil
	}
	leave, err := r.stores.enter(ctx, s.tenant.Namespace)
	if err != nil {
		return last, err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	if last, err = r.ask(ctx, s, last); err != nil {
		last.at = time.Time{} // the bucket is asked again, but what it keeps is not forgotten
	}
	r.probes.keep(s.tenant.ID(), key, last)
	return last, err
}

// ask checks the bucket, by writing to it unless it keeps what is written and was written to a short time ago.
func (r *Reconciler) ask(ctx context.Context, s *scope, last probed) (probed, error) {
	now := time.Now()
	if last.found.Kept != "" {
		if next, done, err := r.askAgain(ctx, s, last, now); done {
			return next, err
		}
	}
	upload, judged := last.judgement(s, now)
	found, err := r.Buckets.Probe(ctx, upload, true)
	next := probed{at: now, wrote: now, judged: judged, found: found, failed: err}
	switch {
	case err != nil && found.Kept != "":
		next.failures = last.failures + 1
	case err != nil && last.found.Kept != "": // nothing was written, and what was written before is still there
		next.wrote = last.wrote
		next.failed = last.failed
		next.failures = last.failures
		next.found.Kept = last.found.Kept
		next.found.Written = last.found.Written
	}
	if found.Checksum == "" { // the check failed before it knew
		next.judged = last.judged
		next.found.Checksum = last.found.Checksum
	}
	return next, err
}

// askAgain checks a bucket that keeps what a check has written, without another write. It is not done if the time for
// one has come.
func (r *Reconciler) askAgain(
	ctx context.Context, s *scope, last probed, now time.Time,
) (_ probed, done bool, _ error) {
	age := now.Sub(last.wrote)
	switch {
	case last.failed == nil && age < rewriteKept:
		last.at = now
		_, err := r.Buckets.Probe(ctx, s.upload, false)
		return last, true, err
	case stops(last.failed) && age < rewriteFailed:
		return last, true, last.failed
	case last.failed == nil || stops(last.failed) || age >= rewriteKept:
		return last, false, nil
	}
	if last.found.Written != "" {
		same, err := r.Buckets.ReadBack(ctx, s.upload, last.found.Written)
		if same {
			last.at = now
			last.failed = nil
			last.failures = 0
		}
		if same || err != nil { // a write would fail too
			return last, true, err
		}
	}
	return last, age < last.rewriteAfter(), last.failed
}

// rewriteAfter is the wait after the failures that the last writes had one after another.
func (p probed) rewriteAfter() time.Duration {
	return min(rewriteFirst<<min(max(p.failures-1, 0), 10), rewriteLast)
}

// judgement returns the bucket with the checksum that is known of it, and when that was decided. The bucket has none,
// and the time is now, if it must be decided. After a start the status has the last one, but not its time. A random
// time of the last day spreads the Tenants over the next day.
func (p probed) judgement(s *scope, now time.Time) (*tenantconfig.Upload, time.Time) {
	upload := *s.upload
	if p.found.Checksum != "" {
		upload.Checksum = p.found.Checksum // the status has none of a check that failed
	}
	judged := p.judged
	if judged.IsZero() && upload.Checksum != "" && checked(s.tenant) {
		judged = now.Add(-rand.N(rejudge)) //nolint:gosec // it spreads load
	}
	if now.Sub(judged) >= rejudge {
		upload.Checksum = ""
		judged = now
	}
	return &upload, judged
}

// checked reports whether the last check of the Tenant's bucket passed, with the spec that the Tenant has now.
func checked(t *v1alpha1.Tenant) bool {
	condition := find(t, v1alpha1.ConditionStorageReachable)
	return condition != nil && condition.Status == metav1.ConditionTrue && condition.ObservedGeneration == t.Generation
}

// stops reports whether an error is an answer of the store that only a person can change.
func stops(err error) bool {
	var p *objectstore.ProbeError
	return errors.As(err, &p) && p.Stop
}

// storeFinding publishes the checksum that the bucket supports, if the pods do not have it yet.
func (r *Reconciler) storeFinding(ctx context.Context, s *scope, found objectstore.Finding) error {
	s.tenant.Status.Storage = &v1alpha1.StorageStatus{
		Endpoint: s.upload.Endpoint,
		Bucket:   s.upload.Bucket,
		Checksum: string(found.Checksum),
	}
	if s.upload.Checksum == found.Checksum {
		return nil
	}
	s.upload.Checksum = found.Checksum
	r.shareStorage(s)
	return r.apply(ctx, s)
}

// rememberChecksum sets the checksum that the last check found, if the status has none. A reconcile soon after the first
// check may have a status from before it, and would publish a config without the checksum for a moment.
func (r *Reconciler) rememberChecksum(s *scope) {
	if s.upload.Checksum == "" {
		s.upload.Checksum = r.probes.get(s.tenant.ID(), probeKey(s.upload)).found.Checksum
	}
}

// unreachable reports what the probe found. An answer that only a person can change stalls the Tenant. The probe still
// runs again, slowly, because the correction may happen in the store, where no watch sees it.
func (r *Reconciler) unreachable(s *scope, err error) error {
	stop := reconcile.Retry(30*time.Second, v1alpha1.ReasonEndpointUnreachable, "%v", err)
	var p *objectstore.ProbeError
	if errors.As(err, &p) {
		stop.Reason = string(p.Reason)
	}
	if p != nil && p.Stop {
		stop = reconcile.Stalled(stop.Reason, "%s", stop.Message).Again(time.Minute)
	}
	if s.temporary != nil && stop.Reason == v1alpha1.ReasonCredentialsExpired {
		r.Identities.doubt(s.tenant.ID(), r.now())
	}
	conditions.Set(s.tenant, v1alpha1.ConditionStorageReachable, metav1.ConditionFalse, stop.Reason, stop.Message)
	return stop
}

// probeKey identifies all that a check depends on, but for the checksum that it finds out.
func probeKey(u *tenantconfig.Upload) [32]byte {
	st := u.Storage
	st.Checksum = ""
	if st.Temporary != nil { // a renewal is not a reason to check the bucket
		st.AccessKeyID = ""
		st.SecretAccessKey = ""
		st.SessionToken = ""
		st.Temporary = &tenantconfig.Temporary{Identity: st.Temporary.Identity}
	}
	data, err := json.Marshal(st) //nolint:gosec // only its digest is kept
	if err != nil {
		return [32]byte{} // unreachable: the type holds nothing that cannot be encoded
	}
	return sha256.Sum256(data)
}

// probeCache remembers what the buckets answered last, so that not every reconcile asks. It holds one entry a Tenant.
type probeCache struct {
	mu   sync.Mutex
	good map[string]probed
}

// probed is the last check of a bucket.
type probed struct {
	key [32]byte
	// at is when it passed; zero if it must be repeated. wrote is when it wrote last, and judged when it decided on the
	// checksum.
	at, wrote, judged time.Time
	found             objectstore.Finding
	// failed is the fault of the last check with a write, and failures how many such checks in a row have failed and
	// left something.
	failed   error
	failures int
}

// message says what was done, and what the bucket did not let be done.
func (p probed) message(u *tenantconfig.Upload) string {
	if p.found.Kept != "" {
		return fmt.Sprintf("wrote to bucket %s with the Tenant's credentials and read it back; the bucket keeps %s: %s",
			u.Bucket,
			recording.ProbeKey(u.ID), p.found.Kept)
	}
	return fmt.Sprintf("wrote to bucket %s with the Tenant's credentials, read it back and deleted it", u.Bucket)
}

// get returns the last check with this key; the zero value if there is none.
func (c *probeCache) get(id string, key [32]byte) probed {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.good[id]; p.key == key {
		return p
	}
	return probed{}
}

// keep stores a good result, for as long as the compiled storage settings stay the same.
func (c *probeCache) keep(id string, key [32]byte, p probed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.good == nil {
		c.good = map[string]probed{}
	}
	p.key = key
	c.good[id] = p
}

// forget drops the result of a Tenant, so that its next reconcile probes again.
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
	// Key returns the key that is written to, by the Tenant's ID; nil: recording.ProbeKey.
	Key func(tenantID string) string
}

// key returns the key that is written to.
func (s S3) key(u *tenantconfig.Upload) string {
	if s.Key != nil {
		return s.Key(u.ID)
	}
	return recording.ProbeKey(u.ID)
}

// do runs fn under the circuit breaker of the Tenant and the store's endpoint; without a Registry there is none.
func (s S3) do(ctx context.Context, u *tenantconfig.Upload, fn func(context.Context) error) error {
	if s.Registry == nil {
		return fn(ctx)
	}
	// By endpoint, so that the breaker which a wrong one opened is not in the way of the right one.
	return s.Registry.Do(ctx, u.ID+" "+u.Endpoint, "s3", fn)
}

// Probe asks the tenant's bucket for a list of its objects and, with write, does what uploads do, and returns what it
// found out.
func (s S3) Probe(ctx context.Context, u *tenantconfig.Upload, write bool) (found objectstore.Finding, err error) {
	err = s.probe(ctx, u, func(ctx context.Context, b *objectstore.Bucket) error {
		err := b.Probe(ctx)
		if err == nil && write {
			found, err = b.ProbeWrite(ctx, s.key(u))
		}
		if found.Kept != "" { // another try would leave more
			return resilience.Abort(err)
		}
		return err
	})
	return found, err // after the call has set it
}

// ReadBack reports whether the tenant's bucket still has what a probe has written, by the digest of its Finding.
func (s S3) ReadBack(ctx context.Context, u *tenantconfig.Upload, written string) (same bool, err error) {
	err = s.probe(ctx, u, func(ctx context.Context, b *objectstore.Bucket) (err error) {
		same, err = b.ProbeRead(ctx, s.key(u), written)
		return err
	})
	return same, err // after the call has set it
}

// probe calls fn with the tenant's bucket, if the platform allows it.
func (s S3) probe(
	ctx context.Context, u *tenantconfig.Upload, fn func(context.Context, *objectstore.Bucket) error,
) error {
	b, err := s.open(u)
	if err == nil {
		err = s.Transport.CheckPublic(u.PublicEndpoint)
	}
	var refused *objectstore.PolicyError
	if errors.As(err, &refused) {
		return objectstore.NotAllowed(refused)
	}
	if err != nil {
		return err
	}
	return s.do(ctx, u, func(ctx context.Context) error {
		err := fn(ctx, b)
		var p *objectstore.ProbeError
		if errors.As(err, &p) && p.Reason == objectstore.EndpointUnreachable { // the Tenant's author must not learn why
			log.FromContext(ctx).Info("a Tenant's store does not answer",
				"tenant", u.ID,
				"endpoint", u.Endpoint,
				"cause", objectstore.Detail(err),
			)
		}
		return err
	})
}

// AssumeRole exchanges a token for temporary credentials at the STS that a Tenant names.
func (s S3) AssumeRole(
	ctx context.Context, tenantID string, w objectstore.WebIdentity,
) (key objectstore.TemporaryKey, err error) {
	exchange := func(ctx context.Context) (err error) {
		key, err = s.Transport.AssumeRole(ctx, w)
		return err
	}
	if s.Registry == nil {
		err = exchange(ctx)
	} else {
		err = s.Registry.Do(ctx, tenantID+" "+w.Endpoint, "sts", exchange)
	}
	var failed *objectstore.IdentityError
	if errors.As(err, &failed) && failed.Reason == objectstore.IdentityUnavailable { // see Probe
		text := "a Tenant's STS cannot issue credentials now"
		var none *objectstore.NoAnswerError
		if errors.As(err, &none) {
			text = "a Tenant's STS does not answer"
		}
		log.FromContext(ctx).Info(text, "tenant", tenantID, "endpoint", w.Endpoint, "cause", objectstore.Detail(err))
	}
	return key, err
}

// AllowsLinks reports whether the platform allows links to download recordings to name an endpoint.
func (s S3) AllowsLinks(endpoint string) bool { return s.Transport.CheckPublic(endpoint) == nil }

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
	return objectstore.New(u.Config(), s.Transport)
}
