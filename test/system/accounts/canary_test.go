package accounts

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/s3test"
	"github.com/caly-dev/caly/internal/testkit/smtptest"
)

// canaries are secrets that go through everything, and what was said meanwhile.
type canaries struct {
	t *testing.T
	p *platform

	mu      sync.Mutex
	secrets map[string]string // what each is
	refused []letter          // mail that the server would not take
	answers []said
	told    map[string]bool // what was reported, once
}

// said is a text, and where it stands.
type said struct{ where, text string }

// TestNoSecretIsTold verifies that passwords, codes, tokens and keys appear in no log line, metric, answer, audit row
// or database column. It sends them through every flow and every kind of failure.
func TestNoSecretIsTold(t *testing.T) {
	t.Parallel()
	c := &canaries{t: t, secrets: map[string]string{}, told: map[string]bool{}}
	s3 := s3test.New(t)
	tester := c.secret("the testers' token")
	monitor := c.secret("the operator's token")
	c.p = newPlatform(t, setup{
		pods:   2,
		tenant: storage(t, s3),
		smtp:   smtptest.Options{Data: c.quote},
		args:   append(wideLimits(), "--mode=development", "--monitoring-token-file="+file(t, monitor)),
		env:    []string{"CALY_LOG_LEVEL=debug", "DEV_TEST_TOKEN=" + tester},
	})
	c.platformSecrets(s3)
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"flows", c.flows},
		{"bodies", c.badBodies},
		{"places", c.oddPlaces},
		{"test routes", func(t *testing.T) { c.testRoutes(t, tester) }},
		{"mail", c.badMail}, {"database", c.databaseAway}, {"config", func(t *testing.T) { c.brokenConfig(t, s3) }},
	} {
		t.Run(step.name, step.run)
	}
	c.look(t)
}

// note adds a secret.
func (c *canaries) note(what, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secrets[text] = what
}

// secret makes one that the rules for passwords take.
func (c *canaries) secret(what string) string {
	text := "plum-" + strings.ToLower(rand.Text()[:20])
	c.note(what, text)
	return text
}

// noteTokens adds what somebody holds, and the parts that are worth as much.
func (c *canaries) noteTokens(held tokens) {
	c.note("an access token", held.AccessToken)
	c.note("an access token's signature", held.AccessToken[strings.LastIndexByte(held.AccessToken, '.')+1:])
	c.note("a refresh token", held.RefreshToken)
	c.note("a refresh token's end", held.RefreshToken[len(held.RefreshToken)-22:])
}

// platformSecrets adds those that the pods are given.
func (c *canaries) platformSecrets(s3 *s3test.Server) {
	c.note("the S3 secret", s3.SecretKey)
	c.note("the SMTP password", smtptest.Password)
	c.note(
		"the SMTP password, as it is sent",
		base64.StdEncoding.EncodeToString([]byte("\x00"+smtptest.Username+"\x00"+smtptest.Password)),
	)
	c.note("the database's password", ":caly-test@")
	ring := c.p.ring()
	keys := map[string]string{
		"the keyring's secret": ring.Secret.Reveal(),
		"the key of mail":      string(ring.Derive("mail")),
	}
	for _, k := range ring.Keys {
		keys["a signing key"] = k.Seed.Reveal()
	}
	for what, raw := range keys {
		c.note(what, raw)
		c.note(what+" in hex", hex.EncodeToString([]byte(raw)))
		c.note(what+" in base64", base64.StdEncoding.EncodeToString([]byte(raw)))
		c.note(what+" in base64 for URLs", base64.RawURLEncoding.EncodeToString([]byte(raw)))
	}
}

// quote makes the SMTP server refuse mail to some, and say why with all that it was given.
func (c *canaries) quote(to string, r io.Reader, _ net.Conn) error {
	data, err := io.ReadAll(r)
	if err != nil || !strings.HasPrefix(to, "refused") && !strings.HasPrefix(to, "later") {
		return err
	}
	letter := open(c.t, smtptest.Mail{Data: string(data)})
	c.mu.Lock()
	c.refused = append(c.refused, letter)
	c.mu.Unlock()
	code := 554
	if strings.HasPrefix(to, "later") {
		code = 451
	}
	return &smtp.SMTPError{Code: code, Message: strings.Join(strings.Fields(letter.text), " ")}
}

