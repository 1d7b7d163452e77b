package tenant

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

func TestSuspend(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(t, "support")
	rig.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.Suspend = ptr.To(true) })
	rig.until(
		t, tenant,
		both(
			isReady, has(v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "spec.suspend"),
			has(
				v1alpha1.ConditionReady,
				metav1.ConditionTrue,
				v1alpha1.ReasonReady,
				"suspended: webhooks are refused and uploads wait",
			),
		),
	)
	rig.suspended(t, tenant, true)
	rig.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.Suspend = ptr.To(false) })
	rig.until(t, tenant, isReady)
	rig.suspended(t, tenant, false)
	if condition := find(tenant, v1alpha1.ConditionSuspended); condition != nil {
		t.Errorf("condition %v: it must be absent while it is not true", condition)
	}
}

// suspended looks at both who must know: the queue, which lends no recordings, and the data plane, which refuses webhooks.
func (r *subject) suspended(t *testing.T, tenant *v1alpha1.Tenant, want bool) {
	t.Helper()
	eventually.Within(soon).Succeeds(t, func(context.Context) error {
		row := r.PG.Number(t, `SELECT count(*) FROM tenants WHERE tenant = $1 AND suspended`, tenant.ID()) == 1
		config := r.config(t, tenant).Suspended
		if row != want || config != want {
			return fmt.Errorf("suspended: row %v, tenant config %v, want %v", row, config, want)
		}
		return nil
	})
}

// TestSuspendWhileStalled checks that the webhooks of a suspended Tenant are refused now, even if the Tenant has other
// faults.
func TestSuspendWhileStalled(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(*testing.T, *subject, *v1alpha1.Tenant){
		"a Secret is gone": func(t *testing.T, r *subject, _ *v1alpha1.Tenant) {
			r.Delete(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: "support-exotel"}})
		},
		"a bad time zone": func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
			r.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.Exotel.TimeZone = "Nowhere" })
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newSubject(t)
			r.start(t)
			tenant := r.ready(t, "support")
			breaks(t, r, tenant)
			r.until(t, tenant, func(t *v1alpha1.Tenant) error {
				if find(t, v1alpha1.ConditionStalled) == nil {
					return fmt.Errorf("not stalled")
				}
				return nil
			})
			r.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.Suspend = ptr.To(true) })
			r.suspended(t, tenant, true)
			r.putSecrets(t, "support", r.goodSecrets())
			r.change(t, tenant, func(t *v1alpha1.Tenant) {
				t.Spec.Suspend = nil
				t.Spec.Exotel.TimeZone = "Asia/Kolkata"
			})
			r.until(t, tenant, isReady)
			r.suspended(t, tenant, false)
		})
	}
}

// TestRotation changes Secrets, and nothing else, and waits until the pods' configs have the new values.
func TestRotation(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(t, "support")
	const current, next = "webhook-secret-0123456789", "webhook-secret-next-00000"
	for _, step := range []struct {
		name string
		data map[string]string
		want []secret.Sensitive
	}{
		{"a second secret next to it", map[string]string{
			"current": current,
			"next":    next,
		}, []secret.Sensitive{current, next}},
		{"in the order of their keys", map[string]string{"b": current, "a": next}, []secret.Sensitive{next, current}},
		{"the first one is gone", map[string]string{"next": next}, []secret.Sensitive{next}},
	} {
		digest := rig.config(t, tenant).Digest()
		rig.PutSecret(t, "support-webhook", step.data)
		eventually.Within(tenantconfig.RefreshDelay).Succeeds(t, func(context.Context) error {
			if diff := cmp.Diff(
				step.want,
				rig.config(t, tenant).Webhooks.Signature.Secrets,
				cmp.Transformer("reveal", secret.Sensitive.Reveal),
			); diff != "" {
				return fmt.Errorf("%s (-want +got):\n%s", step.name, diff)
			}
			return nil
		})
		rig.until(t, tenant, func(t *v1alpha1.Tenant) error {
			if t.Status.ConfigDigest == digest {
				return fmt.Errorf("%s: the digest is the one before", step.name)
			}
			return isReady(t)
		})
	}
	rig.PutSecret(t, "support-exotel", map[string]string{"apiKey": "exotel-key-7f3a", "apiToken": "exotel-token-new"})
	eventually.Within(tenantconfig.RefreshDelay).Succeeds(t, func(context.Context) error {
		if got := rig.upload(t, tenant).ExotelToken; got != "exotel-token-new" {
			return fmt.Errorf("the upload config has another token")
		}
		return nil
	})
}

