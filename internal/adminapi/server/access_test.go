package server_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/buildinfo"
	"github.com/caly-dev/caly/internal/testkit/admintest"
	"github.com/caly-dev/caly/internal/testkit/certtest"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
)

func TestMain(m *testing.M) { controllertest.Main(m) }

// code returns the HTTP status of an error of the admin API; 200 without one.
func code(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return http.StatusOK
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		t.Fatalf("it is not an answer of the admin API: %v", err)
	}
	return int(status.Status().Code)
}

func TestAuthentication(t *testing.T) {
	r := admintest.New(t)
	other := certtest.New(t)
	stranger := func(template x509.Certificate) *rest.Config {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		return admintest.WithCertificate(other.Client(t, template))
	}
	removed := r.Token(t, r.Namespace, "removed")
	r.Delete(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: "removed"}})
	for name, tc := range map[string]struct {
		config   *rest.Config
		header   http.Header
		want     int
		wantText string
	}{
		"no credentials": {
			config:   admintest.WithToken(""),
			want:     http.StatusUnauthorized,
			wantText: "neither a bearer token nor a client certificate",
		},
		"a wrong token": {
			config:   admintest.WithToken("topsecret"),
			want:     http.StatusUnauthorized,
			wantText: "does not accept the bearer token",
		},
		"a token for another audience": {
			config:   admintest.WithToken(r.Token(t, r.Namespace, "robot", "sts.amazonaws.com")),
			want:     http.StatusUnauthorized,
			wantText: "does not accept the bearer token",
		},
		"the token of a deleted ServiceAccount": {
			config: admintest.WithToken(removed),
			want:   http.StatusUnauthorized,
		},
		"a token": {config: admintest.WithToken(r.Token(t, r.Namespace, "robot")), want: http.StatusOK},
		"a client certificate": {
			config: r.User(t, "alice"),
			want:   http.StatusOK,
		},
		"a client certificate of another authority": {
			config: stranger(x509.Certificate{Subject: pkix.Name{
				CommonName:   "alice",
				Organization: []string{"system:masters"},
			}}),
			want:     http.StatusUnauthorized,
			wantText: "the client certificate is not valid",
		},
		"headers of an authenticating proxy": {
			config: admintest.WithToken(""),
			header: http.Header{"X-Remote-User": {"alice"}, "X-Remote-Group": {"system:masters"}},
			want:   http.StatusUnauthorized,
		},
		"a user name and a password": {
			config: admintest.WithToken(""),
			header: http.Header{"Authorization": {"Basic YWxpY2U6dG9wc2VjcmV0"}},
			want:   http.StatusUnauthorized,
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := rest.CopyConfig(tc.config)
			config.Wrap(func(next http.RoundTripper) http.RoundTripper {
				return withHeader{next, tc.header}
			})
			var got buildinfo.Info
			err := r.As(t, config).Get(t.Context(), adminapi.VersionPath, nil, &got)
			if code(t, err) != tc.want || tc.wantText != "" && !strings.Contains(err.Error(), tc.wantText) {
				t.Errorf("got %v, want status %d with %q", err, tc.want, tc.wantText)
			}
			if tc.want == http.StatusOK && got.Version != "v1.2.3" {
				t.Errorf("it answers %+v", got)
			}
			if err != nil && strings.Contains(err.Error(), "topsecret") {
				t.Errorf("the error has the token: %v", err)
			}
		})
	}
	for _, secret := range []string{"topsecret", removed} {
		if strings.Contains(r.Logs.String(), secret) {
			t.Errorf("the log has a token:\n%s", r.Logs)
		}
	}
}

// withHeader adds a header to requests.
type withHeader struct {
	next   http.RoundTripper
	header http.Header
}

func (w withHeader) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	for name, values := range w.header {
		request.Header[name] = values
	}
	return w.next.RoundTrip(request)
}

