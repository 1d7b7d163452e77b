package uploadjob

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
)

// troubleOf returns what is wrong with a tenant's Job: it cannot be written, its pods do not work, or it waits for
// those of other tenants to end.
func troubleOf(found findings, d decision, acted error) trouble {
	switch {
	case acted != nil && d.do == create:
		return trouble{
			reason: v1alpha1.ReasonUploadPodsRejected,
			message: "the upload Job cannot be created: " +
				acted.Error(),
		}
	case found.trouble.reason != "":
		return found.trouble
	case found.unread != nil:
		return trouble{
			reason: v1alpha1.ReasonUploadsOverdue,
			message: ": the operator cannot read the upload pods: " +
				found.unread.Error(),
		}
	case d.do == leave && d.after > 0:
		return trouble{
			reason:  v1alpha1.ReasonUploadsOverdue,
			message: ": other Tenants have all pods that the platform allows; see operator.maxUploadPods of the chart",
		}
	}
	return trouble{}
}

// sum joins what the Job and what the queue say. The words of the store or of Exotel are better than those of a
// pod that ended because of them, and waiting for other tenants is not trouble until a recording is overdue.
func sum(job, queue trouble) trouble {
	switch {
	case job.reason == v1alpha1.ReasonUploadsOverdue && queue.reason == v1alpha1.ReasonUploadsOverdue:
		queue.message += job.message
		return queue
	case job.reason == v1alpha1.ReasonUploadsOverdue, job.reason == "":
		return queue
	case job.reason == v1alpha1.ReasonUploadPodsFailed && queue.reason == v1alpha1.ReasonUploadsFailing:
		return queue
	}
	return job
}

// reportHealth writes the Tenant's condition UploadsHealthy when it changed.
func (r *Reconciler) reportHealth(ctx context.Context, s *scope) error {
	t := s.tenant
	now := time.Now()
	job := troubleOf(s.found, s.decision, s.refused)
	state, unfinished, known := r.poller.uploads(t.ID())
	if !known {
		return nil
	}
	if job.passed(state) {
		job = trouble{}
	}
	h := health{
		wanted:     s.now.wanted,
		unfinished: unfinished,
		state:      state,
		trouble:    sum(job, ofQueue(state, now)),
		hung:       r.inspections.hungUntil(t.ID(), saysThatPodsHang(t), now),
	}
	base := t.DeepCopy()
	h.setCondition(t, now)
	if equality.Semantic.DeepEqual(base.Status.Conditions, t.Status.Conditions) ||
		(reconcile.SameState(uploadsOf(base), uploadsOf(t)) && !r.inspections.mayWord(t.ID(), now)) {
		return nil
	}
	// After a conflict the next reconcile writes it: the change of the Tenant causes one.
	if _, err := r.writer().Write(ctx, base, t); !apierrors.IsConflict(err) {
		return err
	}
	return nil
}

// saysThatPodsHang reports whether the condition already says that upload pods make no progress.
func saysThatPodsHang(t *v1alpha1.Tenant) bool {
	condition := uploadsOf(t)
	return condition != nil && condition.Status == metav1.ConditionFalse &&
		condition.Reason == v1alpha1.ReasonUploadPodsHang
}

// uploadsOf returns the Tenant's condition UploadsHealthy; nil if it has none.
func uploadsOf(t *v1alpha1.Tenant) *metav1.Condition {
	return apimeta.FindStatusCondition(t.Status.Conditions, v1alpha1.ConditionUploadsHealthy)
}
