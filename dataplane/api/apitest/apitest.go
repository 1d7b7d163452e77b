// Package apitest is an API for the tests of operations: one tenant, bearer strings that stand for people, no limits.
package apitest

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/server"
	"github.com/caly-dev/caly/dataplane/token"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// TenantID of the one tenant.
const TenantID = "acme/support"

// NewTenant is the one tenant: with accounts, and anybody may register.
func NewTenant() *tenantconfig.Tenant {
	return &tenantconfig.Tenant{
		Version:  tenantconfig.Version,
		ID:       TenantID,
		UID:      "uid-" + TenantID,
		TimeZone: "UTC",
		Auth: &tenantconfig.Auth{
			OpenRegistration:    true,
			AccessTokenLifetime: tenantconfig.DefaultAccessTokenLifetime,
			SessionLifetime:     tenantconfig.DefaultSessionLifetime,
		},
	}
}

// Tokens are bearer strings and what they claim. The zero value accepts none.
type Tokens struct {
	mu     sync.Mutex
	claims map[string]*token.Claims
}

// Check implements api.Tokens.
func (s *Tokens) Check(raw string) (*token.Claims, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if claims, ok := s.claims[raw]; ok {
		return claims, nil
	}
	return nil, errors.New("no such token")
}

// Add makes a bearer string stand for claims; nil: for nobody any more.
func (s *Tokens) Add(raw string, c *token.Claims) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claims == nil {
		s.claims = map[string]*token.Claims{}
	}
	if s.claims[raw] = c; c == nil {
		delete(s.claims, raw)
	}
}

// ClaimsOf are those of a person of a tenant, with a session.
func ClaimsOf(t *tenantconfig.Tenant, userID, sessionID, role string) *token.Claims {
	now := time.Now()
	return &token.Claims{
		Tenant:    t.ID,
		TenantUID: t.UID,
		UserID:    userID,
		SessionID: sessionID,
		Role:      role,
		ID:        "jti",
		IssuedAt:  now,
		ExpiresAt: now.Add(time.Hour),
	}
}

// Rig is an API and what it knows.
type Rig struct {
	*api.API
	Tenant *tenantconfig.Tenant
	Tokens *Tokens
	mu     sync.Mutex
	known  *tenantconfig.Snapshot
}

// New makes a rig. change may change the options before the API is made of them.
func New(change ...func(*api.Options)) *Rig {
	rig := &Rig{Tenant: NewTenant(), Tokens: &Tokens{}}
	rig.Know(rig.Tenant)
	options := api.Options{Tenants: rig.tenants, Tokens: rig.Tokens}
	for _, f := range change {
		f(&options)
	}
	rig.API = api.New(options)
	return rig
}

// Know replaces the tenants that are known.
func (r *Rig) Know(tenants ...*tenantconfig.Tenant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = tenantconfig.NewSnapshot(tenants...)
}

// LackConfigs lets the pod know these tenants and lack others.
func (r *Rig) LackConfigs(tenants ...*tenantconfig.Tenant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = tenantconfig.NewIncompleteSnapshot(tenants...)
}

func (r *Rig) tenants() *tenantconfig.Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known
}

// SignIn makes a bearer string stand for a person of the tenant.
func (r *Rig) SignIn(raw, userID, sessionID, role string) {
	r.Tokens.Add(raw, ClaimsOf(r.Tenant, userID, sessionID, role))
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// JSON reads the body into v, or fails the test.
func (a Answer) JSON(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.Body, v); err != nil {
		t.Fatalf("the answer is not JSON: %v: %s", err, a.Body)
	}
}

// Code is the problem's code; empty where there is none.
func (a Answer) Code() string {
	var p struct{ Code string }
	_ = json.Unmarshal(a.Body, &p) // an answer that is not JSON has no code
	return p.Code
}

// Do sends a request of the tenant, named by header, through the server's middleware. A bearer of "" sends none; body is JSON in a
// string or []byte, nil, or anything that becomes JSON.
func (r *Rig) Do(t testing.TB, method, path, bearer string, body any) Answer {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, path, reader(t, body))
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("X-Caly-Tenant", r.Tenant.ID)
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	return r.Send(req)
}

// Send answers a request as it is.
func (r *Rig) Send(req *http.Request) Answer {
	recorder := httptest.NewRecorder()
	server.Middleware(r.API, quiet).ServeHTTP(recorder, req)
	return Answer{Status: recorder.Code, Header: recorder.Header(), Body: recorder.Body.Bytes()}
}

func reader(t testing.TB, body any) io.Reader {
	t.Helper()
	switch b := body.(type) {
	case nil:
		return nil
	case string:
		return bytes.NewReader([]byte(b))
	case []byte:
		return bytes.NewReader(b)
	}
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b)
}

var update = flag.Bool("update", false, "write the files that tests compare with")

// CheckFile fails the test when a committed file is another than what is generated. With -update it writes it.
func CheckFile(t testing.TB, path string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil { //nolint:gosec // it is committed
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path) //nolint:gosec // the test says which
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is stale: run this test with -update, and commit it (%v)", path, err)
	}
}

var quiet = slog.New(slog.DiscardHandler)
