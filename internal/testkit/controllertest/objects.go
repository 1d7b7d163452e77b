package controllertest

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/storetest"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

// Create creates an object.
func (c *Cluster) Create(t testing.TB, o client.Object) {
	t.Helper()
	if err := c.Client.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

// Delete deletes an object.
func (c *Cluster) Delete(t testing.TB, o client.Object) {
	t.Helper()
	if err := c.Client.Delete(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

// Find reads an object by its namespace and name, and reports whether it exists.
func (c *Cluster) Find(t testing.TB, namespace, name string, into client.Object) bool {
	t.Helper()
	err := c.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, into)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return err == nil
}

// UntilDeleted waits until an object does not exist.
func (c *Cluster) UntilDeleted(t testing.TB, o client.Object) {
	t.Helper()
	eventually.Succeeds(t, func(ctx context.Context) error {
		err := c.Client.Get(ctx, client.ObjectKeyFromObject(o), o)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if tenant, ok := o.(*v1alpha1.Tenant); ok {
			return fmt.Errorf("it still exists: %v, %w", tenant.Status.Conditions, err)
		}
		return fmt.Errorf("it still exists: %w", err)
	})
}

// Update applies change to an object as it is now.
func Update[O client.Object](t testing.TB, r *Rig, o O, change func(O)) {
	t.Helper()
	eventually.Succeeds(t, func(ctx context.Context) error {
		if err := r.Client.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		change(o)
		return r.Client.Update(ctx, o)
	})
}

// PatchStatus applies change to the status of an object.
func PatchStatus[O client.Object](t testing.TB, r *Rig, o O, change func(O)) {
	t.Helper()
	base := o.DeepCopyObject().(client.Object)
	change(o)
	if err := r.Client.Status().Patch(t.Context(), o, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
}

// PutSecret creates a Secret in the namespace of Tenants, or replaces its data. Its values are hidden.
func (c *Cluster) PutSecret(t testing.TB, name string, data map[string]string) {
	t.Helper()
	for _, value := range data {
		c.Hide(value)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: name}, StringData: data}
	err := c.Client.Create(t.Context(), secret)
	if apierrors.IsAlreadyExists(err) {
		err = c.Client.Update(t.Context(), secret)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Tenant creates a Tenant whose config was compiled.
func (r *Rig) Tenant(t testing.TB, name string, change ...func(*v1alpha1.Tenant)) *v1alpha1.Tenant {
	t.Helper()
	tenant := tenanttest.New(r.Namespace, name, change...)
	r.Create(t, tenant)
	r.SetDigest(t, tenant, "compiled")
	return tenant
}

// SetDigest sets what the tenant controller writes once it has compiled a Tenant.
func (r *Rig) SetDigest(t testing.TB, tenant *v1alpha1.Tenant, digest string) {
	t.Helper()
	PatchStatus(t, r, tenant, func(o *v1alpha1.Tenant) { o.Status.ConfigDigest = digest })
}

// Enqueue queues a recording and returns its id.
func (r *Rig) Enqueue(t testing.TB, tenant, callSID, url string) string {
	t.Helper()
	id := recording.ID(callSID, url)
	row := store.NewRecording{ID: id, SourceURL: url}
	if _, err := r.DB.Enqueue(t.Context(), tenant, callSID, row); err != nil {
		t.Fatal(err)
	}
	return id
}

// NextSecond waits until a condition that changes now has a later time than one that has changed: times of conditions
// have whole seconds.
func NextSecond(t testing.TB) {
	t.Helper()
	now := time.Now().Unix()
	eventually.Holds(t, "the second has passed", func() bool { return time.Now().Unix() > now })
}

// UploadPods returns the database as a tenant's upload pods use it.
func (r *Rig) UploadPods(t testing.TB, tenant string) *store.Upload {
	t.Helper()
	return storetest.OpenUpload(t, r.DB, tenant)
}
