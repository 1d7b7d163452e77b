package backfill

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/exotel/calldetails"
	"github.com/caly-dev/caly/internal/tenantconfig/compile"
)

// notHeldRetry is how soon a Tenant is looked at again whose account another Tenant holds.
const notHeldRetry = time.Minute

// look runs once and says what came of it.
func (r *Reconciler) look(ctx context.Context, s *scope) error {
	leave, ok := r.runs().TryAcquire(s.tenant.Namespace)
	if !ok {
		return reconcile.Done(time.Second)
	}
	defer leave()
	if err := r.readAccount(ctx, s); err != nil {
		return err
	}
	key := accountKey(s.tenant)
	pace := r.accounts.take(key, r.Interval)
	if pace == nil {
		return reconcile.Done(time.Second)
	}
	defer r.accounts.release(key)
	prepare := func(ctx context.Context, s *scope) error { return r.prepare(ctx, s, pace) }
	return reconcile.Run(ctx, s, prepare, r.findOwner, r.execute, r.record)
}

// readAccount reads the credentials. It stops without usable ones: a change of the Secret or the spec brings the Tenant
// back.
func (r *Reconciler) readAccount(ctx context.Context, s *scope) (err error) {
	if s.creds, err = r.readCredentials(ctx, s.tenant); err != nil {
		return err
	}
	if s.creds == nil || s.memory.refused == s.creds.digest(s.tenant) && s.memory.status.NextRunTime == nil {
		return reconcile.Done(0)
	}
	return nil
}

// prepare makes the run. A spec from which no client can be made ends it.
func (r *Reconciler) prepare(ctx context.Context, s *scope, pace *calldetails.Pacer) (err error) {
	t := s.tenant
	s.run = &run{
		r:       r,
		tenant:  t,
		config:  compile.Tenant(t),
		limits:  r.Limits.withDefaults(),
		now:     time.Now().Truncate(time.Second),
		suspect: s.memory.suspect,
		count:   &counter{next: r.Transport, metrics: r.Metrics},
	}
	s.run.from = start(t, s.memory.status, s.run.now)
	if s.run.client, err = r.newClient(t, s.creds, pace, s.run.count); err != nil {
		s.memory.refused = s.creds.digest(t)
		r.conclude(s, verdict{result: resultRejected, reason: v1alpha1.ReasonInvalidSpec, message: err.Error()})
		return r.record(ctx, s)
	}
	return nil
}

// findOwner finds out which calls of the account are the Tenant's.
func (r *Reconciler) findOwner(ctx context.Context, s *scope) (err error) {
	s.run.owner, err = r.ownerOf(ctx, s.tenant)
	if errors.Is(err, errNotHeld) {
		return reconcile.Done(notHeldRetry)
	}
	return err
}

// execute runs. A run that was stopped leaves nothing to say.
func (r *Reconciler) execute(ctx context.Context, s *scope) error {
	run := s.run
	limited, cancel := context.WithTimeout(ctx, run.limits.Time)
	defer cancel()
	err := run.do(limited)
	run.tellLeftOut(ctx)
	run.total(ctx)
	switch {
	case ctx.Err() != nil || errors.Is(err, errStopped):
		r.Metrics.runs.WithLabelValues(resultStopped).Inc()
		return reconcile.Done(0)
	case limited.Err() != nil:
		err = errBounds
	}
	verdict := judge(err)
	if verdict.result == resultSucceeded && run.left > 0 {
		verdict.reason = v1alpha1.ReasonBackfillIncomplete
		verdict.message = fmt.Sprintf(
			"%d calls that Exotel listed could not be used; the first one: %v", run.left, run.why)
	}
	s.memory.suspect = run.suspect
	s.memory.refused = [32]byte{}
	if verdict.result == resultRejected {
		s.memory.refused = s.creds.digest(s.tenant)
	}
	r.conclude(s, verdict)
	return nil
}

// record writes how the run ended, and stops until the next one is due.
func (r *Reconciler) record(ctx context.Context, s *scope) error {
	if err := r.write(ctx, s.tenant, s.memory); err != nil {
		return err
	}
	if s.memory.status.NextRunTime == nil {
		return reconcile.Done(0)
	}
	return reconcile.Done(time.Until(s.memory.due(s.tenant, r.interval(s.tenant))))
}

// verdict is how a run ended.
type verdict struct{ result, reason, message string }

