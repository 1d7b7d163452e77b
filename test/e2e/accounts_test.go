//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/caly-dev/caly/internal/simulator/exotelsim"
)

// person uses the tenant API through the Service of the installation.
type person struct {
	*tenant
	email, password string
	access, refresh string
}

// call sends JSON and decodes the answer into out; out may be nil.
func (p *person) call(ctx context.Context, method, path string, in, out any) (int, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.webhooks+"/t/"+p.id()+path, body)
	if err != nil {
		return 0, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if p.access != "" {
		req.Header.Set("Authorization", "Bearer "+p.access)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if out == nil || resp.StatusCode >= 300 {
		return resp.StatusCode, nil
	}
	return resp.StatusCode, json.NewDecoder(resp.Body).Decode(out)
}

// must is call where one answer alone is right.
func (p *person) must(t *testing.T, want int, method, path string, in, out any) {
	t.Helper()
	if got, err := p.call(t.Context(), method, path, in, out); err != nil || got != want {
		t.Fatalf("%s %s is answered %d, %v; want %d", method, path, got, err, want)
	}
}

type tokens struct {
	AccessToken  string `json:"accessToken"`
	RefreshToken string `json:"refreshToken"`
}

func (p *person) login(t *testing.T) {
	t.Helper()
	var got tokens
	p.access = ""
	p.must(t, http.StatusOK, http.MethodPost, "/api/auth/login", map[string]string{
		"email":    p.email,
		"password": p.password,
	}, &got)
	p.access = got.AccessToken
	p.refresh = got.RefreshToken
}

// withAccounts is a Tenant whose people may register.
func withAccounts(t *testing.T, source string) *tenant {
	t.Helper()
	x := newTenant(t, tenantOptions{source: source})
	x.change(t, `{"auth":{"registration":"Open"}}`)
	halfMinute.Reaches(t, "the data plane knows the accounts", func(ctx context.Context) (bool, string) {
		status, err := (&person{tenant: x}).call(
			ctx, http.MethodPost, "/api/auth/refresh", map[string]string{"refreshToken": "none"}, nil,
		)
		return status == http.StatusUnauthorized, fmt.Sprint(status, err)
	})
	return x
}

// mailbox is a real SMTP server where the chart was told that one is.
type mailbox struct {
	mu       sync.Mutex
	messages []string
}

func newMailbox(t *testing.T) *mailbox {
	t.Helper()
	address := os.Getenv("CALY_E2E_SMTP")
	if address == "" {
		t.Fatal("CALY_E2E_SMTP is not set: run this suite with make e2e")
	}
	m := &mailbox{}
	server := smtp.NewServer(m)
	server.Domain = "mail.example.com"
	server.AllowInsecureAuth = true
	server.ReadTimeout = 10 * time.Second
	server.WriteTimeout = 10 * time.Second
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return m
}

// NewSession implements smtp.Backend.
func (m *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &delivery{m: m}, nil }

type delivery struct {
	m  *mailbox
	to string
}

func (*delivery) Reset()                                      {}
func (*delivery) Logout() error                               { return nil }
func (*delivery) Mail(string, *smtp.MailOptions) error        { return nil }
func (d *delivery) Rcpt(to string, _ *smtp.RcptOptions) error { d.to = to; return nil }
func (d *delivery) Data(r io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(r, 1<<20))
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.messages = append(d.m.messages, d.to+"\n"+string(data))
	return err
}

// find waits for mail to somebody and returns what the pattern's first group finds in it.
func (m *mailbox) find(t *testing.T, to, pattern string) (found string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	minute.Reaches(t, "mail arrives", func(context.Context) (bool, string) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, text := range m.messages {
			if match := re.FindStringSubmatch(text); strings.HasPrefix(text, to+"\n") && match != nil {
				found = match[1]
				return true, ""
			}
		}
		return false, fmt.Sprintf("%d messages", len(m.messages))
	})
	return found
}

