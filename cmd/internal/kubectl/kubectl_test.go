package kubectl

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/buildinfo"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/admintest"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
)

func TestMain(m *testing.M) { controllertest.Main(m) }

// result is the end of a command.
type result struct {
	out, errs string
	status    int
	err       error
}

// execute runs a command as the plugin, with a kubeconfig and without a port-forward.
func execute(t *testing.T, r *admintest.Rig, kubeconfig string, args ...string) result {
	t.Helper()
	var out, errs strings.Builder
	cmd := newCommand("kubectl-caly", &Session{Version: buildinfo.Info{Version: "v1.2.4", Go: "go1"}, dialer: r})
	cmd.SilenceErrors = true
	cmd.SilenceUsage = true
	cmd.SetArgs(append(args, "--kubeconfig="+kubeconfig))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	err := cmd.ExecuteContext(t.Context())
	got := result{out: out.String(), errs: errs.String(), err: err}
	var exit *cli.ExitError
	switch {
	case errors.As(err, &exit):
		got.status = exit.Code
	case err != nil:
		got.status = exitFailed
	}
	return got
}

// TestRecordings works on failed recordings of two Tenants of a namespace as a person does.
func TestRecordings(t *testing.T) {
	r := admintest.New(t)
	support, sales := r.NewTenant(t, r.Namespace, "support"), r.NewTenant(t, r.Namespace, "sales")
	other := r.NewTenant(t, r.NewNamespace(t), "support")
	denied, gone := r.Failed(t, support, "c1", "AccessDenied"), r.Failed(t, sales, "c2", "source-gone")
	r.Failed(t, other, "c3", "AccessDenied")
	r.Grant(t, r.Namespace, "edit", admintest.Named(rbacv1.UserKind, "alice"))
	alice := admintest.Kubeconfig(t, r.User(t, "alice"), r.Namespace)

	names := func(args ...string) []string {
		t.Helper()
		got := execute(t, r, alice, append([]string{"recordings", "list", "-o", "name"}, args...)...)
		if got.err != nil {
			t.Fatal(got.err)
		}
		list := strings.Fields(got.out)
		slices.Sort(list)
		return list
	}
	both := []string{sales + "/" + gone, support + "/" + denied}
	for name, tc := range map[string]struct {
		args []string
		want []string
	}{
		"all of the context's namespace": {want: both},
		"failed":                         {args: []string{"--failed"}, want: both},
		"one Tenant":                     {args: []string{"-t", "sales"}, want: both[:1]},
		"one Tenant by its id":           {args: []string{"-t", support}, want: both[1:]},
		"a code":                         {args: []string{"--code", "AccessDenied"}, want: both[1:]},
		"a call":                         {args: []string{"--call", "c2"}, want: both[:1]},
		"another state":                  {args: []string{"--state", "uploaded"}, want: []string{}},
		"since":                          {args: []string{"--since", "1h"}, want: both},
		"until":                          {args: []string{"--until", "1h"}, want: []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, names(tc.args...)); diff != "" {
				t.Errorf("recordings (-want +got):\n%s", diff)
			}
		})
	}

	shown := execute(t, r, alice, "recordings", "show", denied)
	for _, want := range []string{"Tenant:", support, "State:", "failed", "AccessDenied", "it failed"} {
		if !strings.Contains(shown.out, want) {
			t.Errorf("show does not say %q: %v\n%s", want, shown.err, shown.out)
		}
	}
	if strings.Contains(shown.out, "topsecret") {
		t.Errorf("show prints the signature of the source URL:\n%s", shown.out)
	}
	dry := execute(t, r, alice, "recordings", "retry", "--code=AccessDenied", "--dry-run", "-o", "name")
	if dry.err != nil || strings.TrimSpace(dry.out) != both[1] || len(names("--failed")) != 2 {
		t.Errorf("a dry run: %+v", dry)
	}
	if got := execute(t, r, alice, "recordings", "retry", "--code=AccessDenied"); got.err != nil {
		t.Errorf("retry: %+v", got)
	}
	if diff := cmp.Diff(both[:1], names("--failed")); diff != "" {
		t.Errorf("failed after the retry (-want +got):\n%s", diff)
	}
	found, err := r.DB.RecordingByID(t.Context(), support, denied)
	if err != nil || found.State != store.StatePending {
		t.Errorf("the recording is %s, %v", found.State, err)
	}
	if !strings.Contains(r.Logs.String(), "user=alice") || !strings.Contains(r.Logs.String(), denied) {
		t.Errorf("the log does not name the user and the recording:\n%s", r.Logs)
	}
}

