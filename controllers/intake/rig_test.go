package intake

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/caly-dev/caly/api/v1alpha1"
	v1alpha1ac "github.com/caly-dev/caly/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
)

func TestMain(m *testing.M) {
	controllertest.Main(m)
}

// visible is the API server as an intake of a test sees it: other tests have Tenants too.
type visible struct {
	namespaces []string
	applied    []string                                                // names, in their order
	refuse     func(*v1alpha1ac.CallRecordingApplyConfiguration) error // called before the API server, if it is set
}

// newIntake returns an intake that sees the rig's namespace, and what it sees.
func newIntake(r *controllertest.Rig) (*Intake, *visible) {
	api := &visible{namespaces: []string{r.Namespace}}
	return &Intake{
		Client:       interceptor.NewClient(r.Client, interceptor.Funcs{List: api.list, Apply: api.apply}),
		Store:        r.DB,
		MaxTotal:     4000,
		MaxPerTenant: 1000,
	}, api
}

func (v *visible) apply(
	ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption,
) error {
	view := o.(*v1alpha1ac.CallRecordingApplyConfiguration)
	v.applied = append(v.applied, *view.Name)
	if v.refuse != nil {
		if err := v.refuse(view); err != nil {
			return err
		}
	}
	return c.Apply(ctx, o, opts...)
}

// list returns the objects of the namespaces.
func (v *visible) list(
	ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption,
) error {
	var all []runtime.Object
	for i, namespace := range v.namespaces {
		part := list
		if i > 0 {
			part = list.DeepCopyObject().(client.ObjectList)
		}
		if err := c.List(ctx, part, append(slices.Clone(opts), client.InNamespace(namespace))...); err != nil {
			return err
		}
		items, err := apimeta.ExtractList(part)
		if err != nil {
			return err
		}
		all = append(all, items...)
	}
	return apimeta.SetList(list, all)
}

func runRound(t *testing.T, in *Intake) {
	t.Helper()
	if err := in.round(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// enqueue queues a recording of a call and returns its id.
func enqueue(t *testing.T, r *controllertest.Rig, tenant, sid string) string {
	t.Helper()
	url := "https://recordings.exotel.com/" + strings.ReplaceAll(sid, " ", "") + ".mp3"
	return r.Enqueue(t, tenant, sid, url)
}

func enqueueMany(t *testing.T, r *controllertest.Rig, tenant string, n int) {
	t.Helper()
	for i := range n {
		enqueue(t, r, tenant, fmt.Sprintf("call-%04d", i))
	}
}

// views are the CallRecordings of a tenant, by name.
func views(t *testing.T, r *controllertest.Rig, tenant string) map[string]v1alpha1.CallRecording {
	t.Helper()
	var list v1alpha1.CallRecordingList
	if err := r.Client.List(t.Context(), &list, client.InNamespace(r.Namespace)); err != nil {
		t.Fatal(err)
	}
	found := map[string]v1alpha1.CallRecording{}
	for _, o := range list.Items {
		if o.Spec.TenantRef.Name == tenant {
			found[o.Name] = o
		}
	}
	return found
}

// unviewed counts the tenant's rows that intake would still look at.
func unviewed(t *testing.T, r *controllertest.Rig, tenant string) int {
	t.Helper()
	rows, err := r.DB.Unviewed(t.Context(), tenant, store.Wanted{
		Queued:   true,
		Failed:   true,
		Uploaded: 1000,
		Since:    uploadedSince,
		Limit:    1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	return len(rows)
}
