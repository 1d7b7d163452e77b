package reconcile_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

// newTenant creates a Tenant on the API server.
func newTenant(t *testing.T, env *kubetest.Env) *v1alpha1.Tenant {
	t.Helper()
	tenant := &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Namespace: env.NewNamespace(t), Name: "support"},
		Spec: v1alpha1.TenantSpec{
			Exotel: v1alpha1.ExotelSpec{
				AccountSID:           "acme1",
				Region:               v1alpha1.ExotelRegionIndia,
				CredentialsSecretRef: v1alpha1.SecretReference{Name: "acme-exotel"},
			},
			Webhooks: v1alpha1.WebhooksSpec{AllowedCIDRs: []string{"203.0.113.0/24"}},
			Recordings: v1alpha1.RecordingsSpec{
				Bucket:               "acme-recordings",
				Endpoint:             "https://s3.example.com",
				Region:               "ap-southeast-1",
				CredentialsSecretRef: &v1alpha1.SecretReference{Name: "acme-bucket"},
			},
		},
	}
	if err := env.Client.Create(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	return tenant
}

// read returns an object as the API server has it.
func read(t *testing.T, c client.Client, tenant *v1alpha1.Tenant) *v1alpha1.Tenant {
	t.Helper()
	var live v1alpha1.Tenant
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(tenant), &live); err != nil {
		t.Fatal(err)
	}
	return &live
}

// set sets a condition that a test needs.
func set(kind string) func(*v1alpha1.Tenant) {
	return func(t *v1alpha1.Tenant) { conditions.Set(t, kind, metav1.ConditionTrue, "Why", "what") }
}

// TestWriteOnlyWhatIsOwned has each kind of change come from its owner and from another writer.
func TestWriteOnlyWhatIsOwned(t *testing.T) {
	env := kubetest.Get(t)
	remove := func(t *v1alpha1.Tenant) { conditions.Delete(t, v1alpha1.ConditionUploadsHealthy) }
	nothing := func(*v1alpha1.Tenant) {}
	backlog := func(t *v1alpha1.Tenant) { t.Status.Backlog = ptr.To[int32](7) }
	healthy := set(v1alpha1.ConditionUploadsHealthy)
	ready := set(v1alpha1.ConditionReady)
	for name, tc := range map[string]struct {
		owner         reconcile.Owner
		exists        func(*v1alpha1.Tenant)
		change        func(*v1alpha1.Tenant)
		wantWritten   bool
		wantError     string
		wantCondition bool // UploadsHealthy
	}{
		"nothing":                        {reconcile.OfTenant, ready, nothing, false, "", false},
		"its condition":                  {reconcile.OfUploadJob, ready, healthy, true, "", true},
		"its condition again":            {reconcile.OfUploadJob, healthy, healthy, false, "", true},
		"the end of its condition":       {reconcile.OfUploadJob, healthy, remove, true, "", false},
		"its field":                      {reconcile.OfUploadJob, healthy, backlog, true, "", true},
		"another one's condition":        {reconcile.OfBackfill, ready, healthy, false, "UploadsHealthy", false},
		"the end of another one's":       {reconcile.OfTenant, healthy, remove, false, "UploadsHealthy", true},
		"another one's field":            {reconcile.OfBackfill, healthy, backlog, false, "status.backlog", true},
		"a condition that it may add":    {reconcile.OfTenant, ready, healthy, true, "", true},
		"another state of what it added": {reconcile.OfTenant, healthy, unhealthy, false, "UploadsHealthy", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := newTenant(t, env)
			tc.exists(before)
			if err := env.Client.Status().Update(t.Context(), before); err != nil {
				t.Fatal(err)
			}
			now := before.DeepCopy()
			tc.change(now)
			writer := reconcile.Writer{Client: env.Client, Owner: tc.owner}
			written, err := writer.Write(t.Context(), before, now)
			if written != tc.wantWritten || (err == nil) != (tc.wantError == "") ||
				(err != nil && !strings.Contains(err.Error(), tc.wantError)) {
				t.Errorf("written: %t, %v; want %t, %q", written, err, tc.wantWritten, tc.wantError)
			}
			live := read(t, env.Client, before)
			got := apimeta.FindStatusCondition(live.Status.Conditions, v1alpha1.ConditionUploadsHealthy)
			if (got != nil) != tc.wantCondition || (got != nil && got.Status != metav1.ConditionTrue) {
				t.Errorf("UploadsHealthy: %+v, want it: %t", got, tc.wantCondition)
			}
		})
	}
}

