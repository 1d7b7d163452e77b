//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// streamGrace is what the suite's installation gives live calls when a pod ends.
func streamGrace(t *testing.T) time.Duration {
	t.Helper()
	text := setting(t, "CALY_E2E_STREAM_GRACE")
	seconds, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("CALY_E2E_STREAM_GRACE is %q, and no number of seconds", text)
	}
	return time.Duration(seconds) * time.Second
}

func (e *env) pod(t *testing.T, ns, name string) *corev1.Pod {
	t.Helper()
	var p corev1.Pod
	if err := e.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, &p); err != nil {
		t.Fatal(err)
	}
	return &p
}

// restart replaces all pods of one of the release's Deployments, as kubectl rollout restart does, and waits until only new ones are wanted.
// Old ones may still be ending then.
func (e *env) restart(t *testing.T, name string) {
	t.Helper()
	key := client.ObjectKey{Namespace: releaseNamespace, Name: name}
	var d appsv1.Deployment
	if err := e.client.Get(t.Context(), key, &d); err != nil {
		t.Fatal(err)
	}
	patch := fmt.Sprintf(
		`{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`,
		time.Now().Format(time.RFC3339Nano),
	)
	if err := e.client.Patch(
		t.Context(), &d, client.RawPatch("application/strategic-merge-patch+json", []byte(patch)),
	); err != nil {
		t.Fatal(err)
	}
	generation := d.Generation
	twoMinutes.Reaches(t, "the Deployment "+name+" has new pods", func(ctx context.Context) (bool, string) {
		if err := e.client.Get(ctx, key, &d); err != nil {
			return false, err.Error()
		}
		s := d.Status
		return s.ObservedGeneration >= generation && s.UpdatedReplicas == *d.Spec.Replicas &&
				s.Replicas == s.UpdatedReplicas &&
				s.AvailableReplicas == s.UpdatedReplicas,
			fmt.Sprintf("%d updated, %d available, %d in all", s.UpdatedReplicas, s.AvailableReplicas, s.Replicas)
	})
}
