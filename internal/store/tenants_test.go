package store_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
)

// TestClaimTenant has a Tenant object claim the rows of its ID, in each state that an earlier version or Tenant left
// them in.
func TestClaimTenant(t *testing.T) {
	fixture := newFixture(t)
	for name, tc := range map[string]struct {
		owner    string // recorded before; "none": there is no row
		data     bool
		compiled bool
		want     string
	}{
		"a new tenant":                                 {owner: "none", want: "uid-new"},
		"the same Tenant again":                        {owner: "uid-new", data: true, compiled: true, want: "uid-new"},
		"the same Tenant, not compiled yet":            {owner: "uid-new", data: true, want: "uid-new"},
		"a Tenant of an earlier version":               {owner: "", data: true, compiled: true, want: "uid-new"},
		"rows of an earlier version, and a new Tenant": {owner: "", data: true, want: "unrecorded-uid-new"},
		"no data of an earlier version":                {owner: "", want: "uid-new"},
		"rows that came after the deletion":            {owner: "none", data: true, want: "unrecorded-uid-new"},
		"a predecessor with data":                      {owner: "uid-old", data: true, want: "uid-old"},
		"a predecessor with data, a restored status":   {owner: "uid-old", data: true, compiled: true, want: "uid-old"},
		"a predecessor without data":                   {owner: "uid-old", want: "uid-new"},
	} {
		t.Run(name, func(t *testing.T) {
			fixture.Exec(t, `DELETE FROM users; DELETE FROM tenants`)
			if tc.owner != "none" {
				fixture.Exec(t, `INSERT INTO tenants (tenant, uid) VALUES ('`+acme+`', '`+tc.owner+`')`)
			}
			if tc.data {
				fixture.Exec(t, `INSERT INTO users (tenant, id, email, role)
					VALUES ('`+acme+`', gen_random_uuid(), 'a@example.com', 'admin')`)
			}
			for range 2 { // the second time finds what the first one recorded
				got, err := fixture.Operator.ClaimTenant(t.Context(), acme, "uid-new", tc.compiled)
				if err != nil || got != tc.want {
					t.Errorf("%q, %v, want %q", got, err, tc.want)
				}
			}
		})
	}
}

// TestClaimLooksAtEveryTable gives a predecessor a row in one table at a time.
func TestClaimLooksAtEveryTable(t *testing.T) {
	fixture := newFixture(t)
	fixture.reseed(t)
	fixture.Exec(t, `UPDATE tenants SET uid = 'uid-old'`)
	counters := []string{
		"backfill_totals",
		"email_codes",
		"ending_totals",
		"endings",
		"login_sessions",
		"metric_tenants",
		"password_reset_tokens",
		"rate_limits",
		"refresh_token_blacklist",
		"retry_statistics",
		"revocations",
		"tenant_names",
		"tenants",
		"upload_roles",
		"url_redactions",
	}
	tables := slices.DeleteFunc(fixture.tables(t), func(table string) bool { return slices.Contains(counters, table) })
	want := []string{
		"audit_log",
		"call_events",
		"call_streams",
		"calls",
		"captures",
		"mail_outbox",
		"recording_history",
		"recordings",
		"signed_repeats",
		"stream_sessions",
		"users",
	}
	if diff := cmp.Diff(want, tables); diff != "" {
		t.Fatalf("tables with data of tenants (-want +got): decide about each new one\n%s", diff)
	}
	for _, only := range tables {
		fixture.reseed(t)
		fixture.Exec(t, `UPDATE tenants SET uid = 'uid-old'`)
		for _, table := range tables {
			if table != only {
				fixture.Exec(t, `DELETE FROM `+table)
			}
		}
		if got, err := fixture.Operator.ClaimTenant(t.Context(), acme, "uid-new", false); err != nil ||
			got != "uid-old" {
			t.Errorf("with a row in %s alone: %q, %v, want the predecessor", only, got, err)
		}
	}
}

// TestEndAccess ends the sessions and codes of one tenant, and of no other.
func TestEndAccess(t *testing.T) {
	fixture := newFixture(t)
	fixture.reseed(t)
	fixture.Exec(t, `UPDATE mail_outbox SET sealed = 'sealed'`)
	theirs := fixture.digests(t, globex)
	if err := fixture.Operator.EndAccess(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	for name, sql := range map[string]string{
		"live sessions": `SELECT count(*)::int FROM login_sessions
			WHERE tenant = $1 AND (ended_at IS NULL OR end_reason <> 'tenant_deleted')`,
		"codes":           `SELECT count(*)::int FROM email_codes WHERE tenant = $1`,
		"reset tokens":    `SELECT count(*)::int FROM password_reset_tokens WHERE tenant = $1`,
		"mail to be sent": `SELECT count(*)::int FROM mail_outbox WHERE tenant = $1 AND (state <> 'failed' OR sealed <> '')`,
		"missing revocations": `SELECT 2 - count(*)::int FROM revocations
			WHERE tenant = $1 AND user_id IS NULL AND session_id IS NULL`,
	} {
		if n := fixture.Number(t, sql, acme); n != 0 {
			t.Errorf("%s: %d, want none", name, n)
		}
	}
	if n := fixture.Number(t, `SELECT count(*)::int FROM users WHERE tenant = $1`, acme); n != 3 {
		t.Errorf("%d accounts are left, want 3", n)
	}
	if diff := cmp.Diff(theirs, fixture.digests(t, globex)); diff != "" {
		t.Errorf("another tenant's rows were changed (-before +after):\n%s", diff)
	}
}

// TestAdoptTenant gives rows to a Tenant only as long as they belong to the named predecessor.
func TestAdoptTenant(t *testing.T) {
	fixture := newFixture(t)
	fixture.reseed(t)
	fixture.Exec(t, `UPDATE tenants SET uid = 'uid-old'`)
	if err := fixture.Operator.AdoptTenant(t.Context(), acme, "uid-other", "uid-new"); !errors.Is(
		err, store.ErrNotFound,
	) {
		t.Errorf("of another predecessor: %v", err)
	}
	if err := fixture.Operator.AdoptTenant(t.Context(), acme, "uid-old", "uid-new"); err != nil {
		t.Fatal(err)
	}
	if got, err := fixture.Operator.ClaimTenant(t.Context(), acme, "uid-new", false); err != nil || got != "uid-new" {
		t.Errorf("afterwards they belong to %q, %v", got, err)
	}
	if n := fixture.Number(
		t, `SELECT count(*)::int FROM login_sessions WHERE tenant = $1 AND ended_at IS NULL`, acme,
	); n != 0 {
		t.Errorf("%d sessions of the predecessor live", n)
	}
}
