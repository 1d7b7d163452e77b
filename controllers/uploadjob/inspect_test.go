package uploadjob

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
)

// withoutPods is a reader that may not list pods.
type withoutPods struct{ client.Reader }

func (r withoutPods) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if _, ok := list.(*corev1.PodList); ok {
		return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", nil)
	}
	return r.Reader.List(ctx, list, opts...)
}

// TestUnreadPodsKeepNothing takes away the right to list pods: the Job follows its backlog all the same.
func TestUnreadPodsKeepNothing(t *testing.T) {
	t.Parallel()
	rig := start(t, 0, judgedAfter(4*time.Minute), func(r *Reconciler) { r.live = withoutPods{r.live} })
	tenant := healthyTenant(t, rig, "support")
	enqueue(t, rig, tenant.ID(), 1)
	waitForPods(t, rig, tenant, 1)
	enqueue(t, rig, tenant.ID(), 2*perPod)
	waitForPods(t, rig, tenant, 3)
	waitForUploads(t, rig, tenant, v1alpha1.ReasonUploadsHealthy)
}

// TestUnreadPodsAreReported verifies that the condition reports unreadable pods once a recording is overdue.
func TestUnreadPodsAreReported(t *testing.T) {
	found := findings{unread: apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", nil)}
	job := troubleOf(found, decision{}, nil)
	overdue := trouble{reason: v1alpha1.ReasonUploadsOverdue, message: "a recording has waited"}
	if got := sum(job, trouble{}); got.reason != "" {
		t.Errorf("nothing is overdue: %+v", got)
	}
	if got := sum(job, overdue); !strings.Contains(got.message, "waited: the operator cannot read the upload pods: ") ||
		!strings.Contains(got.message, "forbidden") {
		t.Errorf("got %+v", got)
	}
}

// TestHungUntil has an operator that starts while a condition says that pods hang.
func TestHungUntil(t *testing.T) {
	now := time.Now()
	var started inspections
	if got := started.hungUntil("a/b", false, now); !got.IsZero() {
		t.Errorf("nobody says so: %v", got)
	}
	for _, at := range []time.Time{now, now.Add(time.Minute)} { // the second look must not put the end off
		if got := started.hungUntil("a/b", true, at); !got.Equal(now) {
			t.Errorf("got %v, want the start %v", got, now)
		}
	}
	seen := now.Add(-time.Hour)
	started.set("a/c", findings{hung: seen})
	if got := started.hungUntil("a/c", true, now); !got.Equal(seen) {
		t.Errorf("got %v, want what was seen", got)
	}
}
