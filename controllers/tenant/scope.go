package tenant

import (
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/suspension"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// scope is what one reconcile knows. Each field says who sets it.
type scope struct {
	reconcile.Scope[*v1alpha1.Tenant]
	tenant *v1alpha1.Tenant // Reconcile; its status is what will be written

	exotel, bucket *corev1.Secret            // readSecrets
	verifiers      map[string]*corev1.Secret // readSecrets: by the field that names them
	headers        *corev1.Secret            // readHeaders: those of the agent's handshake; nil without any
	// readCA: the authorities of the agent; empty: the public ones
	agentCA  string
	bucketCA string // readBucket: the same for the store
	// readIdentity: when the credentials of the bucket expire; nil if they do not
	temporary *tenantconfig.Temporary
	// readIdentity: why the credentials were not renewed; nil if they were, or need not be
	identityFault *reconcile.Stop
	// corrected: why the credentials of the spec cannot be used; nil if they can
	bucketFault *reconcile.Stop
	config      *tenantconfig.Tenant  // compile
	upload      *tenantconfig.Upload  // compile, but for the database URL: ensureRole
	applied     bool                  // apply: the config is the one of this spec
	suspension  suspension.Suspension // suspend
	names       nameClaims            // claimNames, shareAccount
}

// suspended reports whether the Tenant is suspended, by its spec or by the platform.
func (s *scope) suspended() bool { return s.suspension.Suspended() }

// stopOf returns the Stop with a condition that an error is or wraps, or nil.
func stopOf(err error) *reconcile.Stop {
	if stop, ok := reconcile.StopOf(err); ok && !stop.Abandons() {
		return stop
	}
	return nil
}

// abandoned reports whether a reconcile ended without anything to write: the Tenant has changed since it was read, is
// deleted, or has to wait for its turn.
func abandoned(err error) bool {
	stop, ok := reconcile.StopOf(err)
	return ok && stop.Abandons()
}

func find(t *v1alpha1.Tenant, kind string) *metav1.Condition {
	return apimeta.FindStatusCondition(t.Status.Conditions, kind)
}
