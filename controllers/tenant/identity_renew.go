package tenant

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// exchangeWithin bounds one renewal: the token, and the tries at the STS.
const exchangeWithin = 45 * time.Second

// readIdentity finds the Tenant's temporary credentials: those that it has, or new ones once half of their lifetime is
// over. If these cannot be obtained it goes on with the old ones, even expired, so that other changes of the Tenant
// still reach the pods. Without any the reconcile ends.
func (r *Reconciler) readIdentity(ctx context.Context, s *scope) error {
	want, err := r.identityOf(ctx, s)
	if stopOf(err) != nil {
		return r.notAllowed(ctx, s, err)
	}
	if err != nil {
		return err
	}
	held, err := r.heldKey(ctx, s, want.digest)
	if err != nil {
		return err
	}
	if held != nil && r.now().Before(held.Renew) {
		s.useKey(held)
		s.ComeBack(max(held.Renew.Sub(r.now()), time.Second))
		return nil
	}
	key, err := r.renew(ctx, s, want)
	if err != nil {
		return r.notRenewed(s, held, err)
	}
	s.useKey(key)
	s.ComeBack(max(key.Renew.Sub(r.now()), time.Second))
	return nil
}

// notAllowed goes on with the credentials that are published, if there are any for this spec: they stay valid until
// they expire, and other changes of the Tenant must reach the pods.
func (r *Reconciler) notAllowed(ctx context.Context, s *scope, fault error) error {
	key, err := r.publishedKey(ctx, s.tenant.ID())
	if err != nil {
		return err
	}
	spec, err := specDigest(s.tenant)
	if err != nil {
		return err
	}
	if key != nil && key.Spec != spec {
		key = nil
	}
	return r.notRenewed(s, key, fault)
}

// notRenewed goes on with the credentials that the Tenant has, if it has any, after an error of their renewal.
func (r *Reconciler) notRenewed(s *scope, held *heldKey, err error) error {
	fault := stopOf(err)
	switch {
	case fault == nil && held != nil && abandoned(err) && r.now().Before(held.Expires):
		s.useKey(held)
		postponed, _ := reconcile.StopOf(err)
		s.ComeBack(postponed.After)
		return nil
	case fault == nil:
		return err
	case held == nil:
		return s.invalidIdentity(fault)
	}
	s.identityFault = fault
	s.useKey(held)
	s.ComeBack(reconcile.Sooner(identityRetry, max(held.Expires.Sub(r.now()), 0)))
	return nil
}

// useKey puts credentials where those of a Secret are.
func (s *scope) useKey(key *heldKey) {
	s.bucket = &corev1.Secret{Data: map[string][]byte{
		"accessKeyID":     []byte(key.access),
		"secretAccessKey": []byte(key.secret),
		"sessionToken":    []byte(key.token),
	}}
	s.temporary = &key.Temporary
}

// heldKey returns the credentials that the Tenant has for an identity; nil if there are none. A new leader finds those
// of the last one in the upload config, so that not all Tenants ask their STS at once.
func (r *Reconciler) heldKey(ctx context.Context, s *scope, digest string) (*heldKey, error) {
	if key := r.Identities.get(s.tenant.ID(), digest); key != nil {
		return key, nil
	}
	key, err := r.publishedKey(ctx, s.tenant.ID())
	if err != nil || key == nil || key.Identity != digest {
		return nil, err
	}
	r.Identities.save(s.tenant.ID(), key)
	return key, nil
}

// publishedKey returns the temporary credentials of the upload config; nil if there are none.
func (r *Reconciler) publishedKey(ctx context.Context, id string) (*heldKey, error) {
	var config corev1.Secret
	err := r.APIReader.Get(ctx, r.uploadKey(id), &config)
	if client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	upload, err := tenantconfig.DecodeUpload(config.Data[tenantconfig.Key])
	if err != nil || upload.Temporary == nil {
		return nil, nil //nolint:nilnil // there are none
	}
	return &heldKey{
		Temporary: *upload.Temporary,
		access:    upload.AccessKeyID,
		secret:    upload.SecretAccessKey,
		token:     upload.SessionToken,
	}, nil
}

// renew obtains credentials. After a failure it returns the same *reconcile.Stop until the retry is due.
func (r *Reconciler) renew(ctx context.Context, s *scope, want *identity) (*heldKey, error) {
	id := s.tenant.ID()
	now := r.now()
	if fault := r.Identities.failed(id, want.digest, now); fault != nil {
		return nil, fault
	}
	issued, err := r.exchange(ctx, s, want)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case abandoned(err): // it has to wait for its turn
		return nil, err
	case err != nil:
		fault := identityVerdict(ctx, want, err)
		r.Identities.fail(id, want.digest, fault, now)
		return nil, fault
	}
	key := &heldKey{
		access: secret.Sensitive(issued.AccessKeyID),
		secret: secret.Sensitive(issued.SecretAccessKey),
		token:  secret.Sensitive(issued.SessionToken),
		Temporary: tenantconfig.Temporary{
			Identity: want.digest,
			Spec:     want.spec,
			Issued:   now.UTC().Truncate(time.Second),
			Expires:  now.Add(issued.Lifetime).UTC().Truncate(time.Second),
			Renew:    now.Add(spread(min(issued.Lifetime, want.request.Duration))).UTC().Truncate(time.Second),
		},
	}
	r.Identities.save(id, key)
	r.Identities.Metrics.count(resultIssued)
	return key, nil
}

