package tenant

import (
	"strings"
	"testing"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// account gives a tenant an admin with a login session, a code, a reset token and mail that carries a code.
const account = `
	INSERT INTO users (tenant, id, email, role, password_hash, email_verified_at)
		VALUES ($TENANT, '11111111-1111-4111-8111-111111111111', 'admin@old.example', 'admin', 'hash', now());
	INSERT INTO login_sessions (tenant, id, user_id, hmac_key, expires_at)
		SELECT tenant, gen_random_uuid(), id, repeat('k', 32)::bytea, now() + interval '1 hour' FROM users
		WHERE tenant = $TENANT;
	INSERT INTO email_codes (tenant, user_id, code_hash, expires_at)
		VALUES ($TENANT, '11111111-1111-4111-8111-111111111111', repeat('h', 32)::bytea, now() + interval '1 hour');
	INSERT INTO password_reset_tokens (tenant, token_hash, user_id, expires_at)
		VALUES ($TENANT, repeat('h', 32)::bytea, '11111111-1111-4111-8111-111111111111', now() + interval '1 hour');
	INSERT INTO mail_outbox (tenant, event_key, template, recipient, sealed, expires_at)
		VALUES ($TENANT, 'code', 'verify_email', 'admin@old.example', 'sealed', now() + interval '1 hour');`

// exec executes statements as the superuser; $TENANT is the tenant's id.
func (r *subject) exec(t *testing.T, tenant, sql string) {
	t.Helper()
	r.PG.Exec(t, strings.ReplaceAll(sql, "$TENANT", "'"+tenant+"'"))
}

// access counts what lets a person into a tenant: live sessions, codes, reset tokens and unsent mail.
func (r *subject) access(t *testing.T, tenant string) int {
	t.Helper()
	return r.PG.Number(t, `SELECT (SELECT count(*) FROM login_sessions WHERE tenant = $1 AND ended_at IS NULL)
		+ (SELECT count(*) FROM email_codes WHERE tenant = $1)
		+ (SELECT count(*) FROM password_reset_tokens WHERE tenant = $1)
		+ (SELECT count(*) FROM mail_outbox WHERE tenant = $1 AND sealed <> '')`, tenant)
}

func (r *subject) count(t *testing.T, table, tenant string) int {
	t.Helper()
	return r.PG.Number(t, `SELECT count(*) FROM `+table+` WHERE tenant = $1`, tenant)
}

// replaced makes a Tenant with data and an account, deletes it and returns another one of the same name, with its
// predecessor's UID.
func (r *subject) replaced(t *testing.T, policy v1alpha1.DeletionPolicy) (tenant *v1alpha1.Tenant, predecessor string) {
	t.Helper()
	old := r.ready(t, "support")
	r.fill(t, old)
	r.exec(t, old.ID(), account)
	predecessor = string(old.UID)
	r.Delete(t, old)
	r.UntilDeleted(t, old)
	tenant = r.newTenant("support")
	tenant.Spec.DeletionPolicy = policy
	r.Create(t, tenant)
	return tenant, predecessor
}

// decide writes the platform's decision to the Namespace.
func (r *subject) decide(t *testing.T, decision string) {
	t.Helper()
	r.annotate(t, v1alpha1.AnnotationPredecessor, decision)
}

// reconcile has an operator without a manager look at the Tenant once.
func (r *subject) reconcile(t *testing.T, tenant *v1alpha1.Tenant) {
	t.Helper()
	req := ctrl.Request{NamespacedName: client.ObjectKeyFromObject(tenant)}
	if _, err := r.direct().Reconcile(log.IntoContext(t.Context(), r.Logger()), req); err != nil {
		t.Fatal(err)
	}
}

// TestPredecessor makes a Tenant under the name of a deleted one and has the platform decide about the rows.
func TestPredecessor(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		decision  string // $UID is the predecessor's UID
		wantReady bool
		wantUsers int
		wantCalls int
		wantAudit string // action of the audit log
	}{
		"no decision":                  {decision: "", wantUsers: 1, wantCalls: 2},
		"a decision without a UID":     {decision: "adopt", wantUsers: 1, wantCalls: 2},
		"a decision about another UID": {decision: "adopt:0a3ac4a8", wantUsers: 1, wantCalls: 2},
		"an unknown decision":          {decision: "keep:$UID", wantUsers: 1, wantCalls: 2},
		"adopt": {
			decision:  "adopt:$UID",
			wantReady: true,
			wantUsers: 1,
			wantCalls: 2,
			wantAudit: "predecessor_adopted",
		},
		"adopt, next to another decision": {
			decision:  "delete:0a3a, adopt:$UID",
			wantReady: true,
			wantUsers: 1,
			wantCalls: 2,
			wantAudit: "predecessor_adopted",
		},
		"delete": {decision: "delete:$UID", wantReady: true, wantAudit: "predecessor_deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newSubject(t)
			stop := rig.start(t)
			tenant, predecessor := rig.replaced(t, v1alpha1.DeletionPolicyRetain)
			rig.until(
				t, tenant, stalledFor(v1alpha1.ReasonDataOfPredecessor, predecessor, "annotate", "adopt:", "delete:"),
			)
			if !tc.wantReady {
				stop() // the next reconcile is the one that sees the decision
			}
			rig.decide(t, strings.ReplaceAll(tc.decision, "$UID", predecessor))
			if tc.wantReady {
				rig.until(t, tenant, isReady)
				rig.loginWorks(t, tenant)
			} else {
				rig.reconcile(t, tenant)
				rig.until(t, tenant, stalledFor(v1alpha1.ReasonDataOfPredecessor))
				rig.unreachable(t, tenant)
			}
			users := rig.count(t, "users", tenant.ID())
			calls := rig.count(t, "calls", tenant.ID())
			if users != tc.wantUsers || calls != tc.wantCalls {
				t.Errorf("%d users and %d calls, want %d and %d", users, calls, tc.wantUsers, tc.wantCalls)
			}
			rig.decided(t, tenant, tc.wantAudit, predecessor)
			if n := rig.access(t, tenant.ID()); n != 0 {
				t.Errorf("%d sessions, codes, tokens and mails of the predecessor are left", n)
			}
		})
	}
}

