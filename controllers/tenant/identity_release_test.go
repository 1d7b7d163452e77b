package tenant

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/objectstore"
)

// TestWebIdentityDeletesObjects deletes a Tenant's objects after the credentials of its last config have expired.
func TestWebIdentityDeletesObjects(t *testing.T) {
	r := newIdentityRig(t)
	r.account(t, allowedAccount("support"))
	r.start(t)
	tenant := r.ready(t, "support", r.withIdentity, func(t *v1alpha1.Tenant) {
		t.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete
	})
	t.Cleanup(func() { r.noneShown(t) })
	bucket, err := objectstore.New(r.upload(t, tenant).Config(), loopback())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.Put(t.Context(), objectstore.Object{
		Key:         tenant.ID() + "/a.mp3",
		Body:        strings.NewReader("audio"),
		Size:        5,
		ContentType: "audio/mpeg",
	}); err != nil {
		t.Fatal(err)
	}
	r.store.Expire(r.store.Issued()[0].AccessKey)
	r.ahead.Store(int64(2 * time.Hour))
	r.delete(t, tenant)
	r.untilGone(t, tenant)
	if left := r.store.Keys(); len(left) > 0 {
		t.Errorf("the bucket still has %v", left)
	}
	if got := len(r.sts.Requests()); got != 2 {
		t.Errorf("the STS was asked %d times, want twice: once for the deletion", got)
	}
}

// TestIdentityDigest differs for all that gives other rights.
func TestIdentityDigest(t *testing.T) {
	base := objectstore.WebIdentity{Endpoint: "https://sts.test", RoleARN: "role", Audience: "a", Duration: time.Hour}
	digest := func(tenant, account string, change func(*objectstore.WebIdentity)) string {
		w := base
		if change != nil {
			change(&w)
		}
		d, err := identityDigest(tenant, account, w)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	seen := map[string]string{digest("t", "s", nil): "the first"}
	for name, got := range map[string]string{
		"a Tenant made again":         digest("t2", "s", nil),
		"a ServiceAccount made again": digest("t", "s2", nil),
		"both, joined otherwise":      digest("ts", "", nil),
		"another role":                digest("t", "s", func(w *objectstore.WebIdentity) { w.RoleARN = "r" }),
		"another STS":                 digest("t", "s", func(w *objectstore.WebIdentity) { w.Endpoint += "/x" }),
		"another audience":            digest("t", "s", func(w *objectstore.WebIdentity) { w.Audience = "b" }),
		"another duration":            digest("t", "s", func(w *objectstore.WebIdentity) { w.Duration++ }),
	} {
		if other := seen[got]; other != "" {
			t.Errorf("%s has the digest of %s", name, other)
		}
		seen[got] = fmt.Sprintf("%q", name)
	}
	if got := digest("t", "s", func(w *objectstore.WebIdentity) { w.Token = "another" }); seen[got] != "the first" {
		t.Error("the digest depends on the token")
	}
}