// spread returns about half of a lifetime: Tenants that were created together are not renewed together.
func spread(lifetime time.Duration) time.Duration {
	return lifetime*9/20 + rand.N(lifetime/10+1) //nolint:gosec // it spreads load
}

// exchange obtains a token for the ServiceAccount and exchanges it. It takes a turn like every call of a tenant's
// store: the Tenant's author names the STS, which may hang.
func (r *Reconciler) exchange(ctx context.Context, s *scope, want *identity) (objectstore.TemporaryKey, error) {
	leave, err := r.stores.enter(ctx, s.tenant.Namespace)
	if err != nil {
		return objectstore.TemporaryKey{}, err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, exchangeWithin)
	defer cancel()
	request := want.request
	if request.Token, err = r.Identities.token(ctx, want.account, request.Audience); err != nil {
		return objectstore.TemporaryKey{}, err
	}
	return r.Buckets.AssumeRole(ctx, s.tenant.ID(), request)
}

// identityVerdict returns what a failure means for the Tenant. An error of the API server may describe the platform:
// the log has it, and the Tenant's author does not see it.
func identityVerdict(ctx context.Context, want *identity, err error) *reconcile.Stop {
	if known := stopOf(err); known != nil {
		return known
	}
	var refused *objectstore.IdentityError
	switch {
	case errors.As(err, &refused) && refused.Stop:
		return reconcile.Stalled(string(refused.Reason), "%s", refused.Message).Again(identityRetry)
	case refused != nil:
		return reconcile.Retry(identityRetry, string(refused.Reason), "%s", refused.Message)
	}
	log.FromContext(ctx).Info("the API server did not issue a token of a Tenant's ServiceAccount",
		"namespace", want.account.Namespace,
		"serviceAccount", want.account.Name,
		"cause", bounded.Text(err.Error(), 500),
	)
	return reconcile.Retry(identityRetry, v1alpha1.ReasonWebIdentityUnavailable, "the API server did not issue a "+
		"token of ServiceAccount %q, named by spec.recordings.webIdentity; wait: it is tried again. The operator's "+
		"log has the cause", want.account.Name)
}

// invalidIdentity records that there are no credentials, and why.
func (s *scope) invalidIdentity(stop *reconcile.Stop) error {
	conditions.Set(s.tenant, v1alpha1.ConditionCredentialsValid, metav1.ConditionFalse, stop.Reason, stop.Message)
	return stop
}

// setCredentials records that there are credentials, and whether their renewal fails.
func (r *Reconciler) setCredentials(s *scope) {
	kind := metav1.ConditionTrue
	reason := v1alpha1.ReasonCredentialsValid
	message := "every Secret is there with the keys it needs"
	switch fault := s.identityFault; {
	case fault == nil:
		if s.temporary != nil {
			message += ", and the credentials of spec.recordings.webIdentity are renewed in time"
		}
	case r.now().Before(s.temporary.Expires):
		reason = v1alpha1.ReasonRenewalFailing
		message = fmt.Sprintf("the credentials of spec.recordings.webIdentity are valid until %s, and their renewal "+
			"fails (%s): %s", s.temporary.Expires.Format(time.RFC3339), fault.Reason, fault.Message)
	default:
		kind = metav1.ConditionFalse
		reason = v1alpha1.ReasonCredentialsExpired
		message = s.expired()
	}
	conditions.Set(s.tenant, v1alpha1.ConditionCredentialsValid, kind, reason, message)
}

// expired returns the message for temporary credentials that have expired and cannot be renewed.
func (s *scope) expired() string {
	return fmt.Sprintf("the credentials of spec.recordings.webIdentity expired at %s and are not renewed (%s): %s",
		s.temporary.Expires.Format(time.RFC3339), s.identityFault.Reason, s.identityFault.Message)
}

// judgeIdentity ends the reconcile if the credentials have expired. It comes after the configs are written.
func (r *Reconciler) judgeIdentity(_ context.Context, s *scope) error {
	if s.identityFault == nil || r.now().Before(s.temporary.Expires) {
		return nil
	}
	stop := reconcile.Retry(identityRetry, v1alpha1.ReasonCredentialsExpired, "%s", s.expired())
	if s.identityFault.IsStalled() {
		stop = reconcile.Stalled(stop.Reason, "%s", stop.Message).Again(identityRetry)
	}
	conditions.Set(s.tenant, v1alpha1.ConditionStorageReachable, metav1.ConditionFalse, stop.Reason, stop.Message)
	return stop
}

// now returns the time.
func (r *Reconciler) now() time.Time {
	if r.clock != nil {
		return r.clock()
	}
	return time.Now()
}
