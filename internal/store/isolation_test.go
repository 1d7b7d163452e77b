package store_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/store"
)

// What both tenants have under the same ids.
const (
	bothCall      = "both"
	bothRecording = "00000000000000ff"
	bothUser      = "11111111-1111-4111-8111-111111111111"
	bothAgent     = "22222222-2222-4222-8222-222222222222"
	bothSession   = "33333333-3333-4333-8333-333333333333"
	bothStream    = "44444444-4444-4444-8444-444444444444"
)

var bothHash = []byte(strings.Repeat("h", 32))

// seed gives a tenant a row of everything, with the word in what it is free to write.
const seed = `
	INSERT INTO tenants (tenant) VALUES ($TENANT);
	INSERT INTO calls (tenant, call_sid, custom_field, recording_ids)
		VALUES ($TENANT, 'both', $WORD, '{00000000000000ff}');
	INSERT INTO call_events (tenant, call_sid, kind, dedup_key, source, raw, applied_at)
		VALUES ($TENANT, 'both', 'status', repeat('h', 32)::bytea, $WORD, '', now());
	INSERT INTO call_streams (tenant, call_sid, stream_sid, error) VALUES ($TENANT, 'both', 's', $WORD);
	INSERT INTO signed_repeats (tenant, digest) VALUES ($TENANT, repeat('h', 32)::bytea);
	INSERT INTO recordings (tenant, id, call_sid, source_url, last_error)
		VALUES ($TENANT, '00000000000000ff', 'both', 'https://x', $WORD);
	INSERT INTO recording_history (tenant, id, call_sid, source_url, state, attempts, last_error, finished_by,
		created_at)
		VALUES ($TENANT, '00000000000000fe', 'both', 'https://x', 'failed', 1, $WORD, 'pod', now());
	INSERT INTO retry_statistics (tenant, dependency) VALUES ($TENANT, $WORD);
	INSERT INTO users (tenant, id, email, role, password_hash, email_verified_at) VALUES
		($TENANT, '11111111-1111-4111-8111-111111111111', 'both@example.com', 'admin', 'hash', now()),
		($TENANT, '22222222-2222-4222-8222-222222222222', 'agent@example.com', 'agent', 'hash', now()),
		($TENANT, gen_random_uuid(), $WORD || '@example.com', 'admin', 'hash', now());
	INSERT INTO email_codes (tenant, user_id, code_hash, expires_at)
		VALUES ($TENANT, '22222222-2222-4222-8222-222222222222', repeat('h', 32)::bytea, now() + interval '1 hour');
	INSERT INTO login_sessions (tenant, id, user_id, hmac_key, device, expires_at)
		VALUES ($TENANT, '33333333-3333-4333-8333-333333333333', '11111111-1111-4111-8111-111111111111',
			repeat('k', 32)::bytea, $WORD, now() + interval '1 hour');
	INSERT INTO refresh_token_blacklist (tenant, token_hash, session_id, reason, expires_at)
		VALUES ($TENANT, repeat('b', 32)::bytea, gen_random_uuid(), $WORD, now() + interval '1 hour');
	INSERT INTO password_reset_tokens (tenant, token_hash, user_id, expires_at)
		VALUES ($TENANT, repeat('h', 32)::bytea, '22222222-2222-4222-8222-222222222222', now() + interval '1 hour');
	INSERT INTO revocations (tenant) VALUES ($TENANT);
	INSERT INTO url_redactions (tenant, call_sid, source) VALUES ($TENANT, 'both', $WORD);
	INSERT INTO rate_limits (tenant, key, hits, expires_at)
		VALUES ($TENANT, repeat('h', 32)::bytea, ARRAY[now(), now(), now()], now() + interval '1 hour');
	INSERT INTO mail_outbox (tenant, event_key, template, recipient, sealed, expires_at)
		VALUES ($TENANT, 'both', $WORD, 'x', '', now() + interval '1 hour');
	INSERT INTO audit_log (tenant, action, outcome, subject) VALUES ($TENANT, 'login', 'success', $WORD);
	INSERT INTO captures (tenant, id, session, call_sid, pod, state, bucket, object_key, error, last_seen_at)
		VALUES ($TENANT, '00000000000000fd', '44444444-4444-4444-8444-444444444444', 'both', 'pod', 'recording', 'b',
			'k', $WORD, now() - interval '1 hour');
	INSERT INTO stream_sessions (tenant, id, call_sid, pod, agent, last_seen_at, close_requested_at)
		VALUES ($TENANT, '44444444-4444-4444-8444-444444444444', 'both', 'pod', $WORD, now() - interval '1 hour',
			now());`

