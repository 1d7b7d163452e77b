package tenantapi_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/api/apitest"
	"github.com/caly-dev/caly/dataplane/identity/account"
	"github.com/caly-dev/caly/dataplane/tenantapi"
	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/password"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

const (
	acme   = apitest.TenantID
	globex = "globex/sales"
)

// now is the time of the rig's handlers: on the tenth of a month, in the afternoon.
var now = time.Date(2026, 3, 10, 15, 0, 0, 0, time.UTC)

// rig is the API over a database of its own, with two tenants and people of every role in each. A bearer is a tenant and a role.
type rig struct {
	*apitest.Rig
	pg   *pgtest.Server
	db   *store.Dataplane
	oper *store.Operator
	// people are the ids of the tenants' users, by bearer.
	people map[string]string
	// revoked are the users that this pod shuts out.
	revoked revoked
}

type revoked struct{ users []string }

func (r *revoked) Revoke(tenant, userID, sessionID string) {
	r.users = append(r.users, tenant+" "+userID+sessionID)
}

func bearer(tenant, role string) string { return tenant + " " + role }

func newRig(t *testing.T) *rig {
	t.Helper()
	pg := pgtest.New(t)
	db, err := store.OpenDataplane(t.Context(), pg.DataplaneDSN, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	oper, err := store.OpenOperator(t.Context(), pg.OperatorDSN, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(oper.Close)
	r := &rig{
		Rig:    apitest.New(func(o *api.Options) { o.Mode = api.Development }),
		pg:     pg,
		db:     db,
		oper:   oper,
		people: map[string]string{},
	}
	ring := keyring.New(time.Now())
	accounts := account.New(account.Options{
		Store:  db,
		Hasher: password.NewHasher(password.Options{}),
		Ring:   func() *keyring.Ring { return ring },
	})
	tenantapi.Register(r.API, tenantapi.Options{
		Store:   db,
		Inviter: accounts,
		Revoker: &r.revoked,
		Now:     func() time.Time { return now },
	})
	r.Know(r.Tenant, tenantNamed(globex))
	for _, tenant := range []string{acme, globex} {
		for _, role := range []string{store.RoleAdmin, store.RoleAgent, store.RoleViewer} {
			r.hire(t, tenant, role)
		}
	}
	return r
}

func tenantNamed(id string) *tenantconfig.Tenant {
	t := apitest.NewTenant()
	t.ID = id
	t.UID = "uid-" + id
	return t
}

// hire makes a user, and a bearer for the user. The emails of one tenant sort behind those of the other.
func (r *rig) hire(t *testing.T, tenant, role string) {
	t.Helper()
	id := store.NewID()
	email := role + "@" + strings.ReplaceAll(tenant, "/", ".") + ".example"
	user := store.NewUser{ID: id, Email: email, Role: role, PasswordHash: "x", Verified: true}
	if err := r.oper.CreateUser(t.Context(), tenant, user, store.Origin{}); err != nil {
		t.Fatal(err)
	}
	r.people[bearer(tenant, role)] = id
	r.Tokens.Add(bearer(tenant, role), apitest.ClaimsOf(tenantNamed(tenant), id, store.NewID(), role))
}

// storeAt gives acme a store.
func (r *rig) storeAt(s *s3test.Server, bucket string) {
	tenant := *r.Tenant
	tenant.Storage = &tenantconfig.Storage{
		Bucket:          bucket,
		Endpoint:        s.Endpoint,
		Region:          s.Region,
		AccessKeyID:     secret.Sensitive(s.AccessKey),
		SecretAccessKey: secret.Sensitive(s.SecretKey),
	}
	r.Know(&tenant, tenantNamed(globex))
}

// ask sends a request that names its tenant by the token alone.
func (r *rig) ask(method, path, bearer, body string) apitest.Answer {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	return r.Send(req)
}

// get reads an answer that must be 200.
func (r *rig) get(t *testing.T, path, bearer string, into any) {
	t.Helper()
	answer := r.ask("GET", path, bearer, "")
	if answer.Status != 200 {
		t.Fatalf("GET %s: %d %s", path, answer.Status, answer.Body)
	}
	answer.JSON(t, into)
}

// exec changes rows as the superuser.
func (r *rig) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), r.pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// ago is a time before now.
func ago(d time.Duration) time.Time { return now.Add(-d) }

func (r *rig) insertCall(t *testing.T, tenant, sid string, at time.Time) {
	t.Helper()
	r.exec(
		t,
		`INSERT INTO calls (tenant, call_sid, state, direction, from_number, to_number, started_at, conversation_seconds, created_at, updated_at)
		VALUES ($1, $2, 4, 'inbound', '+918047491899', '+6531290000', $3, 7, $3, $3)`,
		tenant,
		sid,
		at,
	)
}

// insertRecording puts a recording where one of that state lies; the object of an uploaded one is at the key.
func (r *rig) insertRecording(t *testing.T, tenant, id, sid, state, bucket, key string, at time.Time) {
	t.Helper()
	switch state {
	case "pending", "uploading":
		r.exec(
			t,
			`INSERT INTO recordings (tenant, id, call_sid, source_url, available_at, created_at, lease_owner, lease_until)
			VALUES ($1, $2, $3, 'https://secret.example/a.mp3?signature=topsecret', $4, $4, CASE WHEN $5 THEN 'pod' END, CASE WHEN $5 THEN now() + interval '1 hour' END)`,
			tenant,
			id,
			sid,
			at,
			state == "uploading",
		)
	default:
		r.exec(
			t,
			`INSERT INTO recording_history (tenant, id, call_sid, source_url, state, attempts, bucket, object_key, size, sha256, last_error_code, last_error,
				finished_by, created_at, finished_at)
			VALUES ($1, $2, $3, 'https://secret.example/a.mp3?signature=topsecret', $4, 1, $5, $6, 11, repeat('a', 64), CASE WHEN $4 = 'failed' THEN 'SourceGone' ELSE '' END,
				'', 'pod', $7, $7::timestamptz + interval '1 minute')`,
			tenant,
			id,
			sid,
			state,
			bucket,
			key,
			at,
		)
	}
}

func recordingID(n int) string { return fmt.Sprintf("%016x", n) }

// items are the values of one field of a list.
type items struct {
	Items      []map[string]any
	NextCursor string
}

func (i items) all(field string) (values []string) {
	for _, item := range i.Items {
		values = append(values, fmt.Sprint(item[field]))
	}
	return values
}

// one reads a number as the superuser.
func (r *rig) one(t *testing.T, sql string, args ...any) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), r.pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