// TestAuthorization checks the rights of the chart's roles, and that a right in one namespace gives nothing of another.
func TestAuthorization(t *testing.T) {
	r := admintest.New(t)
	acme, globex := r.Namespace, r.NewNamespace(t)
	support, sales := r.NewTenant(t, acme, "support"), r.NewTenant(t, globex, "sales")
	mine, theirs := r.Failed(t, support, "c1", "AccessDenied"), r.Failed(t, sales, "c2", "AccessDenied")
	users := map[string]*rest.Config{}
	for _, role := range []string{"none", "view", "edit"} {
		users[role] = r.User(t, role)
		if role != "none" {
			r.Grant(t, acme, role, admintest.Named(rbacv1.UserKind, role))
		}
	}
	r.Grant(t, acme, "edit", admintest.Named(rbacv1.GroupKind, "acme:engineers"))
	users["group"] = r.User(t, "bob", "acme:engineers")
	users["robot"] = admintest.WithToken(r.Token(t, acme, "robot"))
	r.Grant(t, acme, "view", rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: acme, Name: "robot"})
	users["masters"] = r.User(t, "root", "system:masters")

	list := func(namespace string) func(*testing.T, *rest.Config) error {
		return func(t *testing.T, config *rest.Config) error {
			var got adminapi.List[adminapi.Recording]
			err := r.As(t, config).Get(t.Context(), adminapi.Path(namespace, "recordings"), nil, &got)
			for _, found := range got.Items {
				if !strings.HasPrefix(found.Tenant, namespace) {
					t.Errorf("a list of %q has a recording of %s", namespace, found.Tenant)
				}
			}
			return err
		}
	}
	show := func(namespace, id string) func(*testing.T, *rest.Config) error {
		return func(t *testing.T, config *rest.Config) error {
			var got adminapi.Recording
			return r.As(t, config).Get(t.Context(), adminapi.Path(namespace, "recordings", id), nil, &got)
		}
	}
	retry := func(namespace, tenant, id string) func(*testing.T, *rest.Config) error {
		return func(t *testing.T, config *rest.Config) error {
			var got adminapi.Done
			body := adminapi.Retry{Tenant: tenant, IDs: []string{id}}
			return r.As(t, config).Post(t.Context(), adminapi.Path(namespace, "recordings", "retry"), body, &got)
		}
	}
	for name, tc := range map[string]struct {
		do   func(*testing.T, *rest.Config) error
		want map[string]int
	}{
		"list in the namespace": {
			do:   list(acme),
			want: map[string]int{"none": 403, "view": 200, "edit": 200, "group": 200, "robot": 200, "masters": 200},
		},
		"list in another namespace": {
			do:   list(globex),
			want: map[string]int{"none": 403, "view": 403, "edit": 403, "group": 403, "robot": 403, "masters": 200},
		},
		"list in all namespaces": {
			do:   list(""),
			want: map[string]int{"none": 403, "view": 403, "edit": 403, "group": 403, "robot": 403, "masters": 200},
		},
		"show": {
			do:   show(acme, mine),
			want: map[string]int{"none": 403, "view": 200, "edit": 200, "group": 200, "robot": 200, "masters": 200},
		},
		"show one of another namespace through mine": {
			do:   show(acme, theirs),
			want: map[string]int{"none": 403, "view": 404, "edit": 404, "group": 404, "robot": 404, "masters": 404},
		},
		"show one of another namespace": {
			do:   show(globex, theirs),
			want: map[string]int{"none": 403, "view": 403, "edit": 403, "group": 403, "robot": 403, "masters": 200},
		},
		"retry": {
			do:   retry(acme, "support", mine),
			want: map[string]int{"none": 403, "view": 403, "edit": 200, "group": 200, "robot": 403, "masters": 200},
		},
		"retry of another namespace's Tenant through mine": {
			do:   retry(acme, "sales", theirs),
			want: map[string]int{"none": 403, "view": 403, "edit": 404, "group": 404, "robot": 403, "masters": 404},
		},
		"retry in another namespace": {
			do:   retry(globex, "sales", theirs),
			want: map[string]int{"none": 403, "view": 403, "edit": 403, "group": 403, "robot": 403, "masters": 200},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[string]int{}
			for user, config := range users {
				got[user] = code(t, tc.do(t, config))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("statuses by user (-want +got):\n%s", diff)
			}
		})
	}
}

