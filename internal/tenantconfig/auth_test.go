package tenantconfig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/secret"
)

// withAccounts is a config of a tenant whose people sign in.
func withAccounts() Tenant {
	t := sample()
	t.Auth = &Auth{
		OpenRegistration:    true,
		AccessTokenLifetime: 10 * time.Minute,
		SessionLifetime:     48 * time.Hour,
		AllowedEmailDomains: []string{"acme.example"},
		Hosts:               []string{"voice.acme.example"},
		AllowedOrigins:      []string{"https://desk.acme.example:8443", "http://localhost:5173"},
		Limits: map[string]Limit{
			"login": {Requests: 3, Window: time.Minute},
			"api":   {Requests: 1000, Window: 24 * time.Hour},
		},
	}
	t.Storage = &Storage{
		Bucket:          "b",
		Endpoint:        "https://s3.example",
		Region:          "r",
		AccessKeyID:     "topsecret id",
		SecretAccessKey: "topsecret \xff",
	}
	return t
}

func TestRoundTripOfAccounts(t *testing.T) {
	data, err := EncodeTenant(withAccounts())
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeTenant(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(withAccounts(), *got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// What an operator of the release before wrote reads as a tenant without accounts.
	data, _ = EncodeTenant(sample())
	if got, err := DecodeTenant(data); err != nil || got.Auth != nil || got.Storage != nil ||
		bytes.Contains(data, []byte("auth")) {
		t.Errorf("a tenant without accounts: %+v, %v, from %s", got, err, data)
	}
}

func TestDecodeRefusesAuth(t *testing.T) {
	limit := func(name string, l Limit) func(*Tenant) {
		return func(t *Tenant) { t.Auth.Limits = map[string]Limit{name: l} }
	}
	for name, tc := range map[string]struct {
		change func(*Tenant)
		want   string
	}{
		"storage without auth":    {func(t *Tenant) { t.Auth = nil }, "storage without auth"},
		"storage without region":  {func(t *Tenant) { t.Storage.Region = "" }, "lacks bucket, endpoint, region"},
		"storage without its key": {func(t *Tenant) { t.Storage.SecretAccessKey = "" }, "or credentials"},
		"no token lifetime":       {func(t *Tenant) { t.Auth.AccessTokenLifetime = 0 }, "auth.accessTokenLifetime 0s"},
		"token lifetime, less": {
			func(t *Tenant) { t.Auth.AccessTokenLifetime = time.Minute - 1 },
			"between 1m0s and 1h0m0s",
		},
		"token lifetime, more": {
			func(t *Tenant) { t.Auth.AccessTokenLifetime = time.Hour + 1 },
			"between 1m0s and 1h0m0s",
		},
		"session lifetime, less": {
			func(t *Tenant) { t.Auth.SessionLifetime = time.Hour - 1 },
			"between 1h0m0s and 2160h0m0s",
		},
		"session lifetime, more": {
			func(t *Tenant) { t.Auth.SessionLifetime = maxSessionLifetime + 1 },
			"between 1h0m0s and 2160h0m0s",
		},
		"too many domains": {
			func(t *Tenant) { t.Auth.AllowedEmailDomains = make([]string, maxEmailDomains+1) },
			"more than 64",
		},
		"too many hosts": {func(t *Tenant) { t.Auth.Hosts = make([]string, maxHosts+1) }, "16 hosts"},
		"too many origins": {
			func(t *Tenant) { t.Auth.AllowedOrigins = make([]string, maxOrigins+1) },
			"32 allowedOrigins",
		},
		"a domain with an @": {
			func(t *Tenant) { t.Auth.AllowedEmailDomains[0] = "@acme.example" },
			`auth.allowedEmailDomains: "@acme.example"`,
		},
		"a host in capitals": {func(t *Tenant) { t.Auth.Hosts[0] = "Voice.acme.example" }, "auth.hosts"},
		"an origin of all":   {func(t *Tenant) { t.Auth.AllowedOrigins[0] = "*" }, `auth.allowedOrigins: "*"`},
		"a limit of no name": {
			limit("everything", Limit{1, time.Second}),
			`"everything" is not one of login, register`,
		},
		"a limit of nothing":     {limit("login", Limit{0, time.Second}), "auth.limits.login: 0 requests"},
		"a limit without an end": {limit("login", Limit{1001, time.Second}), "1 to 1000"},
		"a window too short":     {limit("login", Limit{1, time.Second - 1}), "1s to 24h0m0s"},
		"a window too long":      {limit("login", Limit{1, 24*time.Hour + 1}), "1s to 24h0m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := withAccounts()
			tc.change(&cfg)
			data, err := json.Marshal(cfg)
			if err != nil {
				t.Fatal(err)
			}
			_, err = DecodeTenant(data)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "topsecret") {
				t.Errorf("got %v, want it to say %q and no secret", err, tc.want)
			}
		})
	}
	all := withAccounts()
	for _, name := range LimitNames() {
		all.Auth.Limits[name] = Limit{MinLimitRequests, MaxLimitWindow}
	}
	if err := all.Auth.Check(); err != nil {
		t.Errorf("every limit there is: %v", err)
	}
}

