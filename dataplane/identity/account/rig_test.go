package account_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/api/apitest"
	"github.com/caly-dev/caly/dataplane/identity/account"
	"github.com/caly-dev/caly/dataplane/identity/session"
	"github.com/caly-dev/caly/dataplane/ratelimit"
	"github.com/caly-dev/caly/dataplane/server"
	"github.com/caly-dev/caly/dataplane/token"
	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/password"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/background"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/logtest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	acme   = "acme/support"
	globex = "globex/sales"
	jane   = "jane@acme.example"
	home   = "192.0.2.7"
)

// Passwords that are taken, and one that is not.
const (
	good   = "seven unripe quinces"
	better = "nine overripe medlars"
	weak   = "passwordpassword"
)

// soon bounds a wait for what must happen without delay.
const soon = eventually.Within(10 * time.Second)

// rig is two pods on one database, and what the tests look at.
type rig struct {
	db      *storetest.DB
	ring    *keyring.Ring
	tenants *tenantconfig.Snapshot
	acme    *tenantconfig.Tenant
	pods    []*pod
	next    int
	log     *logtest.Buffer
}

// pod is one data-plane pod's share.
type pod struct {
	svc     *account.Service
	handler http.Handler
	db      *store.Dataplane
	broken  *brokenMinter
}

// brokenMinter fails while it is told to: a pod that dies between the database's commit and its answer.
type brokenMinter struct {
	session.Minter
	mu   sync.Mutex
	fail bool
}

func (b *brokenMinter) set(fail bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = fail
}

func (b *brokenMinter) Mint(c token.Claims) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail {
		return "", fmt.Errorf("the pod was killed")
	}
	return b.Minter.Mint(c)
}

// wide lets tests try as often as they like.
func wide() map[string]tenantconfig.Limit {
	limits := map[string]tenantconfig.Limit{}
	for _, name := range ratelimit.Names() {
		limits[string(name)] = tenantconfig.Limit{Requests: tenantconfig.MaxLimitRequests, Window: time.Minute}
	}
	return limits
}

func newTenant(id string) *tenantconfig.Tenant {
	t := apitest.NewTenant()
	t.ID, t.UID, t.Auth.Limits = id, "uid-"+id, wide()
	return t
}

// newRig makes a rig. change may change the options of each pod's service.
func newRig(t *testing.T, change ...func(*account.Options)) *rig {
	t.Helper()
	r := &rig{
		db:   storetest.New(t),
		ring: keyring.New(time.Now().Add(-time.Hour)),
		acme: newTenant(acme),
		log:  &logtest.Buffer{},
	}
	r.tenants = tenantconfig.NewSnapshot(r.acme, newTenant(globex))
	for range 2 {
		r.addPod(t, change...)
	}
	return r
}

func (r *rig) addPod(t *testing.T, change ...func(*account.Options)) {
	t.Helper()
	p := &pod{db: storetest.Open(t, r.db.DataplaneDSN, store.OpenDataplane)}
	ring := func() *keyring.Ring { return r.ring }
	log := slog.New(r.log.Handler())
	revocations := token.NewRevocations(token.RevocationOptions{
		Store:   p.db,
		Every:   50 * time.Millisecond,
		Log:     log,
		Tenants: func() []string { return []string{acme, globex} },
	})
	tokens := token.New(token.Options{
		Issuer:      "https://caly.example",
		Audience:    "caly",
		Ring:        ring,
		Revocations: revocations,
		Log:         log,
	})
	p.broken = &brokenMinter{Minter: tokens}
	options := account.Options{
		Store:   p.db,
		Settle:  time.Millisecond,
		Tokens:  p.broken,
		Ring:    ring,
		Revoker: revocations,
		Log:     log,
		Limiter: ratelimit.New(ratelimit.Options{
			Store: p.db,
			Key:   func() []byte { return r.ring.Derive("rate-limit") },
			Log:   log,
		}),
		Hasher: password.NewHasher(password.Options{
			Params: password.Params{Memory: 64, Time: 1, Threads: 1},
			Slots:  4,
			Queue:  500,
			Wait:   30 * time.Second,
		}),
	}
	for _, f := range change {
		f(&options)
	}
	p.svc = account.New(options)
	a := api.New(api.Options{
		Tenants: func() *tenantconfig.Snapshot { return r.tenants },
		Tokens:  tokens,
		Timeout: 30 * time.Second,
		Log:     log,
	})
	account.Register(a, p.svc)
	p.handler = server.Middleware(a, log)
	r.pods = append(r.pods, p)
	background.Run(t, revocations.Run)
}

// request is one request; zero fields are acme's, at home, to the next pod.
type request struct {
	method, path, tenant, bearer, from string
	body                               any
	pod                                *pod
}

// answer is what came back.
type answer struct {
	apitest.Answer
	raw string // without what differs from request to request
}

