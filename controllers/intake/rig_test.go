package intake

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/caly-dev/caly/api/v1alpha1"
	v1alpha1ac "github.com/caly-dev/caly/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	kubetest.Main(m)
}

// rig is an intake that sees one namespace and a database of its own.
type rig struct {
	client.Client
	in      *Intake
	db      *store.Operator
	ns      string
	also    string                                                  // another namespace that it sees
	applied []string                                                // names, in their order
	refuse  func(*v1alpha1ac.CallRecordingApplyConfiguration) error // before the API server is asked
}

func newRig(t *testing.T) *rig {
	t.Helper()
	env := kubetest.Get(t)
	db, err := store.OpenOperator(t.Context(), pgtest.New(t).OperatorDSN, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	r := &rig{Client: env.Client, db: db, ns: env.NewNamespace(t)}
	r.in = &Intake{
		Client:       interceptor.NewClient(env.Client, r.intercept()),
		Store:        db,
		MaxTotal:     4000,
		MaxPerTenant: 1000,
	}
	return r
}

func (r *rig) intercept() interceptor.Funcs {
	return interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			return r.list(ctx, c, list, opts...)
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			view := o.(*v1alpha1ac.CallRecordingApplyConfiguration)
			r.applied = append(r.applied, *view.Name)
			if r.refuse != nil {
				if err := r.refuse(view); err != nil {
					return err
				}
			}
			return c.Apply(ctx, o, opts...)
		},
	}
}

// list returns what is in the namespaces of the test: other tests have Tenants too.
func (r *rig) list(ctx context.Context, c client.Client, list client.ObjectList, opts ...client.ListOption) error {
	if err := c.List(ctx, list, append(opts, client.InNamespace(r.ns))...); err != nil || r.also == "" {
		return err
	}
	more := list.DeepCopyObject().(client.ObjectList)
	if err := c.List(ctx, more, client.InNamespace(r.also)); err != nil {
		return err
	}
	items, err := apimeta.ExtractList(list)
	if err != nil {
		return err
	}
	others, err := apimeta.ExtractList(more)
	if err != nil {
		return err
	}
	return apimeta.SetList(list, append(items, others...))
}

func (r *rig) round(t *testing.T) {
	t.Helper()
	if err := r.in.round(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) tenant(t *testing.T, name string, change ...func(*v1alpha1.Tenant)) *v1alpha1.Tenant {
	t.Helper()
	o := tenanttest.New(r.ns, name, change...)
	if err := r.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	r.setDigest(t, o, "compiled")
	return o
}

// setDigest sets what the tenant controller writes once it has compiled a Tenant.
func (r *rig) setDigest(t *testing.T, o *v1alpha1.Tenant, digest string) {
	t.Helper()
	base := o.DeepCopy()
	o.Status.ConfigDigest = digest
	if err := r.Status().Patch(t.Context(), o, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
}

// enqueue queues a recording of a call and returns its id.
func (r *rig) enqueue(t *testing.T, tenant, sid string) string {
	t.Helper()
	url := "https://recordings.exotel.com/" + strings.ReplaceAll(sid, " ", "") + ".mp3"
	id := recording.ID(sid, url)
	if _, err := r.db.Enqueue(t.Context(), tenant, sid, store.NewRecording{ID: id, SourceURL: url}); err != nil {
		t.Fatal(err)
	}
	return id
}

func (r *rig) enqueueMany(t *testing.T, tenant string, n int) {
	t.Helper()
	for i := range n {
		r.enqueue(t, tenant, fmt.Sprintf("call-%04d", i))
	}
}

// uploads connects as the tenant's upload pods.
func (r *rig) uploads(t *testing.T, tenant string) *store.Upload {
	t.Helper()
	role, err := r.db.EnsureUploadRole(t.Context(), tenant, "pw")
	if err != nil {
		t.Fatal(err)
	}
	dsn, err := r.db.UploadDSN(role, "pw")
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.OpenUpload(t.Context(), dsn, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// views are the CallRecordings of a tenant, by name.
func (r *rig) views(t *testing.T, tenant string) map[string]v1alpha1.CallRecording {
	t.Helper()
	var list v1alpha1.CallRecordingList
	if err := r.List(t.Context(), &list, client.InNamespace(r.ns)); err != nil {
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
func (r *rig) unviewed(t *testing.T, tenant string) int {
	t.Helper()
	rows, err := r.db.Unviewed(t.Context(), tenant, store.Wanted{
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
