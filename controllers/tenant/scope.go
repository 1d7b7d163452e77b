package tenant

import (
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/suspension"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// scope is what one reconcile knows. Each field says who sets it.
type scope struct {
	tenant *v1alpha1.Tenant // Reconcile; its status is what will be written
	before *v1alpha1.Tenant // Reconcile: as it was read

	exotel, bucket *corev1.Secret            // readSecrets
	verifiers      map[string]*corev1.Secret // readSecrets: by the field that names them
	headers        *corev1.Secret            // readHeaders: those of the agent's handshake; nil without any
	// readCA: the authorities of the agent; empty: the public ones
	agentCA  string
	bucketCA string // readBucket: the same for the store
	// readIdentity: when the credentials of the bucket expire; nil if they do not
	temporary *tenantconfig.Temporary
	// readIdentity: why the credentials were not renewed; nil if they were, or need not be
	identityFault *verdict
	config        *tenantconfig.Tenant  // compile
	upload        *tenantconfig.Upload  // compile, but for the database URL: ensureRole
	released      bool                  // release: the finalizer is gone, there is nothing left to write to
	requeueAfter  time.Duration         // probe
	applied       bool                  // apply: the config is the one of this spec
	wake          time.Duration         // closeVerifiers, readIdentity: when there is something to do; 0: nothing is
	suspension    suspension.Suspension // suspend
	names         nameClaims            // claimNames, shareAccount
}

// suspended reports whether the Tenant is suspended, by its spec or by the platform.
func (s *scope) suspended() bool { return s.suspension.Suspended() }

// verdict ends a reconcile with a condition, instead of an error that is tried again and again.
type verdict struct {
	reason, message string
	// stalled: nothing but a change by a person helps. Otherwise the operator tries again after retry.
	stalled bool
	retry   time.Duration
}

// Error returns the message.
func (v *verdict) Error() string { return v.message }

func stalled(reason, format string, args ...any) error {
	return &verdict{reason: reason, message: fmt.Sprintf(format, args...), stalled: true}
}

// conclude turns the outcome of the steps into conditions and into when to come back.
func (s *scope) conclude(err error) (ctrl.Result, error) {
	var v *verdict
	switch {
	case err == nil:
		return ctrl.Result{RequeueAfter: s.requeueAfter}, nil
	case !errors.As(err, &v):
		conditions.MarkReconciling(s.tenant, v1alpha1.ReasonConfigFailed, "will be tried again: "+err.Error())
		return ctrl.Result{}, err
	case v.stalled:
		conditions.MarkStalled(s.tenant, v.reason, v.message)
	default:
		conditions.MarkReconciling(s.tenant, v.reason, v.message)
	}
	return ctrl.Result{RequeueAfter: v.retry}, nil
}

func find(t *v1alpha1.Tenant, kind string) *metav1.Condition {
	return apimeta.FindStatusCondition(t.Status.Conditions, kind)
}
