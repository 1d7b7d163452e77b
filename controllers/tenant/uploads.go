package tenant

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/conditions"
)

// uploadsVerdict returns why the Tenant's recordings are not uploaded; nil if they are. The upload Job's
// controller writes the condition. It goes on trying, and wakes this one when it changes.
func (s *scope) uploadsVerdict() error {
	condition := find(s.tenant, v1alpha1.ConditionUploadsHealthy)
	switch {
	case s.suspended():
		return nil
	case condition == nil:
		conditions.SetUploadsHealthy(s.tenant)
		return nil
	case condition.Status != metav1.ConditionFalse:
		return nil
	}
	return reconcile.Retry(reprobe, condition.Reason,
		"webhooks are accepted, and recordings wait because they cannot be uploaded: %s", condition.Message)
}

// doubtAfter is how old an answer of a bucket may be while uploads fail.
const doubtAfter = 30 * time.Second

// doubtStore lets the bucket be asked again at once if uploads have failed since it answered.
func (r *Reconciler) doubtStore(_ context.Context, s *scope) error {
	condition := find(s.tenant, v1alpha1.ConditionUploadsHealthy)
	if condition != nil && condition.Status == metav1.ConditionFalse &&
		condition.Reason == v1alpha1.ReasonUploadsFailing {
		r.probes.doubt(
			s.tenant.ID(), condition.LastTransitionTime.Add(time.Second),
		) // the API server cuts off fractions
	}
	return nil
}

// doubt ends the validity of an answer from before since, or of one older than doubtAfter. A bucket that keeps what is
// written is written to again, since only that finds out what it refuses now.
func (c *probeCache) doubt(id string, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if probed, ok := c.good[id]; ok && (probed.at.Before(since) || time.Since(probed.at) > doubtAfter) {
		probed.at = time.Time{}
		if probed.wrote.Before(since) {
			probed.wrote = time.Time{}
		}
		c.good[id] = probed
	}
}

// uploadsChanged passes a change of the condition that the upload Job's controller writes.
var uploadsChanged = predicate.Funcs{
	CreateFunc: func(event.CreateEvent) bool { return false },
	DeleteFunc: func(event.DeleteEvent) bool { return false },
	UpdateFunc: func(e event.UpdateEvent) bool {
		was := uploadsOf(e.ObjectOld)
		is := uploadsOf(e.ObjectNew)
		return was.Status != is.Status || was.Reason != is.Reason || was.Message != is.Message
	},
}

func uploadsOf(o client.Object) metav1.Condition {
	if condition := find(o.(*v1alpha1.Tenant), v1alpha1.ConditionUploadsHealthy); condition != nil {
		return *condition
	}
	return metav1.Condition{}
}
