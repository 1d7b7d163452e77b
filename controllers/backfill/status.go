package backfill

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/exotel/calldetails"
	"github.com/caly-dev/caly/internal/tenantconfig/compile"
)

// notHeldRetry is how soon a Tenant is looked at again whose account another Tenant holds.
const notHeldRetry = time.Minute

// look runs once and says what came of it.
func (r *Reconciler) look(ctx context.Context, t *v1alpha1.Tenant, m *remembered) (ctrl.Result, error) {
	leave, ok := r.runs().TryAcquire(t.Namespace)
	if !ok {
		return ctrl.Result{RequeueAfter: time.Second}, nil
	}
	defer leave()
	creds, err := r.readCredentials(ctx, t)
	if err != nil {
		return ctrl.Result{}, err
	}
	if creds == nil || m.refused == creds.digest(t) && m.status.NextRunTime == nil {
		return ctrl.Result{}, nil // a change of the Secret or the spec comes back here
	}
	key := accountKey(t)
	pace := r.accounts.take(key, r.Interval)
	if pace == nil {
		return ctrl.Result{RequeueAfter: time.Second}, nil
	}
	defer r.accounts.release(key)
	n := &run{
		r:       r,
		tenant:  t,
		config:  compile.Tenant(t),
		limits:  r.Limits.withDefaults(),
		now:     time.Now().Truncate(time.Second),
		suspect: m.suspect,
		count:   &counter{next: r.Transport, metrics: r.Metrics},
	}
	n.from = start(t, m.status, n.now)
	n.client, err = r.newClient(t, creds, pace, n.count)
	switch {
	case err != nil:
		m.refused = creds.digest(t)
		r.conclude(t, m, n, verdict{result: resultRefused, reason: v1alpha1.ReasonInvalidSpec, message: err.Error()})
	default:
		n.owner, err = r.ownerOf(ctx, t)
		if errors.Is(err, errNotHeld) {
			return ctrl.Result{RequeueAfter: notHeldRetry}, nil
		}
		if err != nil {
			return ctrl.Result{}, err
		}
		if !r.execute(ctx, t, m, n, creds) {
			return ctrl.Result{}, nil
		}
	}
	if err := r.write(ctx, t, m); err != nil || m.status.NextRunTime == nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: time.Until(m.due(t, r.interval(t)))}, nil
}

// execute runs. It returns false when the run was stopped, of which there is nothing to say.
func (r *Reconciler) execute(ctx context.Context, t *v1alpha1.Tenant, m *remembered, n *run, creds *credentials) bool {
	limited, cancel := context.WithTimeout(ctx, n.limits.Time)
	defer cancel()
	err := n.do(limited)
	n.tellLeftOut(ctx)
	switch {
	case ctx.Err() != nil || errors.Is(err, errStopped):
		r.Metrics.runs.WithLabelValues(resultStopped).Inc()
		return false
	case limited.Err() != nil:
		err = errBounds
	}
	v := judge(err)
	if v.result == resultSucceeded && n.left > 0 {
		v.reason, v.message = v1alpha1.ReasonBackfillIncomplete, fmt.Sprintf(
			"%d calls that Exotel listed could not be used; the first one: %v", n.left, n.why)
	}
	m.suspect, m.refused = n.suspect, [32]byte{}
	if v.result == resultRefused {
		m.refused = creds.digest(t)
	}
	r.conclude(t, m, n, v)
	return true
}

// verdict is how a run ended.
type verdict struct{ result, reason, message string }

func judge(err error) verdict {
	switch {
	case err == nil:
		return verdict{resultSucceeded, v1alpha1.ReasonBackfillSucceeded, "every call that Exotel listed is here, with its recording"}
	case errors.Is(err, calldetails.ErrUnauthorized):
		return verdict{resultRefused, v1alpha1.ReasonBackfillCredentialsRefused, failed(err) +
			". It is tried again at the next interval, and at once when the Secret or the spec changes"}
	case errors.Is(err, errBounds):
		return verdict{resultPending, v1alpha1.ReasonBackfillSucceeded, "there are more calls to look at than one run may: it goes on within a minute"}
	}
	return verdict{resultUnavailable, v1alpha1.ReasonBackfillUnavailable, failed(err) + ". It is tried again at the next interval"}
}