func (r *rig) do(t *testing.T, q request) answer {
	t.Helper()
	var body bytes.Buffer
	if q.body != nil {
		if err := json.NewEncoder(&body).Encode(q.body); err != nil {
			t.Fatal(err)
		}
	}
	if q.method == "" {
		q.method = http.MethodPost
	}
	req := httptest.NewRequest(q.method, q.path, &body)
	req.Header.Set("X-Caly-Tenant", orElse(q.tenant, acme))
	req.Header.Set("User-Agent", "test/1.0")
	if q.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if q.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+q.bearer)
	}
	req.RemoteAddr = "[" + orElse(q.from, home) + "]:40000"
	if !strings.Contains(req.RemoteAddr[1:], "::") {
		req.RemoteAddr = orElse(q.from, home) + ":40000"
	}
	if q.pod == nil {
		q.pod = r.pods[r.next%len(r.pods)]
		r.next++
	}
	recorder := httptest.NewRecorder()
	q.pod.handler.ServeHTTP(recorder, req)
	a := answer{Answer: apitest.Answer{Status: recorder.Code, Header: recorder.Header(), Body: recorder.Body.Bytes()}}
	a.raw = strings.ReplaceAll(recorder.Body.String(), recorder.Header().Get("X-Request-Id"), "ID")
	return a
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

type fields map[string]string

func (r *rig) post(t *testing.T, path string, body fields) answer {
	t.Helper()
	return r.do(t, request{path: "/api/auth/" + path, body: body})
}

// must fails the test on another status.
func (a answer) must(t *testing.T, status int) answer {
	t.Helper()
	if a.Status != status {
		t.Fatalf("status %d, want %d: %s", a.Status, status, a.Body)
	}
	return a
}

// want fails the test on another status or code.
func (a answer) want(t *testing.T, what string, status int, code string) {
	t.Helper()
	if a.Status != status || a.Code() != code {
		t.Errorf("%s: %d %s, want %d %s: %s", what, a.Status, a.Code(), status, code, a.Body)
	}
}

// tokens are what a login or refresh gives.
type tokens struct {
	AccessToken, TokenType, RefreshToken string
	ExpiresIn                            int
	User                                 account.User
}

func (a answer) tokens(t *testing.T) (tk tokens) {
	t.Helper()
	a.must(t, http.StatusOK).JSON(t, &tk)
	return tk
}

func (r *rig) login(t *testing.T, email, pw string) tokens {
	t.Helper()
	return r.post(t, "login", fields{"email": email, "password": pw}).tokens(t)
}

func (r *rig) refresh(t *testing.T, raw string) answer {
	t.Helper()
	return r.post(t, "refresh", fields{"refreshToken": raw})
}

// user makes a verified user with the good password and returns the id.
func (r *rig) user(t *testing.T, tenant, email, role string) string {
	t.Helper()
	hash, err := password.NewHasher(password.Options{Params: password.Params{
		Memory:  64,
		Time:    1,
		Threads: 1,
	}}).Hash(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	newUser := store.NewUser{ID: store.NewID(), Email: email, PasswordHash: hash, Role: role, Verified: true}
	if err := r.db.Operator.CreateUser(t.Context(), tenant, newUser, store.Origin{}); err != nil {
		t.Fatal(err)
	}
	return newUser.ID
}

// mails are what is in the outbox for a recipient, oldest first, unsealed.
func (r *rig) mails(t *testing.T, to string) (list []mail.Message) {
	t.Helper()
	type row struct {
		Tenant, EventKey, Template, Recipient string
		Sealed                                []byte
	}
	for _, row := range pgtest.Rows[row](
		t,
		r.db.Server,
		`SELECT tenant, event_key, template, recipient, sealed FROM mail_outbox WHERE recipient = $1 ORDER BY id`,
		to,
	) {
		message, err := mail.Unseal(r.ring.Derive("mail"), row.Tenant, store.OutboxMail{
			EventKey:  row.EventKey,
			Template:  row.Template,
			Recipient: row.Recipient,
			Sealed:    row.Sealed,
		})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, message)
	}
	return list
}

// mail is the last one, which must be of the template.
func (r *rig) mail(t *testing.T, to string, template mail.Template) mail.Message {
	t.Helper()
	list := r.mails(t, to)
	if len(list) == 0 || list[len(list)-1].Template != template {
		t.Fatalf("the last of %d mails is not a %s", len(list), template)
	}
	return list[len(list)-1]
}

func (r *rig) text(t *testing.T, sql string, args ...any) string {
	t.Helper()
	return pgtest.Value[string](t, r.db.Server, `SELECT coalesce((`+sql+`)::text, '')`, args...)
}

// ago moves the session's last rotation into the past.
func (r *rig) ago(t *testing.T, d time.Duration) {
	t.Helper()
	r.db.Exec(t, `UPDATE login_sessions SET rotated_at = rotated_at - $1::interval`, d)
}