// judge returns the result, the condition's reason and the message for the error of a run.
func judge(err error) verdict {
	switch {
	case err == nil:
		return verdict{
			resultSucceeded,
			v1alpha1.ReasonBackfillSucceeded,
			"every call that Exotel listed is here, with its recording",
		}
	case errors.Is(err, calldetails.ErrUnauthorized):
		return verdict{resultRejected, v1alpha1.ReasonBackfillCredentialsRefused, failed(err) +
			". It is tried again at the next interval, and at once when the Secret or the spec changes"}
	case errors.Is(err, errBounds):
		return verdict{
			resultPending,
			v1alpha1.ReasonBackfillSucceeded,
			"there are more calls to look at than one run may: it goes on within a minute",
		}
	}
	return verdict{
		resultUnavailable,
		v1alpha1.ReasonBackfillUnavailable,
		failed(err) + ". It is tried again at the next interval",
	}
}

// conclude remembers how the run ended, for its status.
func (r *Reconciler) conclude(s *scope, v verdict) {
	t := s.tenant
	remembered := s.memory
	run := s.run
	r.Metrics.runs.WithLabelValues(v.result).Inc()
	now := metav1.Now()
	next := v1alpha1.BackfillStatus{
		LastRunTime:     &now,
		LastSuccessTime: remembered.status.LastSuccessTime,
		WindowStart:     &metav1.Time{Time: run.from},
		Checked:         ptr.To(int32(min(run.checked, 1<<30))), //nolint:gosec // bounded here
		FoundMissing:    ptr.To(int32(min(run.found, 1<<30))),   //nolint:gosec // bounded here
	}
	reached := metav1.Time{Time: run.reached.Truncate(time.Second)}
	if run.reached.IsZero() {
		reached.Time = run.from
	}
	next.WindowEnd = &reached
	status := metav1.ConditionFalse
	switch v.result {
	case resultSucceeded:
		next.LastSuccessTime = &now
		if run.left == 0 {
			status = metav1.ConditionTrue
		}
		next.NextRunTime = &metav1.Time{Time: now.Add(r.interval(t))}
	case resultPending:
		status = metav1.ConditionTrue
		next.PendingFrom = &reached
		next.NextRunTime = &metav1.Time{Time: now.Add(min(r.interval(t), catchUp))}
	default:
		next.PendingFrom = &reached
		if v.reason != v1alpha1.ReasonInvalidSpec { // which only a change of the spec corrects
			next.NextRunTime = &metav1.Time{Time: now.Add(r.interval(t))}
		}
	}
	before := remembered.condition
	list := []metav1.Condition{}
	if before != nil {
		list = append(list, *before)
	}
	apimeta.SetStatusCondition(&list, metav1.Condition{
		Type:               v1alpha1.ConditionBackfillSucceeded,
		Status:             status,
		Reason:             v.reason,
		Message:            v.message + run.incomplete(),
		ObservedGeneration: t.Generation,
	})
	remembered.status = next
	remembered.condition = &list[0]
	remembered.unwritten = true
	r.tell(t, before, remembered.condition)
	r.Metrics.succeeded(t.ID(), next.LastSuccessTime)
}

// tell emits an event when the condition has another status or reason than before.
func (r *Reconciler) tell(t *v1alpha1.Tenant, before, now *metav1.Condition) {
	if reconcile.SameState(before, now) {
		return
	}
	event := reconcile.Event{Type: corev1.EventTypeNormal, Reason: now.Reason, Action: "Backfill", Note: now.Message}
	if now.Status == metav1.ConditionFalse {
		event.Type = corev1.EventTypeWarning
	}
	event.Emit(r.Recorder, t)
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
	if t.Status.Backfill == nil &&
		apimeta.FindStatusCondition(t.Status.Conditions, v1alpha1.ConditionBackfillSucceeded) == nil {
		return nil
	}
	return r.patch(ctx, t, func(live *v1alpha1.Tenant) {
		live.Status.Backfill = nil
		conditions.Delete(live, v1alpha1.ConditionBackfillSucceeded)
	})
}

// patch changes the status as it is now: a patch of conditions replaces the whole list, so it must not be based on an old one.
func (r *Reconciler) patch(ctx context.Context, t *v1alpha1.Tenant, change func(*v1alpha1.Tenant)) error {
	writer := reconcile.Writer{Client: r.Client, Owner: reconcile.OfBackfill}
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
		_, err := writer.Write(ctx, base, &live)
		return err
	})
	if err != nil {
		log.FromContext(ctx).V(1).Info("the status of the last run could not be written; tried again",
			"tenant", t.ID(),
			"why", err.Error(),
		)
	}
	return client.IgnoreNotFound(err)
}