// decided wants one row of the audit log about a predecessor, and none where the action is empty.
func (r *subject) decided(t *testing.T, tenant *v1alpha1.Tenant, action, predecessor string) {
	t.Helper()
	want := 0
	if action != "" {
		want = 1
	}
	all := r.PG.Number(
		t, `SELECT count(*) FROM audit_log WHERE tenant = $1 AND action LIKE 'predecessor%'`, tenant.ID(),
	)
	right := r.PG.Number(t, `SELECT count(*) FROM audit_log
		WHERE tenant = $1 AND action = $2 AND reason = $3 AND outcome = 'success'`,
		tenant.ID(), action, "UID "+predecessor)
	if all != want || right != want {
		t.Errorf("%d rows of the audit log are about the predecessor and %d right, want %d", all, right, want)
	}
}

// unreachable wants nothing in the work namespace that gives access to the tenant's rows.
func (r *subject) unreachable(t *testing.T, tenant *v1alpha1.Tenant) {
	t.Helper()
	for _, prefix := range []string{tenantconfig.PrefixTenant, tenantconfig.PrefixUpload} {
		if r.secret(t, prefix, tenant) != nil {
			t.Errorf("the %s config is published", prefix)
		}
	}
	if n := r.PG.Number(t, `SELECT count(*) FROM tenants WHERE tenant = $1 AND suspended`, tenant.ID()); n != 1 {
		t.Error("the queue is not suspended")
	}
	if tenant.Compiled() {
		t.Errorf("the status names what was compiled: %v, %q", tenant.Status.WebhookURLs, tenant.Status.ConfigDigest)
	}
}

// TestPredecessorOfAStalledTenant deletes a Tenant that waits for a decision: its deletion policy does not count for
// its predecessor's rows.
func TestPredecessorOfAStalledTenant(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	tenant, predecessor := rig.replaced(t, v1alpha1.DeletionPolicyDelete)
	rig.until(t, tenant, stalledFor(v1alpha1.ReasonDataOfPredecessor))
	id := tenant.ID()
	rig.Delete(t, tenant)
	rig.UntilDeleted(t, tenant)
	if users, objects := rig.count(t, "users", id), rig.countObjects(t, id); users != 1 || objects != 3 {
		t.Errorf("%d users and %d objects, want those of the predecessor", users, objects)
	}
	next := rig.newTenant("support")
	rig.Create(t, next)
	rig.until(t, next, stalledFor(v1alpha1.ReasonDataOfPredecessor, predecessor))
}

// TestPredecessorWithoutFinalizer removes the predecessor's finalizer by hand, so that no release ever ran.
func TestPredecessorWithoutFinalizer(t *testing.T) {
	rig := newSubject(t)
	stop := rig.start(t)
	old := rig.ready(t, "support")
	rig.fill(t, old)
	stop()
	rig.change(t, old, func(t *v1alpha1.Tenant) { t.Finalizers = nil })
	rig.Delete(t, old)
	rig.UntilDeleted(t, old)
	tenant := rig.newTenant("support")
	rig.Create(t, tenant)
	rig.reconcile(t, tenant)
	rig.until(t, tenant, stalledFor(v1alpha1.ReasonDataOfPredecessor))
	rig.unreachable(t, tenant)
}

// TestPredecessorWithoutData deletes a Tenant that never had a call, and creates it again. Nothing is at stake.
func TestPredecessorWithoutData(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	old := rig.ready(t, "support")
	rig.Delete(t, old)
	rig.UntilDeleted(t, old)
	tenant := rig.ready(t, "support")
	rig.suspended(t, tenant, false)
}

// TestUIDIsRecorded takes rows of a version that stored no UID: a Tenant that works keeps them, a new Tenant does not
// get them.
func TestUIDIsRecorded(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	stop := rig.start(t)
	tenant := rig.ready(t, "support")
	rig.fill(t, tenant)
	stop()
	rig.exec(t, tenant.ID(), `UPDATE tenants SET uid = ''`)
	rig.reconcile(t, tenant)
	rig.until(t, tenant, isReady)
	recorded := `SELECT count(*) FROM tenants WHERE tenant = $1 AND uid = $2`
	if n := rig.PG.Number(t, recorded, tenant.ID(), string(tenant.UID)); n != 1 {
		t.Error("the UID of a Tenant that works is not recorded")
	}
	rig.start(t)
	rig.Delete(t, tenant)
	rig.UntilDeleted(t, tenant)
	rig.exec(t, tenant.ID(), `UPDATE tenants SET uid = ''`)
	next := rig.newTenant("support")
	rig.Create(t, next)
	rig.until(t, next, stalledFor(v1alpha1.ReasonDataOfPredecessor, "adopt:unrecorded-"+string(next.UID)))
}
