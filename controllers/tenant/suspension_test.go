package tenant

import (
	"context"
	"errors"
	"fmt"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// annotate sets an annotation of the rig's Namespace as the platform does. An empty value removes it.
func (r *subject) annotate(t *testing.T, key, value string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.Namespace}}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, key, value)
	if value == "" {
		patch = fmt.Sprintf(`{"metadata":{"annotations":{%q:null}}}`, key)
	}
	if err := r.Client.Patch(
		t.Context(), ns, client.RawPatch("application/merge-patch+json", []byte(patch)),
	); err != nil {
		t.Fatal(err)
	}
}

// suspendedFor wants a Ready Tenant whose condition Suspended has the reason and the parts of its message.
func suspendedFor(reason string, parts ...string) func(*v1alpha1.Tenant) error {
	return both(isReady, has(v1alpha1.ConditionSuspended, metav1.ConditionTrue, reason, parts...))
}

// notSuspended wants no condition Suspended.
func notSuspended(t *v1alpha1.Tenant) error {
	if condition := find(t, v1alpha1.ConditionSuspended); condition != nil {
		return fmt.Errorf("still suspended: %s", condition.Message)
	}
	return isReady(t)
}

func TestPlatformSuspendsANamespace(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	support := rig.ready(t, "support")
	byPlatform := suspendedFor(v1alpha1.ReasonPlatformSuspended, "the platform", "unpaid")
	rig.annotate(t, v1alpha1.AnnotationSuspend, "unpaid")
	rig.until(t, support, byPlatform)
	rig.suspended(t, support, true)

	author := rig.author(t)
	no := map[string]string{v1alpha1.AnnotationSuspend: "false"}
	for name, undo := range map[string]func(*v1alpha1.Tenant){
		"spec.suspend: false":    func(t *v1alpha1.Tenant) { t.Spec.Suspend = ptr.To(false) },
		"spec.suspend: removed":  func(t *v1alpha1.Tenant) { t.Spec.Suspend = nil },
		"annotation of a Tenant": func(t *v1alpha1.Tenant) { t.Annotations = no },
		"label of a Tenant":      func(t *v1alpha1.Tenant) { t.Labels = no },
	} {
		eventually.Within(soon).Succeeds(t, func(ctx context.Context) error {
			if err := author.Get(ctx, client.ObjectKeyFromObject(support), support); err != nil {
				return err
			}
			undo(support)
			return author.Update(ctx, support)
		})
		rig.until(t, support, byPlatform)
		if !rig.config(t, support).Suspended {
			t.Errorf("the author undid the platform's suspension by %s", name)
		}
	}
	err := author.Patch(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: rig.Namespace}},
		client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":null}}`)))
	if !apierrors.IsForbidden(err) {
		t.Errorf("the author of a Tenant may edit its Namespace: %v", err)
	}

	later := rig.newTenant("later")
	rig.putSecrets(t, "later", rig.goodSecrets())
	if err := author.Create(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	rig.until(t, later, byPlatform)
	rig.suspended(t, later, true)

	rig.annotate(t, v1alpha1.AnnotationSuspend, "")
	for _, tenant := range []*v1alpha1.Tenant{support, later} {
		rig.until(t, tenant, notSuspended)
		rig.suspended(t, tenant, false)
	}
}

func TestPlatformSuspendsOneTenant(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	support := rig.ready(t, "support")
	sales := rig.ready(t, "sales")
	rig.annotate(t, v1alpha1.AnnotationSuspend+".support", "fraud")
	rig.until(t, support, suspendedFor(v1alpha1.ReasonPlatformSuspended, "fraud"))
	rig.suspended(t, support, true)
	rig.until(t, sales, notSuspended)
	rig.suspended(t, sales, false)

	// The author's own suspension shows once the platform's ends.
	rig.change(t, support, func(t *v1alpha1.Tenant) { t.Spec.Suspend = ptr.To(true) })
	rig.annotate(t, v1alpha1.AnnotationSuspend+".support", "")
	rig.until(t, support, suspendedFor(v1alpha1.ReasonSuspended, "spec.suspend"))
	rig.suspended(t, support, true)
}

// author returns a client with every right on Tenants and Secrets of the rig's namespace, and no other.
func (r *subject) author(t *testing.T) client.Client {
	t.Helper()
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: "author"},
		Rules: []rbacv1.PolicyRule{
			{
				APIGroups: []string{v1alpha1.GroupVersion.Group},
				Resources: []string{"*"},
				Verbs:     []string{"*"},
			},
			{
				APIGroups: []string{""},
				Resources: []string{"secrets"},
				Verbs:     []string{"*"},
			},
		},
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: "author"},
		RoleRef: rbacv1.RoleRef{
			APIGroup: rbacv1.GroupName,
			Kind:     "Role",
			Name:     "author",
		},
		Subjects: []rbacv1.Subject{
			{
				APIGroup: rbacv1.GroupName,
				Kind:     rbacv1.UserKind,
				Name:     r.Namespace + "-author",
			},
		},
	}
	if err := errors.Join(r.Client.Create(t.Context(), role), r.Client.Create(t.Context(), binding)); err != nil {
		t.Fatal(err)
	}
	cfg := rest.CopyConfig(r.Config)
	cfg.Impersonate.UserName = r.Namespace + "-author"
	author, err := client.New(cfg, client.Options{Scheme: r.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	// The authorizer learns of a new Role a moment later.
	eventually.Within(soon).Succeeds(t, func(ctx context.Context) error {
		review := &authorizationv1.SelfSubjectAccessReview{}
		review.Spec.ResourceAttributes = &authorizationv1.ResourceAttributes{
			Group:     v1alpha1.GroupVersion.Group,
			Resource:  "tenants",
			Namespace: r.Namespace,
			Verb:      "update",
		}
		if err := author.Create(ctx, review); err != nil {
			return err
		}
		if !review.Status.Allowed {
			return errors.New("the author may not update Tenants yet")
		}
		return nil
	})
	return author
}
