package objectstore_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

const (
	stsRole     = "arn:aws:iam::123456789012:role/recordings"
	stsSubject  = "system:serviceaccount:acme:recordings"
	stsAudience = "sts.amazonaws.com"
)

// newSTS returns an STS, the issuer that it trusts and the store that takes what it issues.
func newSTS(t *testing.T) (*s3test.STS, *s3test.Issuer, *s3test.Strict) {
	t.Helper()
	issuer := s3test.NewIssuer(t)
	store := s3test.NewStrict(t, s3test.Rules{}, nil)
	return s3test.NewSTS(t, store, s3test.STSRules{
		Issuer:          issuer.URL,
		Keys:            issuer.Keys(),
		Audiences:       []string{stsAudience},
		RoleARN:         stsRole,
		Subject:         stsSubject,
		TrustedAudience: stsAudience,
	}), issuer, store
}

func newIdentity(t *testing.T, sts *s3test.STS, issuer *s3test.Issuer) objectstore.WebIdentity {
	t.Helper()
	return objectstore.WebIdentity{
		Endpoint:    sts.URL,
		RoleARN:     stsRole,
		SessionName: "caly-acme.support",
		Token:       issuer.Token(t, stsSubject, stsAudience, time.Minute),
		Subject:     stsSubject,
		Audience:    stsAudience,
		Duration:    time.Hour,
	}
}