// send keeps an answer, without the tokens that it is for.
func (c *canaries) send(t *testing.T, q request) answer {
	t.Helper()
	a, err := c.try(t, q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// try is send, from any goroutine.
func (c *canaries) try(t *testing.T, q request) (answer, error) {
	a, err := c.p.try(t.Context(), q)
	if err != nil {
		return a, err
	}
	text := string(a.body)
	if access, _ := jsonAt(a.body, "accessToken").(string); access != "" {
		refresh, _ := jsonAt(a.body, "refreshToken").(string)
		c.noteTokens(tokens{AccessToken: access, RefreshToken: refresh})
		text = strings.NewReplacer(access, "", refresh, "").Replace(text)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers = append(
		c.answers,
		said{fmt.Sprintf("the answer %d to %.40s", a.status, q.method+" "+q.path), fmt.Sprint(a.header, text)},
	)
	return a, nil
}

func (c *canaries) post(t *testing.T, flow string, body fields) answer {
	t.Helper()
	return c.send(t, request{path: "/api/auth/" + flow, body: body})
}

func (c *canaries) login(t *testing.T, email, password string) (held tokens) {
	t.Helper()
	c.post(t, "login", fields{"email": email, "password": password}).want(t, 200).into(t, &held)
	return held
}

// mailed waits for mail and notes its secret.
func (c *canaries) mailed(t *testing.T, to, subject, what string) string {
	t.Helper()
	secret := c.p.mailTo(t, to, subject).secret(t)
	c.note(what, secret)
	return secret
}

const canaryEmail = "canary@acme.example"

// flows are all of them, with a wrong turn at each.
func (c *canaries) flows(t *testing.T) {
	const email = canaryEmail
	first := c.secret("a password")
	second := c.secret("a new password")
	third := c.secret("a reset password")
	wrong := c.secret("a wrong password")
	c.post(t, "register", fields{"email": email, "password": first}).want(t, 202)
	code := c.mailed(t, email, subjectVerify, "a code")
	c.post(t, "verify-email", fields{"email": email, "code": wrongCode(code)}).want(t, 400)
	c.post(t, "verify-email", fields{"email": email, "code": code}).want(t, 200)
	c.post(t, "login", fields{"email": email, "password": wrong}).want(t, 401)
	c.post(t, "register", fields{"email": email, "password": wrong}).want(t, 202)
	held := c.login(t, email, first)
	me := func(method, path string, body any) answer {
		return c.send(t, request{method: method, path: path, bearer: held.AccessToken, body: body})
	}
	me("GET", "/api/auth/me", nil).want(t, 200)
	me("GET", "/api/auth/sessions", nil).want(t, 200)
	me("POST", "/api/auth/change-password", fields{"currentPassword": wrong, "newPassword": second}).want(t, 400)
	me("POST", "/api/auth/change-password", fields{"currentPassword": first, "newPassword": email}).want(t, 400)
	me("POST", "/api/auth/change-password", fields{"currentPassword": first, "newPassword": second}).want(t, 204)
	old := held.RefreshToken
	for range 2 {
		c.post(t, "refresh", fields{"refreshToken": held.RefreshToken}).want(t, 200).into(t, &held)
	}
	c.post(t, "refresh", fields{"refreshToken": old}).want(t, 401) // which ends the session
	c.post(t, "forgot-password", fields{"email": email}).want(t, 202)
	token := c.mailed(t, email, subjectReset, "a reset token")
	c.post(t, "reset-password", fields{"token": token, "password": "plum"}).want(t, 400)
	c.post(t, "reset-password", fields{"token": token + "x", "password": third}).want(t, 400)
	c.post(t, "reset-password", fields{"token": token, "password": third}).want(t, 204)
	c.post(t, "reset-password", fields{"token": token, "password": third}).want(t, 400)
	held = c.login(t, email, third)
	me("POST", "/api/auth/logout", nil).want(t, 204)
	c.p.deadEverywhere(t, held.AccessToken)
	me("GET", "/api/auth/me", nil).want(t, 401)
	c.post(t, "refresh", fields{"refreshToken": held.RefreshToken}).want(t, 401)
}

// look holds everything that was said against the secrets.
func (c *canaries) look(t *testing.T) {
	t.Helper()
	admin := c.p.hire(t, acme, "auditor@acme.example", store.RoleAdmin)
	c.note("a password", firstPassword)
	c.send(t, request{method: "GET", path: "/api/audit?limit=200", bearer: admin.AccessToken}).want(t, 200)
	c.noteTokens(admin.tokens)
	if len(c.secrets) < 40 || len(c.answers) < 500 {
		t.Errorf("only %d secrets in %d answers: this proves nothing", len(c.secrets), len(c.answers))
	}
	for i, pod := range c.p.pods {
		_, metrics := calytest.Fetch("http://" + pod.Internal + "/metrics")
		c.hold(t, fmt.Sprintf("pod %d's metrics", i), comments.ReplaceAllString(string(metrics), ""))
		_, status := calytest.Fetch("http://" + pod.Internal + "/api/monitoring/status")
		c.hold(t, fmt.Sprintf("pod %d's status", i), string(status))
		pod.p.Terminate()
		if code := pod.p.End(); code != 0 {
			t.Errorf("pod %d ends with %d", i, code)
		}
		log := pod.p.Printed()
		if strings.Count(log, "\n") < 100 || !strings.Contains(log, `"level":"DEBUG"`) ||
			strings.Contains(log, "DATA RACE") {
			t.Errorf("pod %d's log is not what was asked for: %.2000s", i, log)
		}
		for line := range strings.SplitSeq(log, "\n") {
			c.hold(t, fmt.Sprintf("pod %d's log", i), line)
		}
	}
	for _, a := range c.answers {
		c.hold(t, a.where, a.text)
	}
	c.holdDatabase(t)
}

// comments and values of metrics, which have digits as codes do.
var comments = regexp.MustCompile(`(?m)^#.*$| \S+$`)

// code is a mailed code: it counts only where no other digits are next to it.
var code = regexp.MustCompile(`^[0-9]{6}$`)

func tells(text, secret string) bool {
	if !code.MatchString(secret) {
		return strings.Contains(text, secret)
	}
	return regexp.MustCompile(`(^|[^0-9a-zA-Z.])` + secret + `([^0-9a-zA-Z]|$)`).MatchString(text)
}

func (c *canaries) hold(t *testing.T, where, text string) {
	t.Helper()
	for secret, what := range c.secrets {
		if tells(text, secret) && !c.told[where+what] {
			c.told[where+what] = true
			t.Errorf("%s tells %s: %.600s", where, what, text)
		}
	}
}

// holdDatabase reads every column that may hold text or bytes.
func (c *canaries) holdDatabase(t *testing.T) {
	t.Helper()
	rows, _ := c.p.admin.Query(
		t.Context(),
		`SELECT table_name::text, column_name::text FROM information_schema.columns JOIN information_schema.tables
		USING (table_schema, table_name) WHERE table_schema = 'public' AND table_type = 'BASE TABLE'
		AND data_type IN ('text', 'character varying', 'bytea', 'json', 'jsonb', 'ARRAY') ORDER BY 1, 2`,
	)
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Table, Column string }])
	if err != nil || len(columns) < 40 {
		t.Fatalf("%d columns, %v", len(columns), err)
	}
	seen := false
	for _, at := range columns {
		name := pgx.Identifier{at.Column}.Sanitize()
		rows, _ := c.p.admin.Query(
			t.Context(), `SELECT coalesce(`+name+`::text, '') FROM `+pgx.Identifier{at.Table}.Sanitize(),
		)
		values, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range values {
			where := at.Table + "." + at.Column
			seen = seen || value == canaryEmail
			c.hold(t, where, value)
			if raw, err := hex.DecodeString(strings.TrimPrefix(value, `\x`)); err == nil {
				c.hold(t, where, string(raw))
			}
		}
	}
	if !seen {
		t.Error("what is in the tables was not seen: this proves nothing")
	}
}

// wrongSMTPPassword lets the pods show another password at the SMTP server, which quotes it.
func (c *canaries) wrongSMTPPassword(t *testing.T, password string) {
	t.Helper()
	if err := os.WriteFile(c.p.smtpSecret, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
}