func unhealthy(t *v1alpha1.Tenant) {
	conditions.Set(t, v1alpha1.ConditionUploadsHealthy, metav1.ConditionFalse, "Why", "what")
}

// TestWriteFields writes a field over a change of another writer, and rejects conditions.
func TestWriteFields(t *testing.T) {
	env := kubetest.Get(t)
	tenant := newTenant(t, env)
	old := tenant.DeepCopy()
	ready := tenant.DeepCopy()
	set(v1alpha1.ConditionReady)(ready)
	first := reconcile.Writer{Client: env.Client, Owner: reconcile.OfTenant}
	if _, err := first.Write(t.Context(), tenant, ready); err != nil {
		t.Fatal(err)
	}
	writer := reconcile.Writer{Client: env.Client, Owner: reconcile.OfUploadJob}
	now := old.DeepCopy()
	now.Status.Backlog = ptr.To[int32](7)
	if written, err := writer.WriteFields(t.Context(), old, now); err != nil || !written {
		t.Fatalf("written: %t, %v", written, err)
	}
	live := read(t, env.Client, tenant)
	if live.Status.Backlog == nil || !apimeta.IsStatusConditionTrue(live.Status.Conditions, v1alpha1.ConditionReady) {
		t.Errorf("the status is %+v", live.Status)
	}
	set(v1alpha1.ConditionUploadsHealthy)(now)
	if _, err := writer.WriteFields(t.Context(), live, now); err == nil || !strings.Contains(err.Error(), "use Write") {
		t.Errorf("conditions without a lock: %v", err)
	}
}

// TestWriteAfterAnotherChange rejects conditions that are based on an old object. A deleted object is not an error.
func TestWriteAfterAnotherChange(t *testing.T) {
	env := kubetest.Get(t)
	old := newTenant(t, env)
	writer := reconcile.Writer{Client: env.Client, Owner: reconcile.OfTenant}
	newer := old.DeepCopy()
	set(v1alpha1.ConditionReady)(newer)
	if written, err := writer.Write(t.Context(), old, newer); !written || err != nil {
		t.Fatalf("written: %t, %v", written, err)
	}
	now := old.DeepCopy()
	set(v1alpha1.ConditionStalled)(now)
	if written, err := writer.Write(t.Context(), old, now); written || !apierrors.IsConflict(err) {
		t.Errorf("based on an old object: written %t, %v; want a conflict", written, err)
	}
	if err := env.Client.Delete(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if written, err := writer.Write(t.Context(), old, now); written || err != nil {
		t.Errorf("of a deleted object: written %t, %v", written, err)
	}
}

// TestWritersLoseNoCondition has all writers of a Tenant's status write at the same time, each several times.
func TestWritersLoseNoCondition(t *testing.T) {
	env := kubetest.Get(t)
	tenant := newTenant(t, env)
	owners := map[string]reconcile.Owner{
		v1alpha1.ConditionReady:             reconcile.OfTenant,
		v1alpha1.ConditionUploadsHealthy:    reconcile.OfUploadJob,
		v1alpha1.ConditionBackfillSucceeded: reconcile.OfBackfill,
	}
	const rounds = 10
	patient := wait.Backoff{Steps: 1000, Duration: time.Millisecond, Jitter: 5}
	var all sync.WaitGroup
	for kind, owner := range owners {
		all.Go(func() {
			writer := reconcile.Writer{Client: env.Client, Owner: owner}
			for round := range rounds {
				err := retry.RetryOnConflict(patient, func() error {
					before := read(t, env.Client, tenant)
					now := before.DeepCopy()
					conditions.Set(now, kind, metav1.ConditionTrue, "Why", strings.Repeat("x", round+1))
					_, err := writer.Write(t.Context(), before, now)
					return err
				})
				if err != nil {
					t.Errorf("%s: %v", kind, err)
				}
			}
		})
	}
	all.Wait()
	var want []metav1.Condition
	for kind := range owners {
		want = append(want, metav1.Condition{
			Type:               kind,
			Status:             metav1.ConditionTrue,
			Reason:             "Why",
			Message:            strings.Repeat("x", rounds),
			ObservedGeneration: 1,
		})
	}
	got := read(t, env.Client, tenant).Status.Conditions
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(metav1.Condition{}, "LastTransitionTime"),
		cmpopts.SortSlices(func(a, b metav1.Condition) bool { return a.Type < b.Type })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
