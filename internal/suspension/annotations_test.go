package suspension

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
)

// namespaces is a reader of Namespaces, each with its annotations.
type namespaces struct {
	client.Reader
	known map[string]map[string]string
	err   error
}

func (n namespaces) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	annotations, ok := n.known[key.Name]
	switch {
	case n.err != nil:
		return n.err
	case !ok:
		return apierrors.NewNotFound(corev1.Resource("namespaces"), key.Name)
	}
	into.SetAnnotations(annotations)
	return nil
}

// TestOf checks that a Namespace that the cache does not have yet is asked for at the API server. Else a Tenant of a
// suspended Namespace would work until the cache has it.
func TestOf(t *testing.T) {
	suspended := namespaces{known: map[string]map[string]string{"acme": {v1alpha1.AnnotationSuspend: "true"}}}
	free := namespaces{known: map[string]map[string]string{"acme": nil}}
	none := namespaces{}
	down := namespaces{err: errors.New("the API server is down")}
	for name, tc := range map[string]struct {
		cached, live  namespaces
		wantSuspended bool
		wantErr       bool
	}{
		"in the cache":                  {suspended, down, true, false},
		"free in the cache":             {free, down, false, false},
		"not in the cache yet":          {none, suspended, true, false},
		"free, and not in the cache":    {none, free, false, false},
		"unknown":                       {none, none, false, true},
		"the cache fails":               {down, suspended, false, true},
		"not in the cache, server down": {none, down, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: "acme", Name: "support"}}
			got, err := Of(t.Context(), tenant, tc.cached, tc.live)
			if (err != nil) != tc.wantErr {
				t.Fatalf("%v, want an error: %v", err, tc.wantErr)
			}
			if d := cmp.Diff(tc.wantSuspended, got.Suspended()); d != "" {
				t.Errorf("suspended (-want +got):\n%s", d)
			}
		})
	}
}