func TestStatuses(t *testing.T) {
	r := admintest.New(t)
	r.NewTenant(t, r.Namespace, "support")
	r.Grant(t, r.Namespace, "view", admintest.Named(rbacv1.UserKind, "viewer"))
	viewer := admintest.Kubeconfig(t, r.User(t, "viewer"), r.Namespace)
	stranger := admintest.Kubeconfig(t, admintest.WithToken("topsecret"), r.Namespace)
	for name, tc := range map[string]struct {
		kubeconfig string
		args       []string
		want       int
		wantText   string
	}{
		"done": {kubeconfig: viewer, args: []string{"recordings", "list"}},
		"no rights": {
			kubeconfig: viewer,
			args:       []string{"recordings", "list", "-A"},
			want:       exitNoPermission,
			wantText:   `user "viewer" cannot list resource "recordings" in API group "voice.caly.dev" at the cluster scope`,
		},
		"a wrong token": {
			kubeconfig: stranger,
			args:       []string{"version"},
			want:       exitNoPermission,
			wantText:   "does not accept the bearer token",
		},
		"not found": {
			kubeconfig: viewer,
			args:       []string{"recordings", "show", "1f0c9a7be2d4c681"},
			want:       exitFailed,
			wantText:   `recordings.voice.caly.dev "1f0c9a7be2d4c681" not found`,
		},
		"an unknown Tenant": {
			kubeconfig: viewer,
			args:       []string{"recordings", "list", "-t", "sales"},
			want:       exitFailed,
			wantText:   `tenants.voice.caly.dev "sales" not found`,
		},
		"retry of nothing": {
			kubeconfig: viewer,
			args:       []string{"recordings", "retry"},
			want:       cli.ExitUsage,
			wantText:   "give ids of recordings",
		},
		"two scopes": {
			kubeconfig: viewer,
			args:       []string{"recordings", "list", "-A", "-n", "acme"},
			want:       cli.ExitUsage,
			wantText:   "--all-namespaces or a namespace",
		},
		"an unknown format": {
			kubeconfig: viewer,
			args:       []string{"recordings", "list", "-o", "xml"},
			want:       cli.ExitUsage,
			wantText:   `--output "xml"`,
		},
		"an unknown state": {
			kubeconfig: viewer,
			args:       []string{"recordings", "list", "--state", "lost"},
			want:       exitFailed,
			wantText:   `state: "lost" is not one of`,
		},
		"no kubeconfig": {
			kubeconfig: "/nowhere",
			args:       []string{"recordings", "list"},
			want:       exitFailed,
			wantText:   "/nowhere",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := execute(t, r, tc.kubeconfig, tc.args...)
			if got.status != tc.want || tc.want != 0 && !strings.Contains(got.err.Error(), tc.wantText) {
				t.Errorf("status %d, %v; want %d with %q", got.status, got.err, tc.want, tc.wantText)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	r := admintest.New(t)
	alice := admintest.Kubeconfig(t, r.User(t, "alice"), r.Namespace)
	got := execute(t, r, alice, "version")
	if want := "Client:   v1.2.4, go1\nOperator: v1.2.3, go1\n"; got.err != nil || got.out != want {
		t.Errorf("%v, %q, want %q", got.err, got.out, want)
	}
	if got := execute(t, r, "/nowhere", "version", "--client"); got.err != nil || got.out != "Client:   v1.2.4, go1\n" {
		t.Errorf("without the operator: %+v", got)
	}
}

func TestIsPlugin(t *testing.T) {
	for program, want := range map[string]bool{
		"/usr/local/bin/kubectl-caly": true,
		"kubectl-caly.exe":            true,
		"/caly":                       false,
		"caly":                        false,
	} {
		if got := IsPlugin(program); got != want {
			t.Errorf("%s: %t, want %t", program, got, want)
		}
	}
}
