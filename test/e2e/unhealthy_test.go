//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// within is how soon a Tenant must say that it is unhealthy. A pod may wait three minutes for a node.
const within = 5 * time.Minute

// TestUnhealthyTenants has one Tenant for each way to be unhealthy. Each must say so, in the words of the part
// that is at fault, and must not be Ready.
func TestUnhealthyTenants(t *testing.T) {
	for name, make := range map[string]func(*testing.T){
		"wrong credentials":      wrongCredentials,
		"missing bucket":         missingBucket,
		"encryption policy":      encryptionPolicy,
		"storage quota":          storageQuota,
		"line break in a Secret": lineBreakInSecret,
		"Exotel refuses":         exotelRefuses,
		"wrong Exotel cluster":   wrongCluster,
		"resource quota":         resourceQuota,
		"no node":                noNode,
		"sidecar never ends":     sidecarNeverEnds,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			make(t)
		})
	}
}

// waitUnhealthy waits for a condition that is False with a text, and for Ready to be False.
func (x *tenant) waitUnhealthy(t *testing.T, kind string, parts ...string) {
	t.Helper()
	x.waitFalse(t, kind, parts...)
	x.waitFalse(t, v1alpha1.ConditionReady)
}

// waitFalse waits for a condition that is False with a text.
func (x *tenant) waitFalse(t *testing.T, kind string, parts ...string) {
	t.Helper()
	start := time.Now()
	eventually.Within(within).Reaches(t, fmt.Sprintf("%s of %s is False and says %q", kind, x.id(), parts),
		func(ctx context.Context) (bool, string) {
			var o v1alpha1.Tenant
			if err := x.client.Get(ctx, client.ObjectKey{Namespace: x.ns, Name: x.name}, &o); err != nil {
				return false, err.Error()
			}
			condition := apimeta.FindStatusCondition(o.Status.Conditions, kind)
			ok := condition != nil && condition.Status == metav1.ConditionFalse
			for _, p := range parts {
				ok = ok && strings.Contains(condition.Message, p)
			}
			return ok, fmt.Sprint(o.Status.Conditions)
		})
	t.Logf("after %s", time.Since(start).Round(time.Second))
}

func wrongCredentials(t *testing.T) {
	tenant := applyTenant(t, tenantOptions{
		source:       newSource(t).url,
		bucketSecret: map[string]string{"accessKeyID": shared.s3Key, "secretAccessKey": "of-another-key"},
	})
	tenant.waitUnhealthy(t, v1alpha1.ConditionStorageReachable, tenant.bucket, "spec.recordings.credentialsSecretRef")
}

func missingBucket(t *testing.T) {
	tenant := applyTenant(t, tenantOptions{
		source: newSource(t).url,
		change: func(o *v1alpha1.Tenant) { o.Spec.Recordings.Bucket = "no-such-bucket" },
	})
	tenant.waitUnhealthy(t, v1alpha1.ConditionStorageReachable, "no-such-bucket")
}

// onStrictStore makes a Tenant whose store has rules.
func onStrictStore(t *testing.T, rules s3test.Rules) (*tenant, *source) {
	t.Helper()
	strict := s3test.NewStrict(t, rules, nil)
	src := newSource(t)
	x := applyTenant(t, tenantOptions{
		source:       src.url,
		endpoint:     "http://" + newProxy(t, strings.TrimPrefix(strict.URL, "http://")).addr,
		bucketSecret: map[string]string{"accessKeyID": strict.AccessKey, "secretAccessKey": strict.SecretKey},
		change:       func(o *v1alpha1.Tenant) { o.Spec.Recordings.Bucket = strict.Bucket },
	})
	return x, src
}

func encryptionPolicy(t *testing.T) {
	tenant, src := onStrictStore(t, s3test.Rules{Encryption: "AES256"})
	tenant.waitAccepted(t, tenant.secret) // whatever is wrong with the store
	tenant.announce(t, src.recordings(tenant, 1, 10_000))
	eventually.Within(within).Reaches(t, "the Tenant is not Ready", func(ctx context.Context) (bool, string) {
		var o v1alpha1.Tenant
		err := tenant.client.Get(ctx, client.ObjectKey{Namespace: tenant.ns, Name: tenant.name}, &o)
		condition := apimeta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionReady)
		return err == nil && condition != nil && condition.Status == metav1.ConditionFalse &&
				strings.Contains(condition.Message, "ncrypt"),
			fmt.Sprint(o.Status.Conditions)
	})
}

// storageQuota has a store that takes small objects, such as that of a check, and no recording.
func storageQuota(t *testing.T) {
	tenant, src := onStrictStore(t, s3test.Rules{Refuse: func(r *http.Request) *s3test.Refusal {
		if r.Method != http.MethodPut || r.ContentLength < 5000 {
			return nil
		}
		return &s3test.Refusal{
			Status:  http.StatusForbidden,
			Code:    "QuotaExceeded",
			Message: "The quota of this bucket is used up.",
		}
	}})
	tenant.waitReady(t)
	tenant.announce(t, src.recordings(tenant, 1, 20_000))
	tenant.waitUnhealthy(t, v1alpha1.ConditionUploadsHealthy, "QuotaExceeded")
}

func lineBreakInSecret(t *testing.T) {
	tenant := applyTenant(t, tenantOptions{
		source:       newSource(t).url,
		bucketSecret: map[string]string{"accessKeyID": shared.s3Key + "\n", "secretAccessKey": shared.s3Secret},
	})
	tenant.waitUnhealthy(t, v1alpha1.ConditionCredentialsValid, `key "accessKeyID"`, `Secret "bucket"`, "line break")
}

