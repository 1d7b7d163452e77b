package server_test

import (
	"context"
	"net/http"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/adminapi/client"
	"github.com/caly-dev/caly/internal/adminapi/server"
	"github.com/caly-dev/caly/internal/doctor"
	"github.com/caly-dev/caly/internal/testkit/admintest"
)

// slow is a Doctor that runs until it is released.
type slow struct{ began, release chan struct{} }

func (s slow) Platform(context.Context) []doctor.Finding { return nil }

func (s slow) Namespace(_ context.Context, namespace string) []doctor.Finding {
	s.began <- struct{}{}
	<-s.release
	return []doctor.Finding{{Object: namespace}}
}

// TestDoctor verifies who may run the checks, where, and that a namespace is checked by one caller at a time.
func TestDoctor(t *testing.T) {
	checks := slow{began: make(chan struct{}, 1), release: make(chan struct{})}
	r := admintest.New(t, func(_ *admintest.Rig, o *server.Options) { o.Doctor = checks })
	r.Grant(t, r.Namespace, "edit", admintest.Named(rbacv1.UserKind, "alice"))
	r.Grant(t, r.Namespace, "view", admintest.Named(rbacv1.UserKind, "victor"))
	users := map[string]*client.Client{}
	for _, name := range []string{"alice", "victor"} {
		users[name] = r.As(t, r.User(t, name))
	}
	run := func(user, namespace string) (report doctor.Report, err error) {
		path := adminapi.Path(namespace, adminapi.ResourceDoctor)
		err = users[user].Post(t.Context(), path, struct{}{}, &report)
		return report, err
	}
	for name, tc := range map[string]struct{ user, namespace string }{
		"the cluster":        {"alice", ""},
		"another namespace":  {"alice", r.Work},
		"a right to look at": {"victor", r.Namespace},
	} {
		if _, err := run(tc.user, tc.namespace); code(t, err) != http.StatusForbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
	type answer struct {
		report doctor.Report
		err    error
	}
	first := make(chan answer, 1)
	go func() {
		report, err := run("alice", r.Namespace)
		first <- answer{report, err}
	}()
	<-checks.began
	if _, err := run("alice", r.Namespace); code(t, err) != http.StatusTooManyRequests {
		t.Errorf("a second run: %v", err)
	}
	close(checks.release)
	if got := <-first; got.err != nil || len(got.report.Findings) != 1 || got.report.Findings[0].Object != r.Namespace {
		t.Errorf("the first run: %+v, %v", got.report, got.err)
	}
	if _, err := run("alice", r.Namespace); err != nil {
		t.Errorf("a later run: %v", err)
	}
}
