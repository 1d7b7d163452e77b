package tenantapi_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/api/apitest"
	"github.com/caly-dev/caly/dataplane/identity/account"
	"github.com/caly-dev/caly/dataplane/tenantapi"
	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/password"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/s3test"
	"github.com/caly-dev/caly/internal/testkit/storetest"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
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
	db *storetest.DB
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
	r := &rig{
		Rig:    apitest.New(func(o *api.Options) { o.Mode = api.Development }),
		db:     storetest.New(t),
		people: map[string]string{},
	}
	ring := keyring.New(time.Now())
	accounts := account.New(account.Options{
		Store:  r.db.Dataplane,
		Hasher: password.NewHasher(password.Options{}),
		Ring:   func() *keyring.Ring { return ring },
	})
	tenantapi.Register(r.API, tenantapi.Options{
		Store:   r.db.Dataplane,
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
	if err := r.db.Operator.CreateUser(t.Context(), tenant, user, store.Origin{}); err != nil {
		t.Fatal(err)
	}
	r.people[bearer(tenant, role)] = id
	r.Tokens.Add(bearer(tenant, role), apitest.ClaimsOf(tenantNamed(tenant), id, store.NewID(), role))
}

// storeAt gives acme a store.
func (r *rig) storeAt(s *s3test.Server, bucket string) {
	tenant := *r.Tenant
	tenant.Storage = tenanttest.Storage(s, bucket)
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

// ago is a time before now.
func ago(d time.Duration) time.Time { return now.Add(-d) }

func (r *rig) insertCall(t *testing.T, tenant, sid string, at time.Time) {
	t.Helper()
	r.db.Exec(t, `INSERT INTO calls (tenant, call_sid, state, direction, from_number, to_number, started_at,
			conversation_seconds, created_at, updated_at)
		VALUES ($1, $2, 4, 'inbound', '+918047491899', '+6531290000', $3, 7, $3, $3)`, tenant, sid, at)
}

// insertRecording puts a recording where one of that state lies; the object of an uploaded one is at the key.
func (r *rig) insertRecording(t *testing.T, tenant, id, sid, state, bucket, key string, at time.Time) {
	t.Helper()
	switch state {
	case "pending", "uploading":
		r.db.Exec(
			t,
			`INSERT INTO recordings (tenant, id, call_sid, source_url, available_at, created_at, lease_owner,
				lease_until)
			VALUES ($1, $2, $3, 'https://secret.example/a.mp3?signature=topsecret', $4, $4,
				CASE WHEN $5 THEN 'pod' END, CASE WHEN $5 THEN now() + interval '1 hour' END)`,
			tenant, id, sid, at, state == "uploading",
		)
	default:
		r.db.Exec(
			t,
			`INSERT INTO recording_history (tenant, id, call_sid, source_url, state, attempts, bucket, object_key,
				size, sha256, last_error_code, last_error,
				finished_by, created_at, finished_at)
			VALUES ($1, $2, $3, 'https://secret.example/a.mp3?signature=topsecret', $4, 1, $5, $6, 11,
				repeat('a', 64), CASE WHEN $4 = 'failed' THEN 'SourceGone' ELSE '' END,
				'', 'pod', $7, $7::timestamptz + interval '1 minute')`,
			tenant, id, sid, state, bucket, key, at,
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
