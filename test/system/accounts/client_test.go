package accounts

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/smtptest"
)

// request to the platform. Zero fields: POST, of acme, from one home, over the proxy.
type request struct {
	method, path   string
	tenant, bearer string // a tenant of "-" is not named
	from           string
	body           any // a string is sent as it is
	header         map[string]string
	pod            *accountsPod
}

// answer to a request.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// raw is the body without what differs from request to request.
func (a answer) raw() string {
	return strings.ReplaceAll(string(a.body), a.header.Get("X-Request-Id"), "ID")
}

// want fails the test unless the status is that, and, for a problem, the code.
func (a answer) want(t *testing.T, status int, code ...string) answer {
	t.Helper()
	if a.status != status || len(code) > 0 && jsonAt(a.body, "code") != code[0] {
		t.Fatalf("answered %d, want %d %v: %s", a.status, status, code, a.body)
	}
	return a
}

// into reads the body.
func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

// jsonAt is what stands in an object at a path, nil where nothing does.
func jsonAt(body []byte, path ...string) any {
	var v any
	if json.Unmarshal(body, &v) != nil {
		return nil
	}
	for _, name := range path {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	return v
}

type fields map[string]any

var platformClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}, Timeout: 30 * time.Second}

func encodeBody(body any) (io.Reader, error) {
	switch b := body.(type) {
	case nil:
		return nil, nil
	case string:
		return strings.NewReader(b), nil
	}
	data, err := json.Marshal(body)
	return bytes.NewReader(data), err
}

func (q *request) build(ctx context.Context, base string) (*http.Request, error) {
	body, err := encodeBody(q.body)
	if err != nil {
		return nil, err
	}
	if q.method == "" {
		q.method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, q.method, base+q.path, body)
	if err != nil {
		return nil, err
	}
	if q.tenant != "-" {
		req.Header.Set("X-Caly-Tenant", orElse(q.tenant, acme))
	}
	if q.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if q.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+q.bearer)
	}
	req.Header.Set("X-Forwarded-For", orElse(q.from, "192.0.2.7"))
	req.Header.Set("User-Agent", "proof/1.0")
	for name, value := range q.header {
		req.Header.Set(name, value)
	}
	return req, nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// try sends a request, from any goroutine.
func (p *platform) try(ctx context.Context, q request) (answer, error) {
	base := p.proxy.url
	if q.pod != nil {
		base = "http://" + q.pod.Public
	}
	req, err := q.build(ctx, base)
	if err != nil {
		return answer{}, err
	}
	resp, err := platformClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, body}, err
}

func (p *platform) do(t *testing.T, q request) answer {
	t.Helper()
	a, err := p.try(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// tokens are what a login or refresh gives.
type tokens struct {
	AccessToken, RefreshToken, TokenType string
	ExpiresIn                            int
	User                                 struct{ ID, Email, Role string }
}

// person is somebody with an account.
type person struct {
	tenant, email, password string
	tokens
}

// post sends what needs no token.
func (p *platform) post(t *testing.T, tenant, flow string, body fields) answer {
	t.Helper()
	return p.do(t, request{path: "/api/auth/" + flow, tenant: tenant, body: body})
}

func (p *platform) login(t *testing.T, tenant, email, password string) (got tokens) {
	t.Helper()
	p.post(t, tenant, "login", fields{"email": email, "password": password}).want(t, 200).into(t, &got)
	return got
}

func (p *platform) refresh(t *testing.T, tenant, token string) answer {
	t.Helper()
	return p.post(t, tenant, "refresh", fields{"refreshToken": token})
}

// refreshed is a refresh that must succeed.
func (p *platform) refreshed(t *testing.T, tenant, token string) (got tokens) {
	t.Helper()
	p.refresh(t, tenant, token).want(t, 200).into(t, &got)
	return got
}

// as sends a request of somebody who is signed in.
func (p *platform) as(t *testing.T, bearer, method, path string, body any) answer {
	t.Helper()
	return p.do(t, request{method: method, path: path, bearer: bearer, body: body, tenant: "-"})
}

// enroll registers somebody, reads the mail, verifies the email and signs in.
func (p *platform) enroll(t *testing.T, tenant, email, password string) person {
	t.Helper()
	p.post(t, tenant, "register", fields{"email": email, "password": password}).want(t, 202)
	code := p.mailTo(t, email, subjectVerify).secret(t)
	p.post(t, tenant, "verify-email", fields{"email": email, "code": code}).want(t, 200)
	return person{tenant, email, password, p.login(t, tenant, email, password)}
}

// letter is mail as somebody reads it.
type letter struct{ subject, text string }

// indented is how templates show what is to be typed in.
var indented = regexp.MustCompile(`(?m)^    (\S+)\r?$`)

// secret is the code or token in a letter.
func (l letter) secret(t *testing.T) string {
	t.Helper()
	m := indented.FindStringSubmatch(l.text)
	if m == nil {
		t.Fatalf("the mail %q has no code: %s", l.subject, l.text)
	}
	return m[1]
}

// mailOf is all that came to an address so far.
func (p *platform) mailOf(t *testing.T, to string) (letters []letter) {
	t.Helper()
	for _, m := range p.smtp.Mail() {
		if m.To == to {
			letters = append(letters, open(t, m))
		}
	}
	return letters
}

// Beginnings of the subjects of mail.
const (
	subjectVerify    = "Confirm your email address"
	subjectReset     = "Choose a new password"
	subjectChanged   = "Your password"
	subjectInvited   = "You are invited"
	subjectEndedByUs = "You were signed out"
)

// mailTo waits for mail to an address with a subject.
func (p *platform) mailTo(t *testing.T, to, subject string) (l letter) {
	t.Helper()
	eventually.Holds(t, "mail \""+subject+"\" to "+to, func() bool {
		all := p.mailOf(t, to)
		i := slices.IndexFunc(all, func(l letter) bool { return strings.HasPrefix(l.subject, subject) })
		if i < 0 {
			return false
		}
		l = all[i]
		return true
	})
	return l
}

// open reads the text of a mail.
func open(t *testing.T, m smtptest.Mail) letter {
	t.Helper()
	parsed, err := mail.ReadMessage(strings.NewReader(m.Data))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(parsed.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	part, err := multipart.NewReader(parsed.Body, params["boundary"]).NextPart() // the text comes first
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(part)
	if err != nil {
		t.Fatal(err)
	}
	return letter{parsed.Header.Get("Subject"), string(text)}
}