// reseed empties every table of tenants and fills it again, the same for both but for a word.
func (f *fixture) reseed(t *testing.T) {
	t.Helper()
	sql := "TRUNCATE " + strings.Join(
		slices.DeleteFunc(f.tables(t), func(n string) bool { return n == "upload_roles" }), ", ",
	) + ";"
	for tenant, word := range map[string]string{acme: "acme-word", globex: "globex-word"} {
		sql += strings.NewReplacer("$TENANT", "'"+tenant+"'", "$WORD", "'"+word+"'").Replace(seed)
	}
	f.Exec(t, sql)
}

// tables are those with a column for the tenant, as the catalog has them; partitions stand in their parents.
func (f *fixture) tables(t *testing.T) []string {
	t.Helper()
	return query[string](
		t, f.AdminDSN,
		`SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant'
			AND NOT a.attisdropped
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1`,
	)
}

// query reads a column.
func query[T any](t *testing.T, dsn, sql string, args ...any) []T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	rows, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return list
}

// TestEveryTableIsSecured checks that a table with a tenant is either under forced row-level security, where no policy
// means no row, or out of the reach of every role but the operator's. Partitions are out of reach: a role that may
// read their parent may not read them by their own names.
func TestEveryTableIsSecured(t *testing.T) {
	fixture := newFixture(t)
	fixture.Exec(t, `SELECT caly_ensure_history_partitions(2)`)
	insecure := query[string](t, fixture.AdminDSN, `
		SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant'
			AND NOT a.attisdropped
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
			AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
			AND EXISTS (SELECT FROM unnest(ARRAY['caly_dataplane', 'caly_upload', 'public']) role,
				unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) privilege
				WHERE has_any_column_privilege(role, c.oid, privilege)
					OR has_table_privilege(role, c.oid, 'DELETE, TRUNCATE'))`)
	if len(insecure) > 0 {
		t.Errorf("within reach and not secured: %v", insecure)
	}
	unforced := query[string](
		t, fixture.AdminDSN,
		`SELECT relname::text FROM pg_class WHERE relname = ANY ($1) AND relnamespace = 'public'::regnamespace
		AND NOT (relrowsecurity AND relforcerowsecurity) ORDER BY 1`,
		fixture.tables(t),
	)
	if diff := cmp.Diff(
		[]string{"endings", "upload_roles"}, unforced,
	); diff != "" { // functions alone write them
		t.Errorf("tables without forced row-level security (-want +got):\n%s", diff)
	}
	// A policy that accepts a row that it does not show, or shows all rows, does not count.
	loose := query[string](
		t, fixture.AdminDSN,
		`SELECT tablename || ': ' || policyname FROM pg_policies WHERE 'caly_dataplane' = ANY (roles)
		AND (qual !~ 'caly\.tenant' OR coalesce(with_check, '') !~ 'caly\.tenant' OR roles <> '{caly_dataplane}'
			OR cmd <> 'ALL')`,
	)
	if len(loose) > 0 {
		t.Errorf("policies that bind nothing: %v", loose)
	}
}

