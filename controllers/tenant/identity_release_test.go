package tenant

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// TestWebIdentityDeletesObjects deletes a Tenant's objects while the credentials of its last config are valid, and
// after they have expired.
func TestWebIdentityDeletesObjects(t *testing.T) {
	for name, tc := range map[string]struct {
		expired bool
		want    int // requests at the STS
	}{
		"valid credentials":   {want: 1},
		"expired credentials": {expired: true, want: 2},
	} {
		t.Run(name, func(t *testing.T) {
			identitySubject := newIdentitySubject(t)
			identitySubject.account(t, allowedAccount("support"))
			identitySubject.start(t)
			tenant := identitySubject.withObject(t)
			if tc.expired {
				identitySubject.expire()
			}
			identitySubject.Delete(t, tenant)
			identitySubject.UntilDeleted(t, tenant)
			if left := identitySubject.store.Keys(); len(left) > 0 {
				t.Errorf("the bucket still has %v", left)
			}
			if got := len(identitySubject.sts.Requests()); got != tc.want {
				t.Errorf("the STS was asked %d times, want %d", got, tc.want)
			}
			if log := identitySubject.Logs.String(); strings.Contains(log, "panic") {
				t.Errorf("the operator recovered from a panic:\n%s", log)
			}
		})
	}
}

// TestWebIdentityDeletionSaysWhy deletes a Tenant whose credentials have expired and cannot be renewed.
func TestWebIdentityDeletionSaysWhy(t *testing.T) {
	for name, tc := range map[string]struct {
		breaks func(*testing.T, *identitySubject, *corev1.ServiceAccount)
		want   []string
	}{
		"ServiceAccount deleted": {
			breaks: func(t *testing.T, r *identitySubject, a *corev1.ServiceAccount) { r.Delete(t, a) },
			want:   []string{"ServiceAccountNotFound", "create it"},
		},
		"annotation removed": {
			breaks: func(t *testing.T, r *identitySubject, a *corev1.ServiceAccount) {
				a.Annotations = nil
				if err := r.Client.Update(t.Context(), a); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"ServiceAccountNotAllowed", "annotate serviceaccount recordings"},
		},
		"STS refuses": {
			breaks: func(_ *testing.T, r *identitySubject, _ *corev1.ServiceAccount) {
				r.sts.SetRules(func(rules *s3test.STSRules) { rules.Subject = "another" })
			},
			want: []string{"WebIdentityRefused", "Not authorized to perform"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newIdentitySubject(t)
			account := r.account(t, allowedAccount("support"))
			r.start(t)
			tenant := r.withObject(t)
			tc.breaks(t, r, account) // first, so that no reconcile renews the credentials
			r.expire()
			r.Delete(t, tenant)
			r.until(t, tenant, reconcilingFor(v1alpha1.ReasonDeleting, append(tc.want, "could not be deleted",
				`correct spec.recordings or ServiceAccount "recordings"`, "set spec.deletionPolicy to Retain")...))
			r.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.DeletionPolicy = v1alpha1.DeletionPolicyRetain })
			r.UntilDeleted(t, tenant)
		})
	}
}

// withObject makes a Tenant whose deletion deletes its objects, with one object.
func (r *identitySubject) withObject(t *testing.T) *v1alpha1.Tenant {
	t.Helper()
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
	return tenant
}

// expire lets the credentials that were issued first expire.
func (r *identitySubject) expire() {
	r.store.Expire(r.store.Issued()[0].AccessKey)
	r.ahead.Store(int64(2 * time.Hour))
}

// TestIdentityDigest differs for all that gives other rights.
func TestIdentityDigest(t *testing.T) {
	base := objectstore.WebIdentity{Endpoint: "https://sts.test", RoleARN: "role", Audience: "a", Duration: time.Hour}
	digest := func(tenant, account string, change func(*objectstore.WebIdentity)) string {
		webIdentity := base
		if change != nil {
			change(&webIdentity)
		}
		d, err := identityDigest(tenant, account, webIdentity)
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
