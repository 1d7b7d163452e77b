package accounts

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/s3test"
	"github.com/caly-dev/caly/internal/testkit/smtptest"
)

// bodies that are wrong, each with a secret where it does not belong.
func bodies(secret string) map[string]string {
	return map[string]string{
		"cut off":        `{"email":"a@b.example","password":"` + secret,
		"no object":      `"` + secret + `"`,
		"a list":         `["` + secret + `"]`,
		"no JSON":        secret,
		"more behind it": `{"email":"a@b.example","password":"x"} ` + secret,
		"given twice":    `{"password":"` + secret + `","password":"` + secret + `","token":"` + secret + `"}`,
		"in another type": `{"email":["` + secret + `"],"password":{"a":"` + secret + `"},` +
			`"token":["` + secret + `"],"code":["` + secret + `"]}`,
		"as the email":       `{"email":"` + secret + `","password":"` + secret + `"}`,
		"as the code":        `{"email":"a@b.example","code":"` + secret + `"}`,
		"as the role":        `{"email":"a@b.example","role":"` + secret + `","disabled":"` + secret + `"}`,
		"as a refresh token": `{"refreshToken":"` + secret + `"}`,
		"too long": `{"email":"a@b.example","password":"` + strings.Repeat(
			secret, 100,
		) + `","refreshToken":"` + strings.Repeat(secret, 100) + `"}`,
		"too large":    `{"email":"a@b.example","password":"` + strings.Repeat(secret, 1000) + `"}`,
		"not UTF-8":    "{\"email\":\"a@b.example\",\"password\":\"" + secret + "\xff\"}",
		"a bad escape": `{"email":"a@b.example","password":"` + secret + `\q"}`,
		"deep":         strings.Repeat(`{"a":`, 40) + `"` + secret + `"` + strings.Repeat(`}`, 40),
	}
}

// names are bodies with a secret for a member's name. The answer says which member is unknown, to whom sent it; nothing else may.
func names(secret string) map[string]string {
	return map[string]string{
		"an unknown name":     `{"email":"a@b.example","password":"x","` + secret + `":1}`,
		"a name given twice":  `{"` + secret + `":1,"` + secret + `":2}`,
		"a name in the depth": strings.Repeat(`{"`+secret+`":`, 40) + `1` + strings.Repeat(`}`, 40),
	}
}

// badBodies go to every route that takes one.
func (c *canaries) badBodies(t *testing.T) {
	admin := c.p.hire(t, acme, "bodies@acme.example", store.RoleAdmin)
	for _, r := range c.p.routes(t) {
		if !r.takesBody || strings.HasPrefix(r.path, "/api/test/") {
			continue
		}
		secret := c.secret("what was sent to " + r.path)
		q := request{
			method: r.method,
			path:   strings.Replace(r.path, "{id}", admin.User.ID, 1),
			bearer: admin.AccessToken,
		}
		refused := func(what string, a answer) {
			if a.status < 400 || a.status >= 500 {
				t.Errorf("%s with %s is answered %d: %s", r.path, what, a.status, a.body)
			}
		}
		for what, body := range bodies(secret) {
			q.body = body
			refused(what, c.send(t, q))
		}
		for what, body := range names(secret) {
			q.body = body
			refused(what, c.p.do(t, q))
		}
		for _, kind := range []string{
			"", "text/plain", "application/x-www-form-urlencoded", "application/json; secret=" + secret,
			secret,
		} {
			q.body = "password=" + secret
			q.header = map[string]string{"Content-Type": kind}
			refused("the type "+kind, c.send(t, q))
		}
		q.header = nil
	}
}

// oddPlaces are those where clients put secrets by mistake: paths, queries and headers.
func (c *canaries) oddPlaces(t *testing.T) {
	held := c.p.enroll(t, acme, "places@acme.example", firstPassword)
	c.noteTokens(held.tokens)
	for what, secret := range map[string]string{
		"an access token": held.AccessToken,
		"a refresh token": held.RefreshToken,
		"a password":      c.secret("a password in an odd place"),
	} {
		for _, r := range c.p.routes(t) {
			path := strings.NewReplacer("{id}", secret, "{callSid}", secret, "{code}", secret).Replace(r.path)
			for _, q := range []request{
				{path: path + "?token=" + secret},
				{path: path + "?limit=" + secret + "&cursor=" + secret + "&since=" + secret + "&state=" + secret},
				{path: path + "/" + secret},
				{path: "/" + secret},
				{path: "/t/" + secret + "/" + secret + path},
				{path: "//" + secret + "/.." + path},
				{
					path:   path,
					header: map[string]string{"Authorization": "Basic " + secret},
				}, {
					path:   path,
					bearer: secret + "x",
				},
				{
					path: path,
					header: map[string]string{
						"X-Caly-Tenant": secret,
						"Cookie":        "token=" + secret,
						"X-Request-Id":  "a blank and " + secret, // not clean: a clean id of a trusted proxy is kept
						"Origin":        secret,
					},
				},
				{
					path: path,
					header: map[string]string{
						"X-Forwarded-For":   secret,
						"X-Forwarded-Proto": secret,
						"Accept":            secret,
						"Content-Encoding":  secret,
					},
				},
			} {
				if q.method = r.method; r.takesBody {
					q.body = fields{}
				}
				if answer := c.send(t, q); answer.status >= 500 {
					t.Errorf("%s in %s %s is answered %d", what, r.method, r.path, answer.status)
				}
			}
		}
		for _, path := range []string{
			"/api/monitoring/status", "/.well-known/jwks.json", "/webhooks/exotel/acme/support/status",
		} {
			c.send(t, request{method: "GET", path: path + "?token=" + secret, bearer: secret})
			c.send(t, request{path: path, bearer: secret, body: fields{"password": secret}})
		}
	}
}

