package tenant

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
)

// TestConnectionsOfUploadRole checks that the upload role's connections follow the number of upload pods.
func TestConnectionsOfUploadRole(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(t, "support")
	limit := func(want int) func(*v1alpha1.Tenant) error {
		return func(*v1alpha1.Tenant) error {
			got := rig.PG.Number(
				t, `SELECT rolconnlimit FROM pg_roles WHERE rolname = caly_upload_role_name($1)`, tenant.ID(),
			)
			if got != want {
				return fmt.Errorf("the role has %d connections, want %d", got, want)
			}
			return nil
		}
	}
	rig.until(t, tenant, limit(24))
	for pods, want := range map[int32]int{1: 12, 9: 44} {
		rig.change(t, tenant, func(c *v1alpha1.Tenant) { c.Spec.Recordings.MaxParallelism = pods })
		rig.until(t, tenant, limit(want))
		rig.loginWorks(t, tenant)
	}
}

// unlimited is the real store, but for an answer to LimitUploadRole.
type unlimited struct {
	*store.Operator
	err error
}

func (u unlimited) LimitUploadRole(context.Context, string, int) error { return u.err }

// TestLimitOfRoleRefused checks that a role that may not be altered does not stop the Tenant, and that other errors are
// retried.
func TestLimitOfRoleRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		err       error
		wantError bool
	}{
		"limited":          {},
		"of another owner": {err: &store.ServerError{Code: "42501", Message: "must have admin option"}},
		"another refusal": {
			err:       &store.ServerError{Code: "42883", Message: "no such function"},
			wantError: true,
		},
		"the database is down":   {err: store.ErrUnavailable, wantError: true},
		"something unforeseen":   {err: errors.New("unforeseen"), wantError: true},
		"the operator shut down": {err: context.Canceled, wantError: true},
	} {
		t.Run(name, func(t *testing.T) {
			reconciler := &Reconciler{Store: unlimited{err: tc.err}}
			if err := reconciler.limitRole(
				t.Context(), &scope{tenant: &v1alpha1.Tenant{}},
			); (err != nil) != tc.wantError {
				t.Errorf("%v, want an error: %v", err, tc.wantError)
			}
		})
	}
}
