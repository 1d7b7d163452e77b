package accounts

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/caly-dev/caly/internal/password"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

// property is what a tenant has. No text of it is part of another tenant's.
type property struct {
	tenant, domain string
	// staff has somebody of each role. owner is another admin, who stays out of it all.
	staff map[string]person
	owner person
	// waiting has not verified the email yet, and forgetful not used the reset token.
	waiting, waitingCode     string
	forgetful, resetToken    string
	callSID                  string
	queuedRecording, keptOne string            // recordings' ids
	object                   string            // the kept one's contents
	stream                   string            // the id of a live one
	ownersSession            string            // the id of other
	cursors                  map[string]string // of each list's second page, by path
}

// storage lets tenants have their recordings in buckets of their own on one S3 server.
func storage(t *testing.T, s *s3test.Server) func(*tenantconfig.Tenant) {
	t.Helper()
	buckets := map[string]string{acme: s.NewBucket(t), globex: s.NewBucket(t)}
	return func(c *tenantconfig.Tenant) {
		c.Storage = &tenantconfig.Storage{
			Bucket:          buckets[c.ID],
			Endpoint:        s.Endpoint,
			Region:          s.Region,
			AccessKeyID:     secret.Sensitive(s.AccessKey),
			SecretAccessKey: secret.Sensitive(s.SecretKey),
		}
	}
}