// conclude remembers how the run ended, for its status.
func (r *Reconciler) conclude(t *v1alpha1.Tenant, m *remembered, n *run, v verdict) {
	r.Metrics.runs.WithLabelValues(v.result).Inc()
	now := metav1.Now()
	s := v1alpha1.BackfillStatus{LastRunTime: &now, LastSuccessTime: m.status.LastSuccessTime, WindowStart: &metav1.Time{Time: n.from},
		Checked: ptr.To(int32(min(n.checked, 1<<30))), FoundMissing: ptr.To(int32(min(n.found, 1<<30)))} //nolint:gosec // bounded here
	reached := metav1.Time{Time: n.reached.Truncate(time.Second)}
	if n.reached.IsZero() {
		reached.Time = n.from
	}
	s.WindowEnd = &reached
	status := metav1.ConditionFalse
	switch v.result {
	case resultSucceeded:
		s.LastSuccessTime = &now
		if n.left == 0 {
			status = metav1.ConditionTrue
		}
		s.NextRunTime = &metav1.Time{Time: now.Add(r.interval(t))}
	case resultPending:
		status, s.PendingFrom = metav1.ConditionTrue, &reached
		s.NextRunTime = &metav1.Time{Time: now.Add(min(r.interval(t), catchUp))}
	default:
		s.PendingFrom = &reached
		if v.reason != v1alpha1.ReasonInvalidSpec { // which only a change of the spec corrects
			s.NextRunTime = &metav1.Time{Time: now.Add(r.interval(t))}
		}
	}
	before := m.condition
	list := []metav1.Condition{}
	if before != nil {
		list = append(list, *before)
	}
	apimeta.SetStatusCondition(&list, metav1.Condition{Type: v1alpha1.ConditionBackfillSucceeded, Status: status, Reason: v.reason,
		Message: v.message + n.incomplete(), ObservedGeneration: t.Generation})
	m.status, m.condition, m.unwritten = s, &list[0], true
	r.tell(t, before, m.condition)
	r.Metrics.succeeded(t.ID(), s.LastSuccessTime)
}

// tell emits an event when the condition has another status or reason than before.
func (r *Reconciler) tell(t *v1alpha1.Tenant, before, now *metav1.Condition) {
	if before != nil && before.Status == now.Status && before.Reason == now.Reason {
		return
	}
	kind := corev1.EventTypeNormal
	if now.Status == metav1.ConditionFalse {
		kind = corev1.EventTypeWarning
	}
	r.Recorder.Eventf(t, nil, kind, now.Reason, "Backfill", "%s", bounded.Text(now.Message, 900))
}

// write writes what is yet to be written of the last run.
func (r *Reconciler) write(ctx context.Context, t *v1alpha1.Tenant, m *remembered) error {
	if !m.unwritten {
		return nil
	}
	err := r.patch(ctx, t, func(live *v1alpha1.Tenant) {
		live.Status.Backfill = m.status.DeepCopy()
		apimeta.SetStatusCondition(&live.Status.Conditions, *m.condition)
	})
	m.unwritten = err != nil
	return err
}

// clear removes what an earlier spec left in the status.
func (r *Reconciler) clear(ctx context.Context, t *v1alpha1.Tenant) error {
	if t.Status.Backfill == nil && apimeta.FindStatusCondition(t.Status.Conditions, v1alpha1.ConditionBackfillSucceeded) == nil {
		return nil
	}
	return r.patch(ctx, t, func(live *v1alpha1.Tenant) {
		live.Status.Backfill = nil
		conditions.Delete(live, v1alpha1.ConditionBackfillSucceeded)
	})
}

// patch changes the status as it is now: a patch of conditions replaces the whole list, so it must not be based on an old one.
func (r *Reconciler) patch(ctx context.Context, t *v1alpha1.Tenant, change func(*v1alpha1.Tenant)) error {
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		var live v1alpha1.Tenant
		if err := r.APIReader.Get(ctx, client.ObjectKeyFromObject(t), &live); err != nil {
			return client.IgnoreNotFound(err)
		}
		if live.UID != t.UID {
			return nil
		}
		base := live.DeepCopy()
		change(&live)
		if equality.Semantic.DeepEqual(base.Status, live.Status) {
			return nil
		}
		return r.Client.Status().Patch(ctx, &live, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}))
	})
	if err != nil {
		log.FromContext(ctx).V(1).Info("the status of the last run could not be written; tried again", "tenant", t.ID(), "why", err.Error())
	}
	return client.IgnoreNotFound(err)
}