// TestDataplaneSeesItsTenantAlone looks at every table that the data plane may read, with and without a tenant, and
// tries to change others' rows.
func TestDataplaneSeesItsTenantAlone(t *testing.T) {
	fixture := newFixture(t)
	fixture.reseed(t)
	conn, err := pgx.Connect(t.Context(), fixture.DataplaneDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	// In a transaction that is taken back.
	as := func(tenant, sql string) (rows int64, err error) {
		err = pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			if tenant != "unset" {
				if _, err := tx.Exec(t.Context(), `SELECT set_config('caly.tenant', $1, true)`, tenant); err != nil {
					return err
				}
			}
			tag, err := tx.Exec(t.Context(), sql)
			rows = tag.RowsAffected()
			return errors.Join(err, errors.New("taken back"))
		})
		if err.Error() == "taken back" {
			err = nil
		}
		return rows, err
	}
	may := func(table, privilege string) bool {
		return query[bool](t, fixture.AdminDSN, `SELECT has_table_privilege('caly_dataplane', $1, $2)`, table,
			privilege)[0]
	}
	seen := 0
	for _, table := range fixture.tables(t) {
		if !may(table, "SELECT") {
			continue
		}
		seen++
		want := int64(fixture.Number(t, `SELECT count(*)::int FROM `+table+` WHERE tenant = $1`, acme))
		if want == 0 {
			t.Errorf("%s has no row: add it to the seed", table)
		}
		for tenant, want := range map[string]int64{
			"unset":       0,
			"":            0,
			"nobody/here": 0,
			acme:          want,
			"acme/suppor": 0,
			acme + "\x20": 0,
			"%":           0,
		} {
			if n, err := as(tenant, `SELECT FROM `+table); err != nil || n != want {
				t.Errorf("%s as %q: %d rows, %v, want %d", table, tenant, n, err, want)
			}
		}
		if n, err := as(acme, `SELECT FROM `+table+` WHERE tenant = '`+globex+`'`); err != nil || n != 0 {
			t.Errorf("%s shows %d of another's rows, %v", table, n, err)
		}
		if may(table, "UPDATE") {
			if n, err := as(acme, `UPDATE `+table+` SET tenant = tenant`); err != nil || n != want {
				t.Errorf("%s: %d rows were changed, %v, want %d", table, n, err, want)
			}
			if _, err := as(acme, `UPDATE `+table+` SET tenant = '`+globex+`'`); !policyRefused(err) {
				t.Errorf("%s: giving rows away: %v", table, err)
			}
		}
		if may(table, "DELETE") {
			if n, err := as(acme, `DELETE FROM `+table); err != nil || n != want {
				t.Errorf("%s: %d rows were deleted, %v, want %d", table, n, err, want)
			}
		}
		if may(table, "TRUNCATE") {
			t.Errorf("%s may be emptied, which no policy binds", table)
		}
	}
	if seen < 12 {
		t.Errorf("%d tables were looked at: the walk missed some", seen)
	}
}

// policyRefused reports whether row-level security caused the error. The check of a dangling reference comes later and
// has another message.
func policyRefused(err error) bool {
	return err != nil && strings.Contains(err.Error(), "row-level security")
}

// notOfTenants are the methods of the data plane's handle that are about the connection, or about sums over the whole
// installation, in which no tenant is named.
var notOfTenants = []string{"AddCleanups", "AddProcessRetries", "CleanupTotals", "Close", "Ping", "ReadOnlyAnswers",
	"RetryTotals", "Stat", "Writable"}

// call is a method called for acme with ids that globex has too. It returns what the method did.
type call func(ctx context.Context, db *store.Dataplane) (any, error)

func listCalls(ctx context.Context, db *store.Dataplane) (any, error) {
	list, _, err := db.Calls(ctx, acme, store.CallFilter{})
	return list, err
}

// reading are the methods that change nothing.
func reading() map[string]call {
	return map[string]call{
		"Calls": listCalls,
		"CallBySID": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.CallBySID(ctx, acme, bothCall)
		},
		"ListRecordings": func(ctx context.Context, db *store.Dataplane) (any, error) {
			list, _, err := db.ListRecordings(ctx, acme, store.RecordingFilter{})
			return list, err
		},
		"RecordingByID": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.RecordingByID(ctx, acme, bothRecording)
		},
		"ListAudit": func(ctx context.Context, db *store.Dataplane) (any, error) {
			list, _, err := db.ListAudit(ctx, acme, store.AuditFilter{})
			return list, err
		},
		"Usage": func(ctx context.Context, db *store.Dataplane) (any, error) {
			usage, err := db.Usage(ctx, acme, time.Now().Add(-time.Hour), time.Now().Add(-time.Hour))
			if want := (store.Usage{
				CallsToday:          1,
				CallsThisMonth:      1,
				RecordingsToday:     2,
				RecordingsThisMonth: 2,
				Waiting:             1,
			}); usage != want && err == nil {
				err = fmt.Errorf("usage %+v is not that of one tenant", usage)
			}
			return usage, err
		},
		"UserByID": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.UserByID(ctx, acme, bothUser)
		},
		"Credentials": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.Credentials(ctx, acme, "both@example.com")
		},
		"CredentialsByID": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.CredentialsByID(ctx, acme, bothUser)
		},
		"ListUsers": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.ListUsers(ctx, acme, store.UserCursor{}, 100)
		},
		"ListSessions": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.ListSessions(ctx, acme, bothUser, time.Hour)
		},
		"ResetTokenOwner": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.ResetTokenOwner(ctx, acme, bothHash)
		},
		"RevocationsSince": func(ctx context.Context, db *store.Dataplane) (any, error) {
			list, err := db.RevocationsSince(ctx, []string{acme}, time.Hour, 0, 100)
			if len(list) != 1 && err == nil {
				err = fmt.Errorf("%d revocations", len(list))
			}
			return list, err
		},
		"PendingMail": func(ctx context.Context, db *store.Dataplane) (any, error) {
			n, _, err := db.PendingMail(ctx, []string{acme})
			if n != 1 && err == nil {
				err = fmt.Errorf("%d messages wait", n)
			}
			return n, err
		},
	}
}

