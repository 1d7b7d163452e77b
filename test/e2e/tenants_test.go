//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// TestDeletion deletes a Tenant under both policies: Retain keeps rows and objects, Delete removes both, and either way
// nothing of it is left in the work namespace.
func TestDeletion(t *testing.T) {
	for name, tc := range map[string]struct {
		policy v1alpha1.DeletionPolicy
		want   int
	}{
		"retain": {v1alpha1.DeletionPolicyRetain, 3},
		"delete": {v1alpha1.DeletionPolicyDelete, 0},
	} {
		t.Run(name, func(t *testing.T) {
			src := newSource(t)
			tenant := newTenant(t, tenantOptions{source: src.url, policy: tc.policy})
			tenant.announce(t, src.recordings(tenant, 3, 10_000))
			tenant.waitUploaded(t, 3, time.Minute)
			tenant.deleteAndWait(t)
			if got := len(tenant.objects(t)); got != tc.want {
				t.Errorf("%d objects are left, want %d", got, tc.want)
			}
			if _, u, _, err := tenant.counts(t.Context()); err != nil || u != tc.want {
				t.Errorf("%d rows are left (%v), want %d", u, err, tc.want)
			}
			tenant.nothingLeft(t)
		})
	}
}

func (x *tenant) deleteAndWait(t *testing.T) {
	t.Helper()
	obj := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: x.ns, Name: x.name}}
	if err := x.client.Delete(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	minute.Reaches(t, "the Tenant is gone", func(ctx context.Context) (bool, string) {
		err := x.client.Get(ctx, client.ObjectKeyFromObject(obj), obj)
		return apierrors.IsNotFound(err), fmt.Sprint(obj.Status.Conditions, err)
	})
}

// nothingLeft checks both namespaces for the Tenant's Secrets, and PostgreSQL for its role.
func (x *tenant) nothingLeft(t *testing.T) {
	t.Helper()
	labels := client.MatchingLabels{v1alpha1.LabelTenant: x.name, v1alpha1.LabelTenantNamespace: x.ns}
	halfMinute.Reaches(t, "its Secrets are gone", func(ctx context.Context) (bool, string) {
		var configs, uploads corev1.SecretList
		err := errors.Join(
			x.client.List(ctx, &configs, client.InNamespace(workNamespace), labels),
			x.client.List(ctx, &uploads, client.InNamespace(uploadNamespace), labels),
		)
		left := len(configs.Items) + len(uploads.Items)
		return err == nil && left == 0, fmt.Sprint(left, err)
	})
	var roles int
	err := x.db.QueryRow(t.Context(), `SELECT count(*) FROM upload_roles WHERE tenant = $1`, x.id()).Scan(&roles)
	if err != nil || roles != 0 {
		t.Errorf("%d database roles of the tenant are left (%v)", roles, err)
	}
}

// TestIsolation shows that one tenant's upload pods cannot read another's credentials or rows: their service account may
// read nothing, they mount their own Secret alone, and PostgreSQL shows their role no other tenant's rows whatever it sets.
func TestIsolation(t *testing.T) {
	src := newSource(t)
	tenant := newTenant(t, tenantOptions{source: src.url})
	b := newTenant(t, tenantOptions{source: src.url})
	recs := src.recordings(tenant, 1, 400_000)
	src.slow(recs, 50_000)
	tenant.announce(t, recs)
	b.announce(t, src.recordings(b, 2, 10_000))
	var pod corev1.Pod
	minute.Reaches(t, "an upload pod of the first tenant is there", func(ctx context.Context) (bool, string) {
		list, err := pods(ctx, tenant.client, uploadNamespace, uploadPodsOf(tenant))
		if err == nil && len(list) > 0 {
			pod = list[0]
		}
		return err == nil && len(list) > 0, fmt.Sprint(len(list), err)
	})
	if got, want := mountedSecrets(&pod), []string{
		tenantconfig.SecretName(tenantconfig.PrefixUpload, tenant.id()),
	}; !slices.Equal(got, want) {
		t.Errorf("the pod mounts the Secrets %v, want %v", got, want)
	}
	tenant.noAPIAccess(t, &pod)
	tenant.dataplaneReadsNoUploads(t)
	tenant.rowsOfAnother(t, b)
}