// hire makes an account as the operator's database role may, with the password.
func (p *platform) hire(t *testing.T, tenant, email, role string) person {
	t.Helper()
	db, err := store.OpenOperator(t.Context(), p.pg.OperatorDSN, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	hash, err := password.NewHasher(password.Options{}).Hash(t.Context(), firstPassword)
	if err != nil {
		t.Fatal(err)
	}
	newUser := store.NewUser{ID: store.NewID(), Email: email, Role: role, PasswordHash: hash, Verified: true}
	if err := db.CreateUser(t.Context(), tenant, newUser, store.Origin{}); err != nil {
		t.Fatal(err)
	}
	return person{tenant, email, firstPassword, p.login(t, tenant, email, firstPassword)}
}

// endow gives a tenant something of everything.
func (p *platform) endow(t *testing.T, s *s3test.Server, tenant string, storage func(*tenantconfig.Tenant)) *property {
	t.Helper()
	short, _, _ := strings.Cut(tenant, "/")
	domain := "@" + short + ".example"
	o := &property{
		tenant:          tenant,
		domain:          domain[1:],
		staff:           map[string]person{},
		cursors:         map[string]string{},
		waiting:         "waiting" + domain,
		forgetful:       "forgetful" + domain,
		callSID:         "call-of-" + short,
		queuedRecording: idOf(short, "1"),
		keptOne:         idOf(short, "2"),
		object:          "the sound of " + short,
		stream:          store.NewID(),
	}
	for _, role := range []string{store.RoleAdmin, store.RoleAgent, store.RoleViewer} {
		o.staff[role] = p.hire(t, tenant, role+domain, role)
	}
	o.owner = p.hire(t, tenant, "owner"+domain, store.RoleAdmin)
	for _, session := range p.sessions(t, o.owner.AccessToken) {
		if session.Current {
			o.ownersSession = session.ID
		}
	}
	p.post(t, tenant, "register", fields{"email": o.waiting, "password": secondPassword}).want(t, 202)
	o.waitingCode = p.mailTo(t, o.waiting, subjectVerify).secret(t)
	p.hire(t, tenant, o.forgetful, store.RoleViewer)
	p.post(t, tenant, "forgot-password", fields{"email": o.forgetful}).want(t, 202)
	o.resetToken = p.mailTo(t, o.forgetful, subjectReset).secret(t)
	p.record(t, s, o, storage)
	for _, id := range []string{o.stream, store.NewID()} { // no janitor ends them meanwhile
		p.exec(t, `INSERT INTO stream_sessions (tenant, id, call_sid, pod, agent, last_seen_at)
				VALUES ($1, $2, $3, 'pod', 'bot', now() + interval '1 hour')`, o.tenant, id, o.callSID)
	}
	for _, path := range []string{"/api/calls", "/api/recordings", "/api/streams", "/api/audit", "/api/users"} {
		o.cursors[path], _ = jsonAt(p.as(t, o.owner.AccessToken, "GET", path+"?limit=1", nil).want(t, 200).body,
			"nextCursor").(string)
		if o.cursors[path] == "" {
			t.Fatalf("%s has no second page", path)
		}
	}
	return o
}

// idOf is a recording's id that tells the tenant's from others'.
func idOf(short, n string) string {
	return map[string]string{"acme": "acaeacaeacaeaca", "globex": "0b0e0b0e0b0e0b0"}[short] + n
}

// record gives the tenant a call with two recordings. One is uploaded.
func (p *platform) record(t *testing.T, s *s3test.Server, o *property, storage func(*tenantconfig.Tenant)) {
	t.Helper()
	tenant := tenantconfig.Tenant{ID: o.tenant}
	storage(&tenant)
	key := recording.KeyPrefix(o.tenant) + "2026/a.mp3"
	s3, err := minio.New(strings.TrimPrefix(s.Endpoint, "http://"), &minio.Options{
		Creds:  credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""),
		Region: s.Region,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s3.PutObject(
		t.Context(),
		tenant.Storage.Bucket,
		key,
		bytes.NewReader([]byte(o.object)),
		int64(len(o.object)),
		minio.PutObjectOptions{},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, sid := range []string{o.callSID, o.callSID + "-2"} {
		p.exec(t, `INSERT INTO calls (tenant, call_sid, state, direction, from_number, to_number)
				VALUES ($1, $2, 4, 'inbound', '+918047491899', '+6531290000')`, o.tenant, sid)
	}
	p.exec(t, `INSERT INTO recordings (tenant, id, call_sid, source_url, available_at)
			VALUES ($1, $2, $3, 'https://recordings.exotel.com/a.mp3', now())`, o.tenant, o.queuedRecording, o.callSID)
	p.exec(
		t,
		`INSERT INTO recording_history (tenant, id, call_sid, source_url, state, attempts, bucket, object_key, size,
			sha256, last_error_code, last_error,
			finished_by, created_at, finished_at)
		VALUES ($1, $2, $3, 'https://recordings.exotel.com/b.mp3', 'uploaded', 1, $4, $5, $6, repeat('a', 64), '', '',
			'pod', now(), now())`,
		o.tenant, o.keptOne, o.callSID, tenant.Storage.Bucket, key, len(o.object),
	)
}

// marks are texts that nobody of another tenant may ever see.
func (o *property) marks() []string {
	all := []string{
		o.tenant,
		o.domain,
		o.callSID,
		o.queuedRecording,
		o.keptOne,
		o.ownersSession,
		o.owner.User.ID,
		o.stream,
	}
	for _, somebody := range o.staff {
		all = append(all, somebody.User.ID)
	}
	return all
}

// tables are those that hold what tenants have. Others are named in unwatched, with why.
func (p *platform) tables(t *testing.T) (names []string) {
	t.Helper()
	unwatched := map[string]bool{
		"rate_limits": true, // counts tries of any client
		"audit_log":   true, // grows with each try; looked at by itself
	}
	rows, _ := p.admin.Query(t.Context(), `SELECT c.table_name::text FROM information_schema.columns c
			JOIN information_schema.tables USING (table_schema, table_name)
		WHERE c.table_schema = 'public' AND c.column_name = 'tenant' AND table_type = 'BASE TABLE' ORDER BY 1`)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(all, func(name string) bool { return unwatched[name] })
	if len(names) < 12 {
		t.Fatalf("only %q hold what tenants have: this proves nothing", names)
	}
	return names
}

// rows is all that the database holds of a tenant.
func (p *platform) rows(t *testing.T, tenant string) (all []string) {
	t.Helper()
	for _, table := range p.tables(t) {
		rows, _ := p.admin.Query(
			t.Context(), `SELECT $2 || ' ' || r::text FROM `+table+` r WHERE tenant = $1 ORDER BY 1`, tenant, table,
		)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, lines...)
	}
	return all
}