// writing are the methods that change what is acme's.
func writing() map[string]call {
	by := store.Origin{ActorID: bothUser}
	mail := func() *store.OutboxMail {
		return &store.OutboxMail{
			EventKey:  store.NewID(),
			Template:  "t",
			Recipient: "r",
			Sealed:    []byte{1},
			ExpiresAt: time.Now().Add(time.Hour),
		}
	}
	event := newEvent(acme, bothCall, "terminal", store.CallCompleted, "https://x/a.mp3")
	event.Stream = &store.Stream{SID: "s", Status: "completed"}
	token := store.ResetToken{Hash: []byte(strings.Repeat("n", 32)), Lifetime: time.Hour}
	code := store.EmailCode{Hash: []byte(strings.Repeat("c", 32)), Lifetime: time.Hour}
	only := func(f func(ctx context.Context, db *store.Dataplane) error) call {
		return func(ctx context.Context, db *store.Dataplane) (any, error) { return nil, f(ctx, db) }
	}
	return map[string]call{
		"Ingest": func(ctx context.Context, db *store.Dataplane) (any, error) { return db.Ingest(ctx, event) },
		"IngestBatch": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.IngestBatch(ctx, []store.Event{event})
		},
		"WriteAudit": only(func(ctx context.Context, db *store.Dataplane) error {
			return db.WriteAudit(ctx, acme, store.Audit{Action: store.ActionLogin, Outcome: store.OutcomeSuccess})
		}),
		"Invite": only(func(ctx context.Context, db *store.Dataplane) error {
			return db.Invite(ctx, acme, store.Invitation{
				User:  store.NewUser{ID: store.NewID(), Email: "new@example.com", Role: store.RoleAgent},
				Token: token,
				Mail:  mail(),
			}, by)
		}),
		"Register": only(func(ctx context.Context, db *store.Dataplane) error {
			return db.Register(ctx, acme, store.Registration{
				User: store.NewUser{
					ID:           store.NewID(),
					Email:        "new@example.com",
					Role:         store.RoleViewer,
					PasswordHash: "x",
				},
				Code:   code,
				Verify: mail(),
				Exists: mail(),
			}, by)
		}),
		"Resend": only(func(ctx context.Context, db *store.Dataplane) error {
			return db.Resend(ctx, acme, store.CodeRequest{
				Email: "agent@example.com",
				Code:  code,
				Mail:  mail(),
				Other: mail(),
			})
		}),
		"VerifyEmail": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.VerifyEmail(ctx, acme, store.Verification{Email: "agent@example.com", Hash: bothHash}, by)
		},
		"RequestReset": only(func(ctx context.Context, db *store.Dataplane) error {
			return db.RequestReset(ctx, acme, store.ResetRequest{
				Email: "both@example.com",
				Token: token,
				Mail:  mail(),
				Other: mail(),
			}, by)
		}),
		"ResetPassword": func(ctx context.Context, db *store.Dataplane) (any, error) {
			user, _, err := db.ResetPassword(ctx, acme, store.PasswordReset{
				TokenHash: bothHash,
				NewHash:   "new hash",
			}, by)
			return user, err
		},
		"ChangePassword": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.ChangePassword(ctx, acme, store.PasswordChange{
				UserID:   bothUser,
				SeenHash: "hash",
				NewHash:  "new hash",
			}, by)
		},
		"SetUserRole": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.SetUserRole(ctx, acme, store.RoleChange{
				UserID:    bothUser,
				Role:      store.RoleViewer,
				KeepAdmin: true,
			}, by)
		},
		"SetUserDisabled": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.SetUserDisabled(ctx, acme, store.AccessChange{
				UserID:    bothUser,
				Disabled:  true,
				KeepAdmin: true,
			}, by)
		},
		"RevokeUser": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.RevokeUser(ctx, acme, bothUser, nil, by)
		},
		"StartSession": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.StartSession(ctx, acme, store.NewSession{
				ID:       store.NewID(),
				UserID:   bothUser,
				Key:      bothHash,
				Lifetime: time.Hour,
				SeenHash: "hash",
			}, by)
		},
		"EndSession": only(func(ctx context.Context, db *store.Dataplane) error {
			return db.EndSession(ctx, acme, store.SessionEnd{
				UserID:    bothUser,
				SessionID: bothSession,
				Reason:    store.EndRevoked,
				Action:    store.ActionSessionRevoked,
			}, by)
		}),
		"EndSessions": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.EndSessions(ctx, acme, bothUser, by)
		},
		"RotateSession": func(ctx context.Context, db *store.Dataplane) (any, error) {
			st, _, err := db.RotateSession(ctx, acme, store.Refresh{
				SessionID: bothSession,
				TokenHash: bothHash,
				Decide:    func(store.RefreshState) store.Rotation { return store.RotateEnd },
			}, by)
			return st, err
		},
		"ReturnHit": only(func(ctx context.Context, db *store.Dataplane) error {
			return db.ReturnHit(ctx, store.HitReturn{Tenant: acme, Key: [32]byte(bothHash), Timeout: time.Second})
		}),
		"TakeHits": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.TakeHits(ctx, store.HitTake{
				Tenant:  acme,
				Key:     [32]byte(bothHash),
				Wanted:  1,
				Max:     9,
				Window:  time.Hour,
				Timeout: time.Second,
			})
		},
		"ClaimMail": func(ctx context.Context, db *store.Dataplane) (any, error) {
			mailClaim, err := db.ClaimMail(ctx, []string{acme}, "pod", time.Minute, 10)
			if len(mailClaim.Mail) != 1 && err == nil {
				err = fmt.Errorf("%d messages were claimed", len(mailClaim.Mail))
			}
			return mailClaim, err
		},
	}
}