func mountedSecrets(p *corev1.Pod) []string {
	var names []string
	for _, v := range p.Spec.Volumes {
		if v.Secret != nil {
			names = append(names, v.Secret.SecretName)
		}
		if v.Projected != nil {
			names = append(names, "projected:"+v.Name)
		}
	}
	return names
}

func (x *tenant) noAPIAccess(t *testing.T, p *corev1.Pod) {
	t.Helper()
	if p.Spec.AutomountServiceAccountToken == nil || *p.Spec.AutomountServiceAccountToken {
		t.Error("the pod is given an API token")
	}
	for _, verb := range []string{"get", "list"} {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: "system:serviceaccount:" + uploadNamespace + ":" + p.Spec.ServiceAccountName,
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: uploadNamespace,
				Verb:      verb,
				Resource:  "secrets",
			},
		}}
		x.create(t, review)
		if review.Status.Allowed {
			t.Errorf("the pod's service account may %s secrets", verb)
		}
	}
}

// dataplaneReadsNoUploads tests that the data plane may read tenant configs, and no upload credentials.
func (x *tenant) dataplaneReadsNoUploads(t *testing.T) {
	t.Helper()
	for namespace, want := range map[string]bool{workNamespace: true, uploadNamespace: false, releaseNamespace: false} {
		for _, verb := range []string{"get", "list", "watch"} {
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
				User: "system:serviceaccount:" + releaseNamespace + ":caly-dataplane",
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: namespace,
					Verb:      verb,
					Resource:  "secrets",
				},
			}}
			x.create(t, review)
			if review.Status.Allowed != want {
				t.Errorf(
					"the data plane may %s secrets in %s: %v, want %v", verb, namespace, review.Status.Allowed, want,
				)
			}
		}
	}
	var configs corev1.SecretList
	if err := x.client.List(t.Context(), &configs, client.InNamespace(workNamespace)); err != nil {
		t.Fatal(err)
	}
	for _, s := range configs.Items {
		if s.Type == v1alpha1.SecretTypeUploadConfig {
			t.Errorf("Secret %s with upload credentials is in the namespace that the data plane reads", s.Name)
		}
	}
}

// rowsOfAnother connects as x's upload role and tries to see the other's rows.
func (x *tenant) rowsOfAnother(t *testing.T, other *tenant) {
	t.Helper()
	var s corev1.Secret
	key := client.ObjectKey{
		Namespace: uploadNamespace,
		Name:      tenantconfig.SecretName(tenantconfig.PrefixUpload, x.id()),
	}
	if err := x.client.Get(t.Context(), key, &s); err != nil {
		t.Fatal(err)
	}
	cfg, err := tenantconfig.DecodeUpload(s.Data[tenantconfig.Key])
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), cfg.DatabaseURL.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(t.Context(), `SELECT set_config('caly.tenant', $1, false)`, other.id()); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"recordings", "recording_history", "calls", "call_events"} {
		var n int
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM `+table+` WHERE tenant = $1`, other.id()).Scan(&n)
		if n != 0 {
			t.Errorf("%d rows of %s of another tenant can be read (%v)", n, table, err)
		}
	}
}

// TestMissingSecret applies a Tenant whose Secret does not exist: the Tenant stalls and names the Secret, and recovers
// without another change.
func TestMissingSecret(t *testing.T) {
	src := newSource(t)
	tenant := newTenant(t, tenantOptions{source: src.url})
	var s corev1.Secret
	if err := tenant.client.Get(t.Context(), client.ObjectKey{Namespace: tenant.ns, Name: "bucket"}, &s); err != nil {
		t.Fatal(err)
	}
	if err := tenant.client.Delete(t.Context(), &s); err != nil {
		t.Fatal(err)
	}
	var obj v1alpha1.Tenant
	halfMinute.Reaches(t, "the Tenant is Stalled and names the Secret", func(ctx context.Context) (bool, string) {
		err := tenant.client.Get(ctx, client.ObjectKey{Namespace: tenant.ns, Name: tenant.name}, &obj)
		condition := apimeta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionStalled)
		return err == nil && condition != nil && condition.Reason == v1alpha1.ReasonSecretNotFound &&
			strings.Contains(condition.Message, "bucket"), fmt.Sprint(obj.Status.Conditions)
	})
	tenant.secretOf(t, "bucket", map[string]string{"accessKeyID": tenant.s3Key, "secretAccessKey": tenant.s3Secret})
	tenant.waitReady(t)
}