// testRoutes fail on purpose.
func (c *canaries) testRoutes(t *testing.T, tester string) {
	secret := c.secret("what was sent to a route that fails")
	for _, q := range []request{
		{method: "GET", path: "/api/test/panic"}, {method: "GET", path: "/api/test/panic?a=" + secret},
		{
			method: "GET",
			path:   "/api/test/error/database",
		}, {
			method: "GET",
			path:   "/api/test/error/internal",
		}, {
			method: "GET",
			path:   "/api/test/error/" + secret,
		},
		{
			method: "POST",
			path:   "/api/test/echo",
			body:   `{"a":"` + secret + `"`,
		}, {
			method: "GET",
			path:   "/api/test/ping",
		},
	} {
		q.bearer = tester
		q.header = map[string]string{"Cookie": secret}
		c.send(t, q)
	}
	c.send(t, request{method: "GET", path: "/api/test/panic", bearer: tester}).want(t, 500, "internal")
	c.send(t, request{method: "GET", path: "/api/test/ping", bearer: tester}).want(t, 200)
}

// badMail is refused by the server, for now or for good, in words that quote it; and so is the password that is shown to it.
func (c *canaries) badMail(t *testing.T) {
	for _, email := range []string{"refused@acme.example", "later@acme.example"} {
		c.post(t, "register", fields{"email": email, "password": c.secret("a password")}).want(t, 202)
	}
	admin := c.p.hire(t, acme, "inviting@acme.example", store.RoleAdmin)
	c.noteTokens(admin.tokens)
	invitation := fields{"email": "refused-too@acme.example", "role": store.RoleAgent}
	c.send(t, request{path: "/api/users", bearer: admin.AccessToken, body: invitation}).want(t, 201)
	eventually.Holds(t, "the server has refused three letters", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.refused) >= 3
	})
	c.mu.Lock()
	refused := c.refused
	c.mu.Unlock()
	for _, l := range refused {
		c.note("a code or token of mail that was refused", l.secret(t))
	}
	c.wrongSMTPPassword(t, c.secret("another SMTP password"))
	defer c.wrongSMTPPassword(t, smtptest.Password)
	c.post(t, "register", fields{"email": "unsent@acme.example", "password": c.secret("a password")}).want(t, 202)
	eventually.Holds(t, "the server was shown the password", func() bool {
		return c.p.count(
			t, "SELECT count(*) FROM mail_outbox WHERE recipient = 'unsent@acme.example' AND last_error <> ''",
		) == 1
	})
}

// databaseAway breaks every flow in the middle.
func (c *canaries) databaseAway(t *testing.T) {
	held := c.p.enroll(t, acme, "away@acme.example", firstPassword)
	c.noteTokens(held.tokens)
	password := c.secret("a password while the database is away")
	token := c.secret("a reset token while the database is away")
	for _, state := range []wireState{cut, silent} {
		c.p.database.become(state)
		var all sync.WaitGroup
		for flow, body := range map[string]fields{
			"register":        {"email": "x@acme.example", "password": password},
			"login":           {"email": held.email, "password": password},
			"refresh":         {"refreshToken": held.RefreshToken},
			"reset-password":  {"token": token, "password": password},
			"forgot-password": {"email": held.email},
			"verify-email":    {"email": held.email, "code": "123456"},
			"change-password": {"currentPassword": firstPassword, "newPassword": password},
		} {
			all.Go(func() {
				answer, err := c.try(t, request{path: "/api/auth/" + flow, bearer: held.AccessToken, body: body})
				if err != nil ||
					answer.status != http.StatusServiceUnavailable && answer.status != http.StatusGatewayTimeout {
					t.Errorf("%s without a database is answered %d %s, %v", flow, answer.status, answer.body, err)
				}
			})
		}
		all.Wait()
	}
	c.p.database.become(whole)
	for _, pod := range c.p.pods {
		c.p.await(t, pod)
	}
}

// brokenConfig is one that a pod cannot read, with the secrets in it.
func (c *canaries) brokenConfig(t *testing.T, s3 *s3test.Server) {
	kube := kubetest.Get(t).Client
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: c.p.ns, Name: tenantconfig.SecretName(tenantconfig.PrefixTenant, globex)}
	if err := kube.Get(t.Context(), key, secret); err != nil {
		t.Fatal(err)
	}
	base := secret.DeepCopy()
	text := string(secret.Data[tenantconfig.Key])
	for _, broken := range []string{
		text[:len(text)-1], strings.Replace(text, `"version":2`, `"version":"`+s3.SecretKey+`"`, 1),
		fmt.Sprintf(`{%q:1}`, s3.SecretKey),
	} {
		secret.Data[tenantconfig.Key] = []byte(broken)
		if err := kube.Patch(t.Context(), secret, client.MergeFrom(base)); err != nil {
			t.Fatal(err)
		}
		base = secret.DeepCopy()
		eventually.Holds(t, "the pod reports an unreadable config", func() bool {
			_, body := calytest.Fetch("http://" + c.p.pods[0].Internal + "/api/monitoring/status")
			return jsonAt(body, "tenantConfigs", "unreadable") == 1.0
		})
	}
}