func TestCheckOrigin(t *testing.T) {
	for origin, good := range map[string]bool{
		"https://acme.example":                true,
		"https://acme.example:8443":           true,
		"https://203.0.113.7":                 true,
		"http://localhost":                    true,
		"http://localhost:5173":               true,
		"https://localhost":                   true,
		"https://acme.example:65535":          true,
		"":                                    false,
		"*":                                   false,
		"null":                                false,
		"acme.example":                        false,
		"http://acme.example":                 false,
		"http://localhost.evil.example":       false,
		"http://localhost@evil.example":       false,
		"https://":                            false,
		"https://acme.example/":               false,
		"https://acme.example/a":              false,
		"https://acme.example?a":              false,
		"https://acme.example#a":              false,
		"https://a@acme.example":              false,
		"https://Acme.example":                false,
		"HTTPS://acme.example":                false,
		"https://acme.example:443":            false,
		"http://localhost:80":                 false,
		"https://acme.example:":               false,
		"https://acme.example:08443":          false,
		"https://acme.example:65536":          false,
		"https://acme.example:99999":          false,
		"https://acme.example.":               false,
		"https://*.acme.example":              false,
		"https://acme.example\n":              false,
		"\thttps://acme.example":              false,
		"https://[::1]":                       false,
		"ftp://acme.example":                  false,
		"https://" + strings.Repeat("a", 300): false,
	} {
		if err := checkOrigin(origin); (err == nil) != good {
			t.Errorf("%q: %v, want good %v", origin, err, good)
		}
	}
}

func TestByHost(t *testing.T) {
	claims := func(id string, hosts ...string) *Tenant { return &Tenant{ID: id, Auth: &Auth{Hosts: hosts}} }
	one := claims("acme/support", "voice.acme.example", "shared.example", "last.acme.example")
	two := claims("globex/sales", "shared.example", "voice.globex.example")
	three := claims("initech/x", "shared.example")
	none := &Tenant{ID: "acme/sales"}
	snapshot := NewSnapshot(one, two, three, none, claims("acme/twice", "twice.example", "twice.example"))
	for host, want := range map[string]string{
		"voice.acme.example":   "acme/support",
		"last.acme.example":    "acme/support",
		"voice.globex.example": "globex/sales",
		"twice.example":        "acme/twice",
		"shared.example":       "",
		"other.example":        "",
		"":                     "",
		"acme.example":         "",
	} {
		got, ok := snapshot.ByHost(host)
		if ok != (want != "") || ok != (got != nil) || (ok && got.ID != want) {
			t.Errorf("%q is %v, %v; want %q", host, got, ok, want)
		}
	}
	// The others' claims gone, the name is whose it was.
	if got, ok := NewSnapshot(one, none).ByHost("shared.example"); !ok || got != one {
		t.Errorf("claimed by one alone: %v, %v", got, ok)
	}
}

func TestDigestOfAccounts(t *testing.T) {
	first := withAccounts().Digest()
	if again := withAccounts().Digest(); again != first || len(first) != 32 {
		t.Errorf("digests %q and %q of one config", first, again)
	}
	seen := map[string]string{first: "as it is"}
	for name, change := range map[string]func(*Tenant){
		"registration": func(t *Tenant) { t.Auth.OpenRegistration = false },
		"a limit":      func(t *Tenant) { t.Auth.Limits["api"] = Limit{999, time.Hour} },
		"key id":       func(t *Tenant) { t.Storage.AccessKeyID = "another" },
		"key":          func(t *Tenant) { t.Storage.SecretAccessKey = "another" },
		"keys swapped": func(t *Tenant) {
			t.Storage.AccessKeyID, t.Storage.SecretAccessKey = t.Storage.SecretAccessKey, t.Storage.AccessKeyID
		},
		"bucket": func(t *Tenant) { t.Storage.Bucket = "c" },
		"no accounts": func(t *Tenant) {
			t.Auth = nil
			t.Storage = nil
		},
	} {
		cfg := withAccounts()
		change(&cfg)
		digest := cfg.Digest()
		if other, ok := seen[digest]; ok {
			t.Errorf("%s has the digest of %s", name, other)
		}
		seen[digest] = name
	}
	data, err := json.Marshal(withAccounts().Storage.digested("acme/support"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []secret.Sensitive{withAccounts().Storage.AccessKeyID, withAccounts().Storage.SecretAccessKey} {
		if bytes.Contains(data, encoded(s)) || bytes.Contains(data, []byte(s.Reveal())) {
			t.Errorf("the secret %q goes into the digest as it is: %s", s.Reveal(), data)
		}
	}
	if printed := fmt.Sprintf("%+v %#v", withAccounts().Storage, *withAccounts().Storage); strings.Contains(
		printed, "topsecret",
	) {
		t.Errorf("printed: %s", printed)
	}
}