// TestRestart checks that a restarted operator leaves good objects unchanged and replaces bad ones.
func TestRestart(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		meanwhile func(*testing.T, *subject, *v1alpha1.Tenant)
		wantSame  bool // the database password
	}{
		"nothing happened": {func(*testing.T, *subject, *v1alpha1.Tenant) {}, true},
		"the upload config was deleted": {func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
			r.Delete(t, r.secret(t, tenantconfig.PrefixUpload, tenant))
		}, false},
		"the upload config was spoilt": {func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
			secret := r.secret(t, tenantconfig.PrefixUpload, tenant)
			secret.Data[tenantconfig.Key] = []byte("nonsense")
			if err := r.Client.Update(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
		}, false},
		"a Secret was rotated": {func(t *testing.T, r *subject, _ *v1alpha1.Tenant) {
			r.PutSecret(t, "support-exotel", map[string]string{
				"apiKey":   "exotel-key-7f3a",
				"apiToken": "exotel-token-new",
			})
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newSubject(t)
			stop := r.start(t)
			tenant := r.ready(t, "support")
			before := r.upload(t, tenant)
			stop()
			tc.meanwhile(t, r, tenant)
			r.start(t)
			eventually.Within(soon).Succeeds(t, func(context.Context) error { // the new operator has been at it
				if r.buckets.count(tenant.ID()) < 2 {
					return fmt.Errorf("no probe yet")
				}
				return nil
			})
			r.until(t, tenant, isReady)
			after := r.upload(t, tenant)
			if same := after.DatabaseURL == before.DatabaseURL; same != tc.wantSame {
				t.Errorf("the database password is the same: %v, want %v", same, tc.wantSame)
			}
			r.loginWorks(t, tenant)
		})
	}
}

// direct is a reconciler without a manager, to end it between two steps.
func (r *subject) direct() *Reconciler {
	// Without a cache there is no index: the API server lists all Tenants of the rig.
	unindexed := interceptor.NewClient(r.Client, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			var o client.ListOptions
			o.ApplyOptions(opts)
			if o.FieldSelector != nil {
				o.FieldSelector = nil
				o.Namespace = r.Namespace
			}
			return c.List(ctx, list, &o)
		},
	})
	return &Reconciler{
		Client:          unindexed,
		APIReader:       r.Client,
		Recorder:        events.NewFakeRecorder(16),
		Store:           r.DB,
		Buckets:         r.buckets,
		WorkNamespace:   r.Work,
		UploadNamespace: r.Uploads,
		PublicURL:       "https://voice.example",
	}
}

// TestEndedBetweenSteps ends the operator after each of its steps; the next one brings the Tenant to the same end.
func TestEndedBetweenSteps(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	first := rig.direct()
	steps := []reconcile.Step[*scope]{
		first.addFinalizer,
		first.claimNames,
		first.claim,
		first.suspend,
		first.readSecrets,
		first.shareAccount,
		first.compile,
		first.ensureRole,
		first.limitRole,
		first.apply,
		first.releaseNames,
		first.probe,
	}
	for done := range len(steps) + 1 {
		t.Run(fmt.Sprintf("after %d steps", done), func(t *testing.T) {
			name := fmt.Sprintf("t%d", done)
			rig.putSecrets(t, name, rig.goodSecrets())
			tenant := rig.newTenant(name)
			rig.Create(t, tenant)
			ctx := log.IntoContext(t.Context(), rig.Logger())
			s := &scope{Scope: reconcile.Begin(tenant.DeepCopy()), tenant: tenant.DeepCopy()}
			if err := reconcile.Run(ctx, s, steps[:done]...); err != nil {
				t.Fatal(err)
			}
			if _, err := rig.direct().Reconcile(
				ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(tenant)},
			); err != nil {
				t.Fatal(err)
			}
			rig.until(t, tenant, isReady)
			rig.loginWorks(t, tenant)
			if applied := done >= 10; applied && rig.upload(t, tenant).DatabaseURL != s.upload.DatabaseURL {
				t.Error("the database password that the first operator had written did not stay")
			}
		})
	}
	rig.verify(t)
}

