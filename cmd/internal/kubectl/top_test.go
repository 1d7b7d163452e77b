package kubectl

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/testkit/admintest"
)

// TestTop orders the Tenants of a namespace by what they do.
func TestTop(t *testing.T) {
	r := admintest.New(t)
	quiet, calls, waits := r.NewTenant(t, r.Namespace, "a"), r.NewTenant(
		t, r.Namespace, "b",
	), r.NewTenant(t, r.Namespace, "c")
	r.NewTenant(t, r.NewNamespace(t), "a")
	r.Stream(t, calls, "c1")
	r.Enqueue(t, waits, "c2", "https://recordings.exotel.com/c2.mp3")
	r.Grant(t, r.Namespace, "view", admintest.Named(rbacv1.UserKind, "viewer"))
	viewer := admintest.Kubeconfig(t, r.User(t, "viewer"), r.Namespace)
	for name, tc := range map[string]struct {
		args []string
		want []string
	}{
		"by streams": {want: []string{calls, quiet, waits}},
		"by waiting": {args: []string{"--sort-by=waiting"}, want: []string{waits, quiet, calls}},
		"by name":    {args: []string{"--sort-by=tenant"}, want: []string{quiet, calls, waits}},
		"one":        {args: []string{"--limit=1"}, want: []string{calls}},
	} {
		t.Run(name, func(t *testing.T) {
			got := execute(t, r, viewer, append([]string{"top", "-o", "name"}, tc.args...)...)
			if diff := cmp.Diff(tc.want, strings.Fields(got.out)); diff != "" || got.err != nil {
				t.Errorf("%v; Tenants (-want +got):\n%s", got.err, diff)
			}
		})
	}
	if got := execute(t, r, viewer, "top", "--sort-by=size"); got.status != cli.ExitUsage {
		t.Errorf("an unknown order: %+v", got)
	}
	if got := execute(t, r, viewer, "top", "-A"); got.status != exitNoPermission {
		t.Errorf("of all namespaces: %+v", got)
	}
}