// openTemporary returns the store's bucket with temporary credentials.
func openTemporary(t *testing.T, store *s3test.Strict, key objectstore.TemporaryKey) *objectstore.Bucket {
	t.Helper()
	b, err := objectstore.New(objectstore.Config{
		Endpoint:        store.URL,
		Region:          "us-east-1",
		Bucket:          store.Bucket,
		AccessKeyID:     key.AccessKeyID,
		SecretAccessKey: key.SecretAccessKey,
		SessionToken:    key.SessionToken,
	}, loopbackTransport())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func loopbackTransport() *objectstore.Transport {
	return objectstore.NewTransport(objectstore.Policy{
		AllowHTTP:    true,
		AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}, 2)
}

// TestAssumeRole holds the exchange to what Amazon documents, and uses what it returns until that expires.
func TestAssumeRole(t *testing.T) {
	sts, issuer, store := newSTS(t)
	webIdentity := newIdentity(t, sts, issuer)
	key, err := loopbackTransport().AssumeRole(t.Context(), webIdentity)
	if err != nil {
		t.Fatal(err)
	}
	if got := key.Lifetime.Round(time.Minute); got != time.Hour {
		t.Errorf("it expires after %s, want an hour", key.Lifetime)
	}
	want := url.Values{
		"Action":           {"AssumeRoleWithWebIdentity"},
		"Version":          {"2011-06-15"},
		"RoleArn":          {stsRole},
		"RoleSessionName":  {"caly-acme.support"},
		"DurationSeconds":  {"3600"},
		"WebIdentityToken": {webIdentity.Token},
	}
	if diff := cmp.Diff([]url.Values{want}, sts.Requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	b := openTemporary(t, store, key)
	if err := b.Probe(t.Context()); err != nil {
		t.Errorf("the store refused the credentials: %v", err)
	}
	store.Expire(key.AccessKeyID)
	if got := objectstore.CauseOf(b.Probe(t.Context())).Reason; got != objectstore.CredentialsExpired {
		t.Errorf("after they expired: reason %q, want CredentialsExpired", got)
	}
}

// TestExpiredCause has what the answers of stores to expired credentials mean, by whether the operator renews them.
func TestExpiredCause(t *testing.T) {
	forgets := s3test.Rules{ForgetExpired: true}
	unknown := refusing("InvalidTokenId")
	for name, tc := range map[string]struct {
		rules   s3test.Rules
		renewed bool
		want    objectstore.Reason
		stop    bool
	}{
		"Amazon":                           {renewed: true, want: objectstore.CredentialsExpired},
		"Amazon, keys of a Secret":         {want: objectstore.CredentialsExpired, stop: true},
		"MinIO":                            {rules: forgets, renewed: true, want: objectstore.CredentialsExpired},
		"MinIO, keys of a Secret":          {rules: forgets, want: objectstore.CredentialsRefused, stop: true},
		"InvalidTokenId":                   {rules: unknown, renewed: true, want: objectstore.CredentialsExpired},
		"InvalidTokenId, keys of a Secret": {rules: unknown, want: objectstore.CredentialsRefused, stop: true},
		"a wrong signature": {
			rules:   refusing("SignatureDoesNotMatch"),
			renewed: true,
			want:    objectstore.CredentialsRefused,
			stop:    true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := s3test.NewStrict(t, tc.rules, nil)
			key := s3test.IssuedKey{AccessKey: "ASIA0", SecretKey: "secret", Token: "token"} // it has expired
			store.Issue(key)
			b, err := objectstore.New(objectstore.Config{
				Endpoint:        store.URL,
				Region:          "us-east-1",
				Bucket:          store.Bucket,
				AccessKeyID:     key.AccessKey,
				SecretAccessKey: key.SecretKey,
				SessionToken:    key.Token,
				Renewed:         tc.renewed,
			}, loopbackTransport())
			if err != nil {
				t.Fatal(err)
			}
			got := objectstore.CauseOf(b.Probe(t.Context()))
			if got.Reason != tc.want || got.Stop != tc.stop {
				t.Errorf("reason %s, stop %t, want %s, %t", got.Reason, got.Stop, tc.want, tc.stop)
			}
		})
	}
}

// refusing has a store answer each request with a code.
func refusing(code string) s3test.Rules {
	return s3test.Rules{Refuse: func(*http.Request) *s3test.Refusal {
		return &s3test.Refusal{Status: http.StatusForbidden, Code: code, Message: "no"}
	}}
}

// TestAssumeRoleVariants has the forms of MinIO and Ceph.
func TestAssumeRoleVariants(t *testing.T) {
	for name, tc := range map[string]struct {
		rules   func(*s3test.STSRules)
		role    string
		atStore bool
		want    string // of the message; empty: it works
	}{
		"MinIO with a role policy": {role: stsRole, atStore: true},
		"MinIO without one":        {rules: func(r *s3test.STSRules) { r.NoRole = true }, atStore: true},
		"MinIO, a role too many": {
			rules:   func(r *s3test.STSRules) { r.NoRole = true },
			role:    stsRole,
			atStore: true,
			want:    "InvalidParameterValue",
		},
		"Ceph": {rules: func(r *s3test.STSRules) { r.S3Errors = true }, role: stsRole, atStore: true},
		"Ceph, the wrong role": {
			rules:   func(r *s3test.STSRules) { r.S3Errors = true },
			role:    stsRole + "2",
			atStore: true,
			want:    "AccessDenied",
		},
	} {
		t.Run(name, func(t *testing.T) {
			sts, issuer, store := newSTS(t)
			if tc.rules != nil {
				sts.SetRules(tc.rules)
			}
			if tc.atStore {
				sts.AtStore()
			}
			webIdentity := newIdentity(t, sts, issuer)
			webIdentity.RoleARN = tc.role
			key, err := loopbackTransport().AssumeRole(t.Context(), webIdentity)
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Fatalf("error %v, want one with %q", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := openTemporary(t, store, key).Probe(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAssumeRoleRefused maps what STSs answer to a reason and to what to do.
func TestAssumeRoleRefused(t *testing.T) {
	refuse := func(status int, code, message string) func(*s3test.STSRules) {
		return func(r *s3test.STSRules) {
			r.Refuse = func(url.Values) *s3test.Refusal {
				return &s3test.Refusal{
					Status:  status,
					Code:    code,
					Message: message,
				}
			}
		}
	}
	for name, tc := range map[string]struct {
		rules  func(*s3test.STSRules)
		change func(*objectstore.WebIdentity)
		reason objectstore.Reason
		stop   bool
		want   []string
	}{
		"the trust policy": {
			rules:  func(r *s3test.STSRules) { r.Subject = "system:serviceaccount:other:x" },
			reason: objectstore.IdentityRefused,
			stop:   true,
			want:   []string{"AccessDenied", "Not authorized to perform", stsSubject, stsAudience, "trust policy"},
		},
		"no provider": {
			rules:  func(r *s3test.STSRules) { r.Issuer = "https://another.example" },
			reason: objectstore.IdentityRefused,
			stop:   true,
			want:   []string{"No OpenIDConnect provider", "register"},
		},
		"the audience": {
			rules:  func(r *s3test.STSRules) { r.Audiences = []string{"x"} },
			reason: objectstore.IdentityRefused,
			stop:   true,
			want: []string{"the STS refused the token of the ServiceAccount: ", "Incorrect token audience",
				stsAudience},
		},
		"too long a session": {
			change: func(w *objectstore.WebIdentity) { w.Duration = 2 * time.Hour },
			reason: objectstore.IdentityRefused,
			stop:   true,
			want:   []string{"the STS answered: ", "MaxSessionDuration", "sessionDuration"},
		},
		"no role": {
			change: func(w *objectstore.WebIdentity) { w.RoleARN = "" },
			reason: objectstore.IdentityRefused,
			stop:   true,
			want:   []string{"roleArn", "webIdentity.roleARN"},
		},
		"clocks": {
			rules:  func(r *s3test.STSRules) { r.Skew = time.Hour },
			reason: objectstore.IdentityUnavailable,
			want:   []string{"ExpiredTokenException", "time of its nodes"},
		},
		"the provider is down": {
			rules:  refuse(400, "IDPCommunicationError", "x"),
			reason: objectstore.IdentityUnavailable,
			want:   []string{"tried again"},
		},
		"throttling": {
			rules:  refuse(400, "Throttling", "Rate exceeded"),
			reason: objectstore.IdentityUnavailable,
			want:   []string{"Rate exceeded"},
		},
		"500": {
			rules:  refuse(500, "InternalFailure", "x"),
			reason: objectstore.IdentityUnavailable,
			want:   []string{"InternalFailure"},
		},
		"the region": {
			rules:  refuse(403, "RegionDisabledException", "STS is not activated in this region"),
			reason: objectstore.IdentityRefused,
			stop:   true,
			want:   []string{"activate STS"},
		},
		"an unknown code": {
			rules:  refuse(400, "Odd", "one\n\x1b[31mtwo"),
			reason: objectstore.IdentityRefused,
			stop:   true,
			want:   []string{"Odd", "spec.recordings.webIdentity"},
		},
		"a path": {
			change: func(w *objectstore.WebIdentity) { w.Endpoint += "/x" },
			reason: objectstore.IdentityRefused,
			stop:   true,
			want:   []string{"webIdentity.endpoint", "without a path"},
		},
		"a query": {
			change: func(w *objectstore.WebIdentity) { w.Endpoint += "/?x=1" },
			reason: objectstore.IdentityRefused,
			stop:   true,
			want:   []string{"webIdentity.endpoint", "without a path"},
		},
		"nobody there": {
			change: func(w *objectstore.WebIdentity) { w.Endpoint = "http://127.0.0.1:1" },
			reason: objectstore.IdentityUnavailable,
			want:   []string{"no STS answer from 127.0.0.1:1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			sts, issuer, _ := newSTS(t)
			if tc.rules != nil {
				sts.SetRules(tc.rules)
			}
			webIdentity := newIdentity(t, sts, issuer)
			if tc.change != nil {
				tc.change(&webIdentity)
			}
			_, err := loopbackTransport().AssumeRole(t.Context(), webIdentity)
			var got *objectstore.IdentityError
			if !errors.As(err, &got) {
				t.Fatalf("error %v, want an *IdentityError", err)
			}
			if got.Reason != tc.reason || got.Stop != tc.stop {
				t.Errorf("reason %s, stop %t, want %s, %t: %v", got.Reason, got.Stop, tc.reason, tc.stop, err)
			}
			for _, want := range tc.want {
				if !strings.Contains(got.Message, want) {
					t.Errorf("the message lacks %q: %s", want, got.Message)
				}
			}
			if strings.ContainsFunc(got.Message, unicode.IsControl) ||
				strings.Contains(got.Message, webIdentity.Token) {
				t.Errorf("the message has a character or a token that it must not have: %q", got.Message)
			}
		})
	}
}

// TestAssumeRoleLies refuses answers that cannot be true or cannot be used.
func TestAssumeRoleLies(t *testing.T) {
	replace := func(name, value string) func(string) string {
		form := regexp.MustCompile("<" + name + ">[^<]*</" + name + ">")
		return func(answer string) string { return form.ReplaceAllString(answer, "<"+name+">"+value+"</"+name+">") }
	}
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	for name, tc := range map[string]struct {
		alter func(string) string
		want  string
	}{
		"no expiration":      {replace("Expiration", ""), "Expiration is missing"},
		"a word":             {replace("Expiration", "never"), "Expiration is missing"},
		"expired":            {replace("Expiration", in(-time.Hour)), "after the time of the answer"},
		"about to expire":    {replace("Expiration", in(9*time.Minute)), "after the time of the answer"},
		"in 100 years":       {replace("Expiration", "2126-01-01T00:00:00Z"), "after the time of the answer"},
		"no key":             {replace("AccessKeyId", ""), "AccessKeyId is empty"},
		"no secret":          {replace("SecretAccessKey", ""), "SecretAccessKey is empty"},
		"no session token":   {replace("SessionToken", ""), "SessionToken is empty"},
		"a line break":       {replace("SecretAccessKey", "top-secret&#10;x"), "SecretAccessKey has a character"},
		"a slash in the key": {replace("AccessKeyId", "ASIA/x"), "AccessKeyId has a character"},
		"a blank":            {replace("SessionToken", "a b"), "SessionToken has a character"},
		"a long token":       {replace("SessionToken", strings.Repeat("x", 13<<10)), "SessionToken is longer"},
		"a longer token":     {replace("SessionToken", strings.Repeat("x", 1<<20)), "no STS answer"},
		"another document":   {func(string) string { return "<html><body>hello</body></html>" }, "no STS answer"},
		"another action": {func(s string) string { return strings.ReplaceAll(s, "WebIdentity", "SAML") },
			"no STS answer"},
		"an endless document": {func(string) string { return strings.Repeat("<a>", 1<<20) }, "no STS answer"},
		"nothing":             {func(string) string { return "" }, "no STS answer"},
	} {
		t.Run(name, func(t *testing.T) {
			sts, issuer, _ := newSTS(t)
			sts.SetRules(func(rules *s3test.STSRules) { rules.Alter = tc.alter })
			key, err := loopbackTransport().AssumeRole(t.Context(), newIdentity(t, sts, issuer))
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "top-secret") {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
			if key != (objectstore.TemporaryKey{}) {
				t.Error("it returned credentials with the error")
			}
		})
	}
}

// TestAssumeRoleClocks counts the lifetime from the answer if the clock of the STS differs.
func TestAssumeRoleClocks(t *testing.T) {
	sts, issuer, _ := newSTS(t)
	sts.SetRules(func(rules *s3test.STSRules) { rules.Skew = -10 * time.Minute })
	key, err := loopbackTransport().AssumeRole(t.Context(), newIdentity(t, sts, issuer))
	if err != nil {
		t.Fatal(err)
	}
	if got := key.Lifetime.Round(time.Minute); got != time.Hour {
		t.Errorf("it expires after %s, want an hour", key.Lifetime)
	}
}

// TestAssumeRoleLogsNoToken has an STS quote the token where only the platform's log shows it, and in the name of the
// request.
func TestAssumeRoleLogsNoToken(t *testing.T) {
	sts, issuer, _ := newSTS(t)
	webIdentity := newIdentity(t, sts, issuer)
	part := webIdentity.Token[10:50]
	refusal := "<ErrorResponse><Error><Code>Odd</Code><Message>m</Message></Error><RequestId>" + part +
		"</RequestId></ErrorResponse>"
	for name, answer := range map[string]string{
		"not HTTP": webIdentity.Token + "\r\n\r\n",
		"the request's name": fmt.Sprintf("HTTP/1.1 400 Bad Request\r\nContent-Type: text/xml\r\nContent-Length: %d"+
			"\r\n\r\n%s", len(refusal), refusal),
	} {
		t.Run(name, func(t *testing.T) {
			webIdentity := webIdentity
			webIdentity.Endpoint = newHostile(
				t, func(hostile *hostileWriter, _ *http.Request) { hostile.write(answer) },
			).url
			_, err := loopbackTransport().AssumeRole(t.Context(), webIdentity)
			if err == nil {
				t.Fatal("no error")
			}
			if text := objectstore.Detail(err); strings.Contains(text, part) || !strings.Contains(text, "[redacted]") {
				t.Errorf("the log would have the token: %s", text)
			}
		})
	}
}

// TestAssumeRoleKeepsTheToken tries to make the token leave: in a message, by plain http, to a private address, and by
// a redirect.
func TestAssumeRoleKeepsTheToken(t *testing.T) {
	sts, issuer, _ := newSTS(t)
	for name, quote := range map[string]func(token string) string{
		"whole": func(token string) string { return "cannot read " + token },
		"its signature": func(token string) string {
			return "bad signature " + token[strings.LastIndex(token,
				".")+1:]
		},
		"cut": func(token string) string { return "bad claims " + token[60:200] + "." },
	} {
		sts.SetRules(func(rules *s3test.STSRules) {
			rules.Refuse = func(form url.Values) *s3test.Refusal {
				return &s3test.Refusal{
					Status:  400,
					Code:    "InvalidIdentityToken",
					Message: quote(form.Get("WebIdentityToken")),
				}
			}
		})
		webIdentity := newIdentity(t, sts, issuer)
		_, err := loopbackTransport().AssumeRole(t.Context(), webIdentity)
		if err == nil {
			t.Fatal("it worked")
		}
		for i := 0; i+16 <= len(webIdentity.Token); i++ {
			if part := webIdentity.Token[i : i+16]; strings.Contains(err.Error(), part) {
				t.Errorf("%s: the message quotes %q of the token: %v", name, part, err)
				break
			}
		}
	}
	asked := len(sts.Requests())
	for name, policy := range map[string]objectstore.Policy{
		"plain http":      {AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		"private address": {AllowHTTP: true},
	} {
		_, err := objectstore.NewTransport(policy, 1).AssumeRole(t.Context(), newIdentity(t, sts, issuer))
		var got *objectstore.IdentityError
		if !errors.As(err, &got) || got.Reason != objectstore.EndpointNotAllowed || !got.Stop {
			t.Errorf("%s: error %v, want EndpointNotAllowed", name, err)
		}
	}
	target := sts.URL
	front := newHostile(t, func(w *hostileWriter, _ *http.Request) {
		w.write("HTTP/1.1 307 Temporary Redirect\r\nLocation: " + target + "\r\nContent-Length: 0\r\n\r\n")
	})
	webIdentity := newIdentity(t, sts, issuer)
	webIdentity.Endpoint = front.url
	if _, err := loopbackTransport().AssumeRole(t.Context(), webIdentity); err == nil {
		t.Error("it followed a redirect")
	}
	if got := len(sts.Requests()); got != asked {
		t.Errorf("the STS was asked %d times, want none", got-asked)
	}
}