// TestDatabaseAway verifies that a Tenant is not ready during a database outage, retries, and recovers without any
// action by a user.
func TestDatabaseAway(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	old := rig.ready(t, "old")
	login := rig.upload(t, old).DatabaseURL
	rig.PG.Stop(t)
	up := false
	defer func() { // the server is everybody's
		if !up {
			rig.PG.Start(t)
		}
	}()
	rig.putSecrets(t, "new", rig.goodSecrets())
	tenant := rig.newTenant("new")
	rig.Create(t, tenant)
	rig.until(t, tenant, reconcilingFor(v1alpha1.ReasonConfigFailed, "will be tried again", "database unavailable"))
	rig.change(t, old, func(t *v1alpha1.Tenant) { t.Spec.Suspend = ptr.To(true) })
	rig.until(t, old, reconcilingFor(v1alpha1.ReasonConfigFailed, "will be tried again"))
	rig.PG.Start(t)
	up = true
	rig.until(t, tenant, isReady)
	rig.until(t, old, both(isReady, has(v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended)))
	rig.suspended(t, old, true)
	if rig.upload(t, old).DatabaseURL != login {
		t.Error("the outage cost the upload pods their password")
	}
	rig.loginWorks(t, tenant)
}

// TestGoneMeanwhile checks that it is not an error if a Tenant is deleted before its turn comes.
func TestGoneMeanwhile(t *testing.T) {
	rig := newSubject(t)
	res, err := rig.direct().Reconcile(context.Background(), ctrl.Request{NamespacedName: client.ObjectKey{
		Namespace: rig.Namespace,
		Name:      "gone",
	}})
	if err != nil || res != (ctrl.Result{}) {
		t.Errorf("got %v, %v; want nothing", res, err)
	}
}

// oldClient reads a Tenant as it was, as a cache does that is behind.
type oldClient struct {
	client.Client
	tenant *v1alpha1.Tenant
}

func (c *oldClient) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	if t, ok := o.(*v1alpha1.Tenant); ok {
		c.tenant.DeepCopyInto(t)
		return nil
	}
	return c.Client.Get(ctx, key, o, opts...)
}

// TestReadTooEarly checks that a decision on an old Tenant is not written, is not reported as an error, and is made
// again.
func TestReadTooEarly(t *testing.T) {
	rig := newSubject(t)
	for name, read := range map[string]func(*testing.T, *v1alpha1.Tenant){
		"before its finalizer": func(*testing.T, *v1alpha1.Tenant) {},
		"with its finalizer": func(t *testing.T, o *v1alpha1.Tenant) {
			rig.change(t, o, func(o *v1alpha1.Tenant) { o.Finalizers = []string{v1alpha1.FinalizerTenant} })
		},
		"being deleted": func(t *testing.T, o *v1alpha1.Tenant) {
			rig.change(t, o, func(o *v1alpha1.Tenant) { o.Finalizers = []string{v1alpha1.FinalizerTenant} })
			if err := rig.Client.Delete(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			if err := rig.Client.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			tenant := rig.newTenant("t" + strings.ReplaceAll(name, " ", "-"))
			rig.putSecrets(t, tenant.Name, rig.goodSecrets())
			rig.Create(t, tenant)
			read(t, tenant)
			old := tenant.DeepCopy()
			rig.change(t, tenant, func(o *v1alpha1.Tenant) { o.Labels = map[string]string{"somebody": "else"} })
			behind := rig.direct()
			behind.Client = &oldClient{Client: behind.Client, tenant: old}
			req := ctrl.Request{NamespacedName: client.ObjectKeyFromObject(tenant)}
			ctx := log.IntoContext(t.Context(), rig.Logger())
			if res, err := behind.Reconcile(ctx, req); err != nil || res.RequeueAfter <= 0 {
				t.Errorf("on the old one: %+v, %v; want another turn", res, err)
			}
			var now v1alpha1.Tenant
			if err := rig.Client.Get(t.Context(), req.NamespacedName, &now); err != nil ||
				now.ResourceVersion != tenant.ResourceVersion {
				t.Errorf("the Tenant was written: %v", err)
			}
			if res, err := rig.direct().Reconcile(ctx, req); err != nil {
				t.Errorf("on what is there: %+v, %v", res, err)
			}
		})
	}
}