// TestMethodsKeepToTheirTenant calls each method of the data plane for one tenant with ids that another has too: it
// returns and changes none of the other's rows. A method that is added must be added here.
func TestMethodsKeepToTheirTenant(t *testing.T) {
	fixture := newFixture(t)
	calls := reading()
	for name, c := range writing() {
		calls[name] = c
	}
	for name, c := range streaming() {
		calls[name] = c
	}
	for name, c := range capturing() {
		calls[name] = c
	}
	for name, c := range mailOf(fixture, t) {
		calls[name] = c
	}
	for name, c := range calls {
		t.Run(name, func(t *testing.T) {
			fixture.reseed(t)
			before := fixture.digests(t, globex)
			mine := fixture.digests(t, acme)
			got, err := c(t.Context(), fixture.Dataplane)
			if err != nil {
				t.Errorf("it failed, so it showed nothing: %v", err)
			}
			if text := fmt.Sprintf("%+v", got); strings.Contains(text, "globex") {
				t.Errorf("it returned another's: %s", text)
			}
			if diff := cmp.Diff(before, fixture.digests(t, globex)); diff != "" {
				t.Errorf("it changed another's rows (-before +after):\n%s", diff)
			}
			_, reads := reading()[name]
			reads = reads ||
				slices.Contains(
					[]string{"PodStreams", "StreamsToClose", "StreamSessions", "StreamByID", "OpenCapture"}, name,
				)
			if changed := !cmp.Equal(
				mine, fixture.digests(t, acme),
			); changed == (reads || strings.HasPrefix(name, "other's ")) {
				t.Errorf("its own rows were changed: %v", changed)
			}
		})
	}
	for i := range reflect.TypeFor[*store.Dataplane]().NumMethod() {
		name := reflect.TypeFor[*store.Dataplane]().Method(i).Name
		if _, ok := calls[name]; ok == slices.Contains(notOfTenants, name) {
			t.Errorf("%s: test here that it keeps to its tenant, or list it as one about the connection", name)
		}
	}
}

