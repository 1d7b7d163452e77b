package tenant

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// listed returns the list of tenant configs, nil without one.
func (r *subject) listed(t *testing.T) []string {
	t.Helper()
	var s corev1.Secret
	err := r.Client.Get(t.Context(), client.ObjectKey{Namespace: r.Work, Name: tenantconfig.ListSecretName}, &s)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if string(s.Type) != v1alpha1.SecretTypeTenantConfigList {
		return nil
	}
	return append([]string{}, slices.Sorted(maps.Keys(tenantconfig.DecodeList(s.Data)))...)
}

func (r *subject) configName(tenant *v1alpha1.Tenant) string {
	return tenantconfig.SecretName(tenantconfig.PrefixTenant, tenant.ID())
}

func (r *subject) untilListed(t *testing.T, tenants ...*v1alpha1.Tenant) {
	t.Helper()
	eventually.Within(30*time.Second).Succeeds(t, r.lists(t, tenants...))
}

// lists returns a check that the list has exactly the configs of these Tenants.
func (r *subject) lists(t *testing.T, tenants ...*v1alpha1.Tenant) func(context.Context) error {
	want := []string{}
	for _, tenant := range tenants {
		want = append(want, r.configName(tenant))
	}
	slices.Sort(want)
	return func(context.Context) error {
		if got := r.listed(t); got == nil || !slices.Equal(got, want) {
			return fmt.Errorf("listed are %q, want %q", got, want)
		}
		return nil
	}
}

// TestListOfConfigs follows the list through the life of an installation.
func TestListOfConfigs(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	stop := rig.start(t)
	rig.untilListed(t) // empty: no Tenant exists
	first := rig.ready(t, "support")
	rig.untilListed(t, first)
	broken := rig.newTenant("broken") // without its Secrets
	rig.Create(t, broken)
	rig.until(t, broken, has(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonSecretNotFound))
	second := rig.ready(t, "sales")
	rig.untilListed(t, first, second)

	list := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: rig.Work, Name: tenantconfig.ListSecretName}}
	if err := rig.Client.Delete(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	rig.untilListed(t, first, second) // written again

	// A new installation: the work namespace is empty, the Tenants exist and their status says Ready.
	stop()
	if err := errors.Join(
		rig.Client.DeleteAllOf(t.Context(), &corev1.Secret{}, client.InNamespace(rig.Work)),
	); err != nil {
		t.Fatal(err)
	}
	rig.start(t)
	rig.untilListed(t, first, second)

	if err := rig.Client.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	rig.untilListed(t, second)
}

// TestConfigIsWithdrawnBeforeItIsDeleted deletes a Tenant. A pod that sees the deletion of the config must find the
// list without it within moments, so the list is written first.
func TestConfigIsWithdrawnBeforeItIsDeleted(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(t, "support")
	rig.untilListed(t, tenant)
	ctx, cancel := context.WithCancel(t.Context())
	var early atomic.Bool
	watching := make(chan struct{})
	go func() { // without the list, the config is gone; without the config, the list must be without it
		defer close(watching)
		for ctx.Err() == nil {
			var config, list corev1.Secret
			err := rig.Client.Get(ctx, client.ObjectKey{Namespace: rig.Work, Name: rig.configName(tenant)}, &config)
			gone := apierrors.IsNotFound(err)
			err = rig.Client.Get(ctx, client.ObjectKey{Namespace: rig.Work, Name: tenantconfig.ListSecretName}, &list)
			if _, in := tenantconfig.DecodeList(list.Data)[rig.configName(tenant)]; gone && err == nil && in {
				early.Store(true)
			}
		}
	}()
	if err := rig.Client.Delete(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	rig.untilListed(t)
	cancel()
	<-watching
	if early.Load() {
		t.Error("the config was deleted while the list had it")
	}
}

// TestSuspendedWithoutConfig suspends a Tenant that cannot be compiled and whose config somebody deleted: the pods must
// not keep the last value, which is not suspended.
func TestSuspendedWithoutConfig(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(t, "support")
	rig.untilListed(t, tenant)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: rig.Namespace, Name: "support-exotel"}}
	if err := rig.Client.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	rig.until(t, tenant, has(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonSecretNotFound))
	config := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: rig.Work, Name: rig.configName(tenant)}}
	if err := rig.Client.Delete(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	eventually.For(2*listEvery).Stays(t, rig.lists(t, tenant)) // a deletion by accident
	rig.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.Suspend = ptr.To(true) })
	rig.untilListed(t)
}

// TestListWaitsForTenants tests when the first list is written.
func TestListWaitsForTenants(t *testing.T) {
	tenants := make([]v1alpha1.Tenant, 3)
	for i := range tenants {
		tenants[i].Namespace, tenants[i].Name = "acme", fmt.Sprint("t", i)
	}
	tenants[2].DeletionTimestamp = &metav1.Time{Time: time.Now()}
	const long = 3 * time.Minute
	const first, second, third = "acme/t0", "acme/t1", "acme/t9"
	for name, tc := range map[string]struct {
		age      time.Duration
		tenants  []v1alpha1.Tenant
		compiled []string
		want     bool
	}{
		"no Tenant":                       {age: time.Second, want: true},
		"not started":                     {},
		"none compiled":                   {age: time.Second, tenants: tenants},
		"one compiled":                    {age: time.Second, tenants: tenants, compiled: []string{first}},
		"all but one in deletion":         {age: 1, tenants: tenants, compiled: []string{first, second}, want: true},
		"one fails for long":              {age: long, tenants: tenants, compiled: []string{second}, want: true},
		"all fail: PostgreSQL is down":    {age: 24 * time.Hour, tenants: tenants},
		"another one that does not exist": {age: time.Second, tenants: tenants, compiled: []string{second, third}},
	} {
		configList := &ConfigList{}
		if tc.age > 0 {
			configList.began = time.Now().Add(-tc.age)
		}
		for _, id := range tc.compiled {
			configList.Compiled(id)
		}
		if got := configList.complete(tc.tenants); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestListIsRepaired overwrites the list with other data.
func TestListIsRepaired(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(t, "support")
	rig.untilListed(t, tenant)
	var list corev1.Secret
	key := client.ObjectKey{Namespace: rig.Work, Name: tenantconfig.ListSecretName}
	if err := rig.Client.Get(t.Context(), key, &list); err != nil {
		t.Fatal(err)
	}
	list.Data = map[string][]byte{"another": []byte("x")}
	if err := rig.Client.Update(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	rig.untilListed(t, tenant)
}

// TestListIsPruned lists a config as an operator leaves it that was rolled back and deleted the Tenant without knowing
// the list. One whose Tenant exists stays listed: its config is written again.
func TestListIsPruned(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	stop := rig.start(t)
	first := rig.ready(t, "support")
	second := rig.ready(t, "sales")
	rig.untilListed(t, first, second)
	stop()
	list := &ConfigList{Client: rig.Client, APIReader: rig.Client, WorkNamespace: rig.Work}
	list.Publish(tenantconfig.SecretName(tenantconfig.PrefixTenant, "gone/gone"))
	if err := list.keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(rig.listed(t)); n != 3 {
		t.Fatalf("%d are listed, want 3", n)
	}
	config := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: rig.Work, Name: rig.configName(second)}}
	if err := rig.Client.Delete(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	sweeper := rig.sweeper(rig.DB)
	sweeper.Configs = list
	if err := sweeper.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	rig.untilListed(t, first, second)
}