func TestImpersonation(t *testing.T) {
	r := admintest.New(t)
	r.NewTenant(t, r.Namespace, "support")
	r.Grant(t, r.Namespace, "view", admintest.Named(rbacv1.UserKind, "viewer-"+r.Namespace))
	r.Grant(t, r.Namespace, "view", admintest.Named(rbacv1.GroupKind, "viewers-"+r.Namespace))
	r.Grant(t, r.Namespace, "view", rbacv1.Subject{
		Kind:      rbacv1.ServiceAccountKind,
		Namespace: r.Namespace,
		Name:      "robot",
	})
	support := r.User(t, "support-"+r.Namespace)
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "impersonate-" + r.Namespace},
		Rules: []rbacv1.PolicyRule{
			{
				APIGroups:     []string{""},
				Resources:     []string{"users"},
				Verbs:         []string{"impersonate"},
				ResourceNames: []string{"viewer-" + r.Namespace, "nobody"},
			},
			{
				APIGroups:     []string{""},
				Resources:     []string{"groups"},
				Verbs:         []string{"impersonate"},
				ResourceNames: []string{"viewers-" + r.Namespace},
			},
			{APIGroups: []string{""}, Resources: []string{"serviceaccounts"}, Verbs: []string{"impersonate"}},
		},
	}
	r.Create(t, role)
	r.Create(t, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{admintest.Named(rbacv1.UserKind, "support-"+r.Namespace)},
	})
	for name, tc := range map[string]struct {
		as       rest.ImpersonationConfig
		header   http.Header
		want     int
		wantText string
	}{
		"nobody else": {want: 403, wantText: `user "support-`},
		"a user": {
			as:   rest.ImpersonationConfig{UserName: "viewer-" + r.Namespace},
			want: 200,
		},
		"a user without rights": {
			as:       rest.ImpersonationConfig{UserName: "nobody"},
			want:     403,
			wantText: `user "nobody" cannot list resource "recordings"`,
		},
		"a group": {
			as:   rest.ImpersonationConfig{UserName: "nobody", Groups: []string{"viewers-" + r.Namespace}},
			want: 200,
		},
		"a group without the right to": {
			as:       rest.ImpersonationConfig{UserName: "nobody", Groups: []string{"system:masters"}},
			want:     403,
			wantText: `cannot impersonate resource "groups"`,
		},
		"a user without the right to": {
			as:       rest.ImpersonationConfig{UserName: "root"},
			want:     403,
			wantText: `cannot impersonate resource "users"`,
		},
		"a ServiceAccount": {
			as:   rest.ImpersonationConfig{UserName: "system:serviceaccount:" + r.Namespace + ":robot"},
			want: 200,
		},
		"a UID without the right to": {
			as:       rest.ImpersonationConfig{UserName: "nobody", UID: "1"},
			want:     403,
			wantText: `cannot impersonate resource "uids" in API group "authentication.k8s.io"`,
		},
		"extra values without the right to": {
			as: rest.ImpersonationConfig{
				UserName: "nobody",
				Extra:    map[string][]string{"example.com/scopes": {"all"}},
			},
			want:     403,
			wantText: `cannot impersonate resource "userextras/example.com/scopes"`,
		},
		"a group without a user": {
			header:   http.Header{"Impersonate-Group": {"system:masters"}},
			want:     400,
			wantText: "needs a user",
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := rest.CopyConfig(support)
			config.Impersonate = tc.as
			config.Wrap(func(next http.RoundTripper) http.RoundTripper { return withHeader{next, tc.header} })
			var got adminapi.List[adminapi.Recording]
			err := r.As(t, config).Get(t.Context(), adminapi.Path(r.Namespace, "recordings"), nil, &got)
			if code(t, err) != tc.want || err != nil && !strings.Contains(err.Error(), tc.wantText) {
				t.Errorf("got %v, want status %d with %q", err, tc.want, tc.wantText)
			}
		})
	}
}