// mailOf are the methods for mail that was claimed, and the same with another's mail, which they must not find.
func mailOf(f *fixture, t *testing.T) map[string]call {
	steps := map[string]func(context.Context, *store.Dataplane, *store.QueuedMail) error{
		"SendMail": func(ctx context.Context, db *store.Dataplane, m *store.QueuedMail) error {
			return db.SendMail(ctx, m, time.Minute)
		},
		"FinishMail": func(ctx context.Context, db *store.Dataplane, m *store.QueuedMail) error {
			return db.FinishMail(ctx, m, store.MailSent, "")
		},
		"RetryMail": func(ctx context.Context, db *store.Dataplane, m *store.QueuedMail) error {
			return db.RetryMail(ctx, m, time.Minute, "x")
		},
	}
	calls := map[string]call{}
	for name, step := range steps {
		calls[name] = func(ctx context.Context, db *store.Dataplane) (any, error) {
			mailClaim, err := db.ClaimMail(ctx, []string{acme}, "pod", time.Minute, 1)
			if err != nil || len(mailClaim.Mail) != 1 {
				return nil, fmt.Errorf("claimed %v, %w", mailClaim, err)
			}
			return nil, step(ctx, db, &mailClaim.Mail[0])
		}
		calls["other's "+name] = func(ctx context.Context, db *store.Dataplane) (any, error) {
			theirs := store.QueuedMail{
				ID:     int64(f.Number(t, `SELECT max(id)::int FROM mail_outbox WHERE tenant = $1`, globex)),
				Tenant: acme,
			}
			if err := step(ctx, db, &theirs); !errors.Is(err, store.ErrLeaseLost) {
				return nil, fmt.Errorf("another's mail: %w", err)
			}
			return nil, nil
		}
	}
	return calls
}

// digests are of a tenant's rows, by table.
func (f *fixture) digests(t *testing.T, tenant string) map[string]string {
	t.Helper()
	out := map[string]string{}
	var parts []string
	for _, table := range f.tables(t) {
		parts = append(
			parts,
			fmt.Sprintf(`SELECT '%s ' || md5(coalesce(string_agg(x::text, '|' ORDER BY x::text), '')) FROM %s x
					WHERE tenant = '%s'`, table, table, tenant),
		)
	}
	for _, line := range query[string](t, f.AdminDSN, strings.Join(parts, " UNION ALL ")) {
		table, digest, _ := strings.Cut(line, " ")
		out[table] = digest
	}
	return out
}

// TestDeleteTenantLeavesNothing verifies that the deletion of a tenant empties its part of each table, and touches no
// other tenant.
func TestDeleteTenantLeavesNothing(t *testing.T) {
	fixture := newFixture(t)
	fixture.reseed(t)
	if err := fixture.Operator.DropUploadRole(t.Context(), acme); err != nil { // as the controller does before
		t.Fatal(err)
	}
	none := fixture.digests(t, "nobody/here")
	theirs := fixture.digests(t, globex)
	if err := fixture.Operator.DeleteTenant(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(none, fixture.digests(t, acme)); diff != "" {
		t.Errorf("rows are left (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(theirs, fixture.digests(t, globex)); diff != "" {
		t.Errorf("another's rows were changed (-before +after):\n%s", diff)
	}
}

// TestTenantIDsAreOne verifies that the store rejects an id that a policy would read as several tenants.
func TestTenantIDsAreOne(t *testing.T) {
	fixture := newFixture(t)
	fixture.reseed(t)
	for _, id := range []string{
		"", "acme", acme + "," + globex, globex + "," + acme, "a/b/c", ",", "acme/support,",
		hex.EncodeToString(bothHash),
	} {
		if list, _, err := fixture.Dataplane.Calls(t.Context(), id, store.CallFilter{}); err == nil || len(list) > 0 {
			t.Errorf("%q: %d calls, %v", id, len(list), err)
		}
	}
}

// TestDataplaneStoresNoUpload verifies that the data plane cannot write an uploaded recording into the history. It may
// write rejected recordings only.
func TestDataplaneStoresNoUpload(t *testing.T) {
	fixture := newFixture(t)
	conn, err := pgx.Connect(t.Context(), fixture.DataplaneDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(t.Context(), `SELECT set_config('caly.tenant', $1, false)`, acme)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), `INSERT INTO recording_history (tenant, id, call_sid, source_url, state, attempts,
		bucket, object_key, sha256, finished_by, created_at)
		VALUES ($1, '0', 'c', 'https://x', 'uploaded', 1, 'b', 'k', repeat('0', 64), 'dataplane', now())`, acme)
	if err == nil || !strings.Contains(err.Error(), "42501") {
		t.Errorf("the data plane stored an upload: %v", err)
	}
}
