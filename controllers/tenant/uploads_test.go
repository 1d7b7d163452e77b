package tenant

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// TestReadyReflectsUploads verifies that failing uploads make a Tenant not Ready, with the text of the condition of the
// upload Job's controller. The Tenant's webhooks stay, and it is Ready again when that condition is.
func TestReadyReflectsUploads(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(t, "support")
	rig.until(t, tenant, has(v1alpha1.ConditionUploadsHealthy, metav1.ConditionTrue, v1alpha1.ReasonUploadsHealthy))
	write := func(f func()) {
		t.Helper()
		base := tenant.DeepCopy()
		f()
		if err := rig.Client.Status().Patch(t.Context(), tenant, client.MergeFrom(base)); err != nil {
			t.Fatal(err)
		}
	}
	fails := func(reason, message string) func() {
		return func() {
			conditions.Set(tenant, v1alpha1.ConditionUploadsHealthy, metav1.ConditionFalse, reason, message)
		}
	}
	write(fails(v1alpha1.ReasonUploadPodsRejected, "exceeded quota: compute"))
	rig.until(t, tenant, reconcilingFor(v1alpha1.ReasonUploadPodsRejected, "webhooks are accepted",
		"exceeded quota: compute"))
	rig.config(t, tenant)
	write(fails(v1alpha1.ReasonUploadPodsRejected, "exceeded quota: another"))
	rig.until(t, tenant, reconcilingFor(v1alpha1.ReasonUploadPodsRejected, "exceeded quota: another"))
	write(func() { conditions.SetUploadsHealthy(tenant) })
	rig.until(t, tenant, isReady)
}

// TestStoreIsAskedWhenUploadsFail stops the store of a Tenant after it has answered. Uploads fail, and the condition of
// the storage follows at once: the next check of its own would come after five minutes.
func TestStoreIsAskedWhenUploadsFail(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(t, "support")
	rig.until(t, tenant, has(v1alpha1.ConditionUploadsHealthy, metav1.ConditionTrue, v1alpha1.ReasonUploadsHealthy))
	controllertest.NextSecond(t)
	rig.s3.Stop(t)
	base := tenant.DeepCopy()
	conditions.Set(tenant, v1alpha1.ConditionUploadsHealthy, metav1.ConditionFalse, v1alpha1.ReasonUploadsFailing,
		"the last upload failed (StorageUnavailable): connection refused")
	if err := rig.Client.Status().Patch(t.Context(), tenant, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	rig.until(t, tenant, has(v1alpha1.ConditionStorageReachable, metav1.ConditionFalse,
		v1alpha1.ReasonEndpointUnreachable))
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	rig.s3.Start(t)
}

// TestDoubt tests which answers of a bucket uploads that fail call into question.
func TestDoubt(t *testing.T) {
	now := time.Now()
	for name, tc := range map[string]struct {
		answered, failing time.Duration // ago
		wantFresh         bool
	}{
		"failed since it answered":       {answered: 20 * time.Second, failing: time.Second},
		"answered since, and lately":     {answered: 20 * time.Second, failing: time.Minute, wantFresh: true},
		"answered since, some time ago":  {answered: 31 * time.Second, failing: time.Hour},
		"answered and failed just now":   {answered: 0, failing: 0, wantFresh: true},
		"answered before, but long ago":  {answered: 4 * time.Minute, failing: time.Minute},
		"failing for long, answered now": {answered: time.Second, failing: time.Hour, wantFresh: true},
	} {
		c := probeCache{good: map[string]probed{"acme/support": {at: now.Add(-tc.answered)}}}
		c.doubt("acme/support", now.Add(-tc.failing))
		if got := !c.good["acme/support"].at.IsZero(); got != tc.wantFresh {
			t.Errorf("%s: fresh %v", name, got)
		}
	}
	var empty probeCache
	empty.doubt("acme/support", now)
}

// TestDoubtWritesOnceMore has uploads fail in a bucket that keeps what the check writes. The daily write comes once
// without a wait, since a list of objects does not find out what the bucket refuses.
func TestDoubtWritesOnceMore(t *testing.T) {
	store := s3test.NewStrict(t, s3test.Rules{Lock: true}, nil)
	reconciler := &Reconciler{Buckets: S3{Transport: loopback()}}
	s := &scope{upload: &tenantconfig.Upload{ID: "acme/support"}}
	s.upload.Storage = tenantconfig.Storage{
		Endpoint:        store.URL,
		Region:          "us-east-1",
		Bucket:          store.Bucket,
		AccessKeyID:     secret.Sensitive(store.AccessKey),
		SecretAccessKey: secret.Sensitive(store.SecretKey),
	}
	ask := func() (writes int) {
		t.Helper()
		before := len(store.Asked())
		last, err := reconciler.ask(t.Context(), s, reconciler.probes.get("acme/support", [32]byte{}))
		if err != nil || last.found.Kept == "" {
			t.Fatalf("found %+v, %v; want that the bucket keeps the object", last.found, err)
		}
		reconciler.probes.keep("acme/support", [32]byte{}, last)
		for _, request := range store.Asked()[before:] {
			if strings.HasPrefix(request, "PUT ") {
				writes++
			}
		}
		return writes
	}
	if ask() == 0 {
		t.Fatal("the first check wrote nothing")
	}
	if n := ask(); n != 0 {
		t.Fatalf("the next check wrote %d times", n)
	}
	failing := time.Now()
	reconciler.probes.doubt("acme/support", failing)
	if ask() == 0 {
		t.Error("the check after a failed upload wrote nothing")
	}
	reconciler.probes.doubt("acme/support", failing)
	if n := ask(); n != 0 {
		t.Errorf("a later check wrote %d times", n)
	}
}
