package backfill

import (
	"context"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
)

// noSecrets has no Secret, and counts how often it is asked for one.
type noSecrets struct {
	client.Reader
	asked int
}

// Get returns NotFound.
func (n *noSecrets) Get(_ context.Context, key client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
	n.asked++
	return apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, key.Name)
}

// TestNamespaceHoldsAQuarterOfTheRuns puts off the fifth run of a namespace, before anything is read for it, and no
// run of another one.
func TestNamespaceHoldsAQuarterOfTheRuns(t *testing.T) {
	secrets := &noSecrets{}
	reconciler := &Reconciler{APIReader: secrets}
	tenant := func(namespace string) *v1alpha1.Tenant {
		o := withBackfill(0, 0)
		o.Namespace = namespace
		o.Name = "support"
		return o
	}
	var leave []func()
	for range 4 {
		release, ok := reconciler.runs().TryAcquire("noisy")
		if !ok {
			t.Fatal("fewer than four runs of a namespace at once")
		}
		leave = append(leave, release)
	}
	for _, tc := range []struct {
		namespace string
		want      ctrl.Result
		wantAsked int
	}{
		{"noisy", ctrl.Result{RequeueAfter: time.Second}, 0},
		{"quiet", ctrl.Result{}, 1},
	} {
		s := &scope{tenant: tenant(tc.namespace), memory: &remembered{}}
		got, err := s.Result(reconciler.look(t.Context(), s))
		if err != nil || got != tc.want || secrets.asked != tc.wantAsked {
			t.Errorf(
				"%s: %+v, %v, %d Secrets read; want %+v, %d",
				tc.namespace,
				got,
				err,
				secrets.asked,
				tc.want,
				tc.wantAsked,
			)
		}
	}
	leave[0]()
	s := &scope{tenant: tenant("noisy"), memory: &remembered{}}
	if _, err := s.Result(reconciler.look(t.Context(), s)); err != nil || secrets.asked != 2 {
		t.Errorf("after a run has ended: %v, %d Secrets read", err, secrets.asked)
	}
	if held := reconciler.runs().Held("noisy"); held != 3 {
		t.Errorf("%d runs are held, want the 3 that go on", held)
	}
}
