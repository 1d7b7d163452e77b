//go:build e2e

package e2e

import (
	"context"
	"os"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/internal/adminapi"
	adminclient "github.com/caly-dev/caly/internal/adminapi/client"
	"github.com/caly-dev/caly/internal/buildinfo"
)

// TestKubectlCaly reaches the operator's admin API by a real port-forward: with the client certificate of the kubeconfig, and
// with a token whose rights are those of the aggregated ClusterRole edit in one namespace.
func TestKubectlCaly(t *testing.T) {
	source := newSource(t).url
	x := newTenant(t, tenantOptions{source: source})
	other := applyTenant(t, tenantOptions{source: source})
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	var version buildinfo.Info
	if err := x.adminAPI(t, config).Get(t.Context(), adminapi.VersionPath, nil, &version); err != nil {
		t.Fatalf("with the certificate of the kubeconfig: %v", err)
	}
	t.Logf("the operator is %s", version)

	engineer := rest.AnonymousClientConfig(config)
	engineer.BearerToken = x.token(t, "engineer")
	c := x.adminAPI(t, engineer)
	list := func(ctx context.Context, namespace string) (found []adminapi.Recording, err error) {
		found, _, err = adminclient.All[adminapi.Recording](
			ctx, c, adminapi.Path(namespace, adminapi.ResourceRecordings), nil, 10)
		return found, err
	}
	if _, err := list(t.Context(), x.ns); !apierrors.IsForbidden(err) {
		t.Errorf("without the right to forward ports: %v", err)
	}
	x.bind(t, releaseNamespace, rbacv1.RoleRef{
		APIGroup: rbacv1.GroupName,
		Kind:     "Role",
		Name:     "caly-kubectl",
	}, "engineer")
	x.bind(t, x.ns, rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"}, "engineer")
	minute.Reaches(t, "the engineer may list recordings", func(ctx context.Context) (bool, string) {
		_, err := list(ctx, x.ns)
		return err == nil, errorText(err)
	})
	for namespace, name := range map[string]string{other.ns: "another namespace", "": "all namespaces"} {
		if found, err := list(t.Context(), namespace); !apierrors.IsForbidden(err) || len(found) > 0 {
			t.Errorf("%s: %d recordings, %v", name, len(found), err)
		}
	}
	var done adminapi.Done
	path := adminapi.Path(x.ns, adminapi.ResourceRecordings, adminapi.RetryPath)
	retry := adminapi.Retry{Tenant: x.name, IDs: []string{"1f0c9a7be2d4c681"}}
	if err := c.Post(t.Context(), path, retry, &done); err != nil || done.Results[0].Result != adminapi.ResultNotFound {
		t.Errorf("retry of a recording that does not exist: %+v, %v", done, err)
	}
}

// adminAPI returns a client that forwards a port of the operator's pod.
func (x *tenant) adminAPI(t *testing.T, config *rest.Config) *adminclient.Client {
	t.Helper()
	pods, err := adminclient.NewPods(config, releaseNamespace)
	if err != nil {
		t.Fatal(err)
	}
	c, err := adminclient.New(config, pods)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); pods.Close() })
	return c
}

// token returns a token of a new ServiceAccount of the Tenant's namespace.
func (x *tenant) token(t *testing.T, name string) string {
	t.Helper()
	x.create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: x.ns, Name: name}})
	made, err := x.kube.CoreV1().ServiceAccounts(x.ns).CreateToken(
		t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made.Status.Token
}

// bind gives a ServiceAccount of the Tenant's namespace a role in a namespace, until the test ends.
func (x *tenant) bind(t *testing.T, namespace string, role rbacv1.RoleRef, account string) {
	t.Helper()
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "e2e-"},
		RoleRef:    role,
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: x.ns, Name: account}},
	}
	x.create(t, binding)
	t.Cleanup(func() {
		err := x.client.Delete(context.WithoutCancel(t.Context()), binding)
		if client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	})
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