func exotelRefuses(t *testing.T) {
	src := newSource(t)
	tenant := newTenant(t, tenantOptions{source: src.url})
	recs := src.recordings(tenant, 1, 10_000)
	src.Set(path(recs[0]), exotelsim.Quirks{Status: http.StatusUnauthorized})
	tenant.announce(t, recs)
	tenant.waitUnhealthy(t, v1alpha1.ConditionUploadsHealthy, "401", "spec.exotel.credentialsSecretRef")
}

// wrongCluster has an account that the named cluster of Exotel does not know: it answers 404. That has no part in
// Ready, since webhooks of the other cluster still arrive.
func wrongCluster(t *testing.T) {
	src := newSource(t)
	src.SetAllDetails(exotelsim.DetailQuirks{Status: http.StatusNotFound})
	tenant := applyTenant(t, tenantOptions{
		source: src.url,
		change: func(o *v1alpha1.Tenant) {
			o.Spec.Exotel.Backfill = &v1alpha1.BackfillSpec{Interval: &metav1.Duration{Duration: time.Minute}}
		},
	})
	tenant.waitFalse(t, v1alpha1.ConditionBackfillSucceeded, "404", "check the region")
}

// resourceQuota rejects the upload pods of one Tenant: they get a priority class whose quota is used up.
func resourceQuota(t *testing.T) {
	src := newSource(t)
	tenant := newTenant(t, tenantOptions{source: src.url})
	class := &schedulingv1.PriorityClass{
		ObjectMeta: metav1.ObjectMeta{Name: tenant.ns},
	} // of value 0, as pods without one
	tenant.create(t, class)
	quota := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: uploadNamespace, Name: tenant.ns},
		Spec: corev1.ResourceQuotaSpec{
			Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")},
			ScopeSelector: &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{{
				ScopeName: corev1.ResourceQuotaScopePriorityClass,
				Operator:  corev1.ScopeSelectorOpIn,
				Values:    []string{tenant.ns},
			}}},
		},
	}
	tenant.create(t, quota)
	t.Cleanup(func() {
		_ = tenant.client.Delete(context.Background(), quota)
		_ = tenant.client.Delete(context.Background(), class)
	})
	tenant.mutatePods(t, fmt.Sprintf(`[JSONPatch{op: "add", path: "/spec/priorityClassName", value: %q}]`, tenant.ns))
	tenant.announce(t, src.recordings(tenant, 1, 10_000))
	tenant.waitUnhealthy(t, v1alpha1.ConditionUploadsHealthy, "exceeded quota: "+tenant.ns)
}

func noNode(t *testing.T) {
	src := newSource(t)
	tenant := newTenant(t, tenantOptions{source: src.url})
	tenant.mutatePods(t, `[JSONPatch{op: "add", path: "/spec/nodeSelector", value: {"e2e": "no-node-has-this"}}]`)
	tenant.announce(t, src.recordings(tenant, 1, 10_000))
	tenant.waitUnhealthy(t, v1alpha1.ConditionUploadsHealthy, "is not scheduled", "node")
}

// sidecarNeverEnds injects a container as a service mesh does that knows nothing of Jobs.
func sidecarNeverEnds(t *testing.T) {
	src := newSource(t)
	tenant := newTenant(t, tenantOptions{source: src.url})
	tenant.mutatePods(t, fmt.Sprintf(`[JSONPatch{op: "add", path: "/spec/containers/-", value: Object.spec.containers{
		name: "mesh-proxy", image: %q, imagePullPolicy: "Never", args: ["listen", "9999"],
		securityContext: Object.spec.containers.securityContext{allowPrivilegeEscalation: false,
			capabilities: Object.spec.containers.securityContext.capabilities{drop: ["ALL"]}}}}]`, probeImage))
	tenant.announce(t, src.recordings(tenant, 1, 10_000))
	tenant.waitUnhealthy(t, v1alpha1.ConditionUploadsHealthy, "mesh-proxy")
	tenant.waitUploaded(t, 1, time.Minute)
}

// mutatePods changes the upload pods of this Tenant alone, as other programs of a cluster change pods.
func (x *tenant) mutatePods(t *testing.T, patch string) {
	t.Helper()
	name := "caly-" + x.ns
	ofTenant := map[string]string{v1alpha1.LabelTenantNamespace: x.ns}
	policy := &admissionv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.MutatingAdmissionPolicySpec{
			ReinvocationPolicy: admissionv1.NeverReinvocationPolicy,
			MatchConstraints: &admissionv1.MatchResources{
				ObjectSelector: &metav1.LabelSelector{MatchLabels: ofTenant},
				ResourceRules: []admissionv1.NamedRuleWithOperations{
					{RuleWithOperations: admissionv1.RuleWithOperations{
						Operations: []admissionv1.OperationType{admissionv1.Create},
						Rule: admissionv1.Rule{
							APIGroups:   []string{""},
							APIVersions: []string{"v1"},
							Resources:   []string{"pods"},
						},
					}},
				},
			},
			Mutations: []admissionv1.Mutation{{
				PatchType: admissionv1.PatchTypeJSONPatch,
				JSONPatch: &admissionv1.JSONPatch{Expression: patch},
			}},
		},
	}
	binding := &admissionv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       admissionv1.MutatingAdmissionPolicyBindingSpec{PolicyName: name},
	}
	x.create(t, policy)
	x.create(t, binding)
	t.Cleanup(func() {
		_ = x.client.Delete(context.Background(), binding)
		_ = x.client.Delete(context.Background(), policy)
	})
	time.Sleep(5 * time.Second) // the API server watches policies
}