// TestPeopleOfATenant verifies that a person registers, verifies an address and signs in on pods that share only the
// database. When the tenant is suspended, each pod rejects the person's tokens.
func TestPeopleOfATenant(t *testing.T) {
	box := newMailbox(t)
	x := withAccounts(t, newSource(t).url)
	p := &person{tenant: x, email: "jane@example.com", password: "correct horse battery " + randomHex(4)}
	credentials := map[string]string{"email": p.email, "password": p.password}
	p.must(t, http.StatusAccepted, http.MethodPost, "/api/auth/register", credentials, nil)
	code := box.find(t, p.email, `(?m)^\s*(\d{6})\s*$`)
	p.must(t, http.StatusUnauthorized, http.MethodPost, "/api/auth/login", credentials, nil)
	p.must(t, http.StatusOK, http.MethodPost, "/api/auth/verify-email", map[string]string{
		"email": p.email,
		"code":  code,
	}, nil)
	p.login(t)
	var me struct{ Email, Role, Tenant string }
	p.must(t, http.StatusOK, http.MethodGet, "/api/auth/me", nil, &me)
	if me.Email != p.email || me.Role != "viewer" || me.Tenant != x.id() {
		t.Errorf("signed in as %+v", me)
	}
	var next tokens
	p.must(t, http.StatusOK, http.MethodPost, "/api/auth/refresh", map[string]string{"refreshToken": p.refresh}, &next)
	p.access = next.AccessToken
	p.refresh = next.RefreshToken

	x.change(t, `{"suspend":true}`)
	halfMinute.Reaches(t, "a suspended tenant's people are out", func(ctx context.Context) (bool, string) {
		access, _ := p.call(ctx, http.MethodGet, "/api/auth/me", nil, nil)
		refresh, _ := p.call(
			ctx, http.MethodPost, "/api/auth/refresh", map[string]string{"refreshToken": p.refresh}, nil,
		)
		return access >= 400 && access < 500 && refresh >= 400 && refresh < 500, fmt.Sprint(access, refresh)
	})
}

// TestFirstAdminDownloads verifies that an admin made by `caly user create` in the operator's pod can download an
// uploaded recording.
func TestFirstAdminDownloads(t *testing.T) {
	src := newSource(t)
	x := withAccounts(t, src.url)
	rec := src.recordings(x, 1, 70_000)[0]
	x.announce(t, []announced{rec})
	p := &person{tenant: x, email: "admin@example.com", password: "correct horse battery " + randomHex(4)}
	cmd := exec.CommandContext(
		t.Context(),
		"kubectl",
		"-n",
		releaseNamespace,
		"exec",
		"-i",
		"deploy/caly-operator",
		"--",
		"/caly",
		"user",
		"create",
		"--tenant",
		x.id(),
		"--email",
		p.email,
		"--role",
		"admin",
		"--password-stdin",
	)
	cmd.Stdin = strings.NewReader(p.password + "\n")
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), p.password) {
		t.Fatalf("caly user create: %v: %s", err, out)
	}
	p.login(t)
	var list struct {
		Items []struct{ ID, CallSID, State string }
	}
	twoMinutes.Reaches(t, "the recording is uploaded", func(ctx context.Context) (bool, string) {
		status, err := p.call(ctx, http.MethodGet, "/api/recordings?callSid="+rec.callSID, nil, &list)
		return err == nil && len(list.Items) == 1 && list.Items[0].State == "uploaded", fmt.Sprint(status, err, list)
	})
	var link struct{ URL string }
	p.must(t, http.StatusOK, http.MethodGet, "/api/recordings/"+list.Items[0].ID+"/download", nil, &link)
	resp, err := http.Get(link.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	sum := sha256.New()
	n, err := io.Copy(sum, resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK ||
		hex.EncodeToString(sum.Sum(nil)) != exotelsim.SHA256(path(rec), sizeOf(rec)) {
		t.Errorf("the link gives %d, %d bytes, %v", resp.StatusCode, n, err)
	}
	var audit struct {
		Items []struct{ Action, Outcome string }
	}
	p.must(t, http.StatusOK, http.MethodGet, "/api/audit", nil, &audit)
	if len(audit.Items) == 0 {
		t.Error("the audit log is empty after an account was made and signed in")
	}
}
