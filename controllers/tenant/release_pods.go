package tenant

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
)

// defaultAbandonAfter is how long after the end of its grace period a pod that does not end still counts: its node
// is dead or cut off. After a fifth of that time the leases of the Tenant's recordings are taken back. A pod that
// still works notices it at its next heartbeat, and one that reaches no database when its leases run out, a minute
// after the last heartbeat. Then it can write no object any more, wherever it is.
const defaultAbandonAfter = 150 * time.Second

// uploadsEnded waits for the Tenant's last upload pod, so that none writes an object after the others are deleted. It
// does not wait for ever for a pod on a node that does not answer.
func (r *Reconciler) uploadsEnded(ctx context.Context, s *scope) error {
	pods, err := r.uploadPods(ctx, s.tenant)
	if err != nil {
		return err
	}
	var waiting []string
	now := time.Now()
	abandon := cmp.Or(r.AbandonAfter, defaultAbandonAfter)
	for i := range pods {
		over := overdue(&pods[i], now)
		if over > abandon/5 {
			if err := r.Store.TakeLeases(ctx, s.tenant.ID()); err != nil {
				return err
			}
		}
		if over <= abandon {
			waiting = append(waiting, describe(&pods[i], over, abandon))
			continue
		}
		log.FromContext(ctx).Info("the deletion of a Tenant goes on without a pod that does not end",
			"pod", pods[i].Name, "node", pods[i].Spec.NodeName)
	}
	if len(waiting) == 0 {
		return nil
	}
	const shown = 3
	message := "waiting for the last upload pod to end: " + strings.Join(waiting[:min(len(waiting), shown)], ", ")
	if more := len(waiting) - shown; more > 0 {
		message += fmt.Sprintf(" and %d more", more)
	}
	return reconcile.Retry(time.Second, v1alpha1.ReasonDeleting, "%s", message)
}

// uploadPods are the Tenant's upload pods that have not ended. Those of an earlier version ran in the work namespace.
func (r *Reconciler) uploadPods(ctx context.Context, t *v1alpha1.Tenant) (pods []corev1.Pod, err error) {
	for _, namespace := range []string{r.UploadNamespace, r.WorkNamespace} {
		var list corev1.PodList
		err := r.APIReader.List(ctx, &list, client.InNamespace(namespace), client.Limit(500), client.MatchingLabels{
			v1alpha1.LabelTenant:          t.Name,
			v1alpha1.LabelTenantNamespace: t.Namespace,
			v1alpha1.LabelComponent:       v1alpha1.ComponentUpload,
		})
		if err != nil {
			return nil, err
		}
		for _, p := range list.Items {
			if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
				pods = append(pods, p)
			}
		}
	}
	return pods, nil
}

// overdue returns how long ago a pod should have ended; 0 or less if it need not have yet.
func overdue(p *corev1.Pod, now time.Time) time.Duration {
	if p.DeletionTimestamp == nil {
		return 0
	}
	return now.Sub(p.DeletionTimestamp.Time)
}

// describe returns what blocks the release: a pod and its node. For a pod that is late it adds when
// the deletion goes on without the pod.
func describe(p *corev1.Pod, over, abandon time.Duration) string {
	pod := fmt.Sprintf("pod %s/%s on node %q", p.Namespace, p.Name, p.Spec.NodeName)
	if over <= abandon/5 {
		return pod
	}
	end := p.DeletionTimestamp.UTC()
	return fmt.Sprintf("%s, which should have ended at %s; the deletion goes on without it at %s",
		pod, end.Format(time.RFC3339), end.Add(abandon).Format(time.RFC3339))
}
