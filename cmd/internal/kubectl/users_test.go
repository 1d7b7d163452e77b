package kubectl

import (
	"crypto/sha256"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/testkit/admintest"
)

// TestUsers invites and changes accounts as a person with the ClusterRole admin. Those with edit see none.
func TestUsers(t *testing.T) {
	r := admintest.New(t)
	support := r.NewTenant(t, r.Namespace, "support")
	other := r.NewTenant(t, r.NewNamespace(t), "support")
	r.Grant(t, r.Namespace, "edit", admintest.Named(rbacv1.UserKind, "alice"))
	r.Grant(t, r.Namespace, "admin", admintest.Named(rbacv1.UserKind, "root"))
	alice := admintest.Kubeconfig(t, r.User(t, "alice"), r.Namespace)
	root := admintest.Kubeconfig(t, r.User(t, "root"), r.Namespace)

	created := execute(t, r, root, "users", "create", "-t", "support", "--email= Jane@Acme.example", "--role=admin")
	token := strings.TrimSpace(created.out)
	if created.err != nil || len(token) != 43 ||
		!strings.Contains(created.errs, "jane@acme.example is admin of "+support) {
		t.Fatalf("create: %+v", created)
	}
	sum := sha256.Sum256([]byte(token))
	if r.PG.Number(t, "SELECT count(*) FROM password_reset_tokens WHERE token_hash = $1", sum[:]) != 1 {
		t.Error("the database does not know the token")
	}
	for name, tc := range map[string]struct {
		kubeconfig string
		args       []string
		want       int
		wantText   string
	}{
		"list":         {root, []string{"list", "-o", "name"}, 0, "jane@acme.example\n"},
		"list by edit": {alice, []string{"list"}, exitNoPermission, `cannot list resource "users"`},
		"create by edit": {
			alice,
			[]string{"create", "-t", "support", "--email=eve@acme.example", "--role=admin"},
			exitNoPermission,
			`cannot create resource "users"`,
		},
		"create in another namespace": {
			root,
			[]string{"create", "-t", other, "--email=eve@acme.example", "--role=admin"},
			exitNoPermission,
			"cannot create",
		},
		"create again": {
			root,
			[]string{"create", "-t", "support", "--email=jane@acme.example", "--role=viewer"},
			exitFailed,
			"already exists",
		},
		"no email": {
			root,
			[]string{"create", "-t", "support", "--email=topsecret", "--role=viewer"},
			exitFailed,
			"must be an email address",
		},
		"no role": {
			root,
			[]string{"create", "-t", "support", "--email=a@acme.example", "--role=owner"},
			exitFailed,
			`role: "owner" is not one of`,
		},
		"no Tenant":         {root, []string{"disable", "jane@acme.example"}, cli.ExitUsage, "--tenant is needed"},
		"unknown person":    {root, []string{"disable", "joe@acme.example", "-t", "support"}, exitFailed, "not found"},
		"change by edit":    {alice, []string{"disable", "jane@acme.example", "-t", "support"}, exitNoPermission, "cannot update"},
		"change of another": {root, []string{"disable", "jane@acme.example", "-t", other}, exitNoPermission, "cannot update"},
	} {
		t.Run(name, func(t *testing.T) {
			got := execute(t, r, tc.kubeconfig, append([]string{"users"}, tc.args...)...)
			text := got.out
			if got.err != nil {
				text = got.err.Error()
			}
			if got.status != tc.want || !strings.Contains(text, tc.wantText) || strings.Contains(text, "topsecret") {
				t.Errorf("status %d, %q; want %d with %q", got.status, text, tc.want, tc.wantText)
			}
		})
	}
	for _, step := range [][2]string{{"disable", "disabled"}, {"enable", "invited"}, {"revoke", "invited"}} {
		if got := execute(t, r, root, "users", step[0], "jane@acme.example", "-t", "support"); got.err != nil {
			t.Errorf("%s: %+v", step[0], got)
		}
		if got := execute(t, r, root, "users", "list"); !strings.Contains(got.out, step[1]) {
			t.Errorf("after %s: %s", step[0], got.out)
		}
	}
	if strings.Contains(r.Logs.String(), token) {
		t.Errorf("the log has the token:\n%s", r.Logs)
	}
}
