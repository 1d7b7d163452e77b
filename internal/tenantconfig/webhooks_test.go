package tenantconfig

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/secret"
)

// full returns a config with every verifier, and secrets that are not text.
func full() Tenant {
	t := sample()
	t.Webhooks = &Webhooks{
		RequireAll: true,
		Signature: &Signature{
			Scheme:          SchemeHMACSHA256,
			Encoding:        EncodingHex,
			Header:          "X-Sig",
			Prefix:          "v1=",
			SignedContent:   SignedTimestampAndBody,
			TimestampHeader: "X-Time",
			Tolerance:       time.Minute,
			Secrets:         []secret.Sensitive{"topsecret signing", "\xff\xfe\x00topsecret\x80bytes"},
		},
		Standard: &StandardWebhooks{
			Tolerance: time.Hour,
			Secrets:   []secret.Sensitive{"\x80\x81topsecret standard"},
		},
		Token:        &Token{Query: "key", Secrets: []secret.Sensitive{"topsecret-token-of-acme"}},
		Basic:        &BasicAuth{Users: []User{{"a", "topsecret first"}, {"b", "topsecret second"}}},
		AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32")},
	}
	return t
}

var ranges = cmpopts.EquateComparable(netip.Prefix{})

func TestRoundTripOfEveryVerifier(t *testing.T) {
	data, err := EncodeTenant(full())
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeTenant(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full(), *got, ranges); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	without := sample()
	without.Webhooks = nil
	data, _ = EncodeTenant(without)
	if got, err := DecodeTenant(data); err != nil || got.Webhooks.Configured() {
		t.Errorf("a tenant without verifiers: %+v, %v", got, err)
	}
}

func TestDecodeRefusesWebhooks(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Tenant)
		want   string
	}{
		"freshness of nothing": {func(t *Tenant) { t.Freshness = 0 }, "freshness 0s"},
		"freshness too short":  {func(t *Tenant) { t.Freshness = minFreshness - 1 }, "between 5m0s and 720h0m0s"},
		"freshness too long":   {func(t *Tenant) { t.Freshness = maxFreshness + 1 }, "between 5m0s and 720h0m0s"},
		"no verifier":          {func(t *Tenant) { t.Webhooks = &Webhooks{} }, "without a verifier"},
		"no verifier, all of them": {
			func(t *Tenant) { t.Webhooks = &Webhooks{RequireAll: true} },
			"without a verifier",
		},
		"scheme":              {func(t *Tenant) { t.Webhooks.Signature.Scheme = "HMACSHA512" }, "HMACSHA512"},
		"encoding":            {func(t *Tenant) { t.Webhooks.Signature.Encoding = "Base32" }, "Base32"},
		"content":             {func(t *Tenant) { t.Webhooks.Signature.SignedContent = "Header" }, `"Header"`},
		"no timestamp header": {func(t *Tenant) { t.Webhooks.Signature.TimestampHeader = "" }, "lacks its header"},
		"no tolerance":        {func(t *Tenant) { t.Webhooks.Signature.Tolerance = 0 }, "tolerance"},
		"short signing secret": {
			func(t *Tenant) { t.Webhooks.Signature.Secrets[1] = "topsecret short" },
			"signing secret 1 is shorter than 16",
		},
		"no signing secret": {func(t *Tenant) { t.Webhooks.Signature.Secrets = nil }, "0 of signing secret"},
		"too many": {
			func(t *Tenant) { t.Webhooks.Token.Secrets = make([]secret.Sensitive, MaxSecrets+1) },
			"may be 1 to 16",
		},
		"standard, no tolerance": {func(t *Tenant) { t.Webhooks.Standard.Tolerance = -1 }, "tolerance"},
		"standard, short": {
			func(t *Tenant) { t.Webhooks.Standard.Secrets[0] = "topsecret" },
			"Standard Webhooks secret 0 is shorter",
		},
		"standard, none": {func(t *Tenant) { t.Webhooks.Standard.Secrets = nil }, "0 of Standard"},
		"token, short": {
			func(t *Tenant) { t.Webhooks.Token.Secrets[0] = "topsecret" },
			"token 0 is shorter than 16",
		},
		"token, none":         {func(t *Tenant) { t.Webhooks.Token.Secrets = nil }, "0 of token"},
		"no users":            {func(t *Tenant) { t.Webhooks.Basic.Users = nil }, "0 users"},
		"too many users":      {func(t *Tenant) { t.Webhooks.Basic.Users = make([]User, MaxSecrets+1) }, "17 users"},
		"user without a name": {func(t *Tenant) { t.Webhooks.Basic.Users[1].Name = "" }, "user 1"},
		"short password": {
			func(t *Tenant) { t.Webhooks.Basic.Users[0].Password = "topsecret x" },
			"shorter than 12",
		},
		"too many ranges": {
			func(t *Tenant) { t.Webhooks.AllowedCIDRs = make([]netip.Prefix, maxCIDRs+1) },
			"more than 64",
		},
		"an invalid range": {func(t *Tenant) { t.Webhooks.AllowedCIDRs[0] = netip.Prefix{} }, "one of them is invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := full()
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
}

func TestDecodeStandardSecret(t *testing.T) {
	for name, tc := range map[string]struct{ in, want, wantErr string }{
		"good":            {"whsec_c2l4dGVlbiBieXRlcyBoZXJl", "sixteen bytes here", ""},
		"empty":           {"", "", "does not begin with whsec_"},
		"without prefix":  {"c2l4dGVlbiBieXRlcyBoZXJl", "", "does not begin with whsec_"},
		"prefix alone":    {"whsec_", "", ""},
		"no base64":       {"whsec_topsecret!", "", "no base64"},
		"without padding": {"whsec_c2l4dGVlbiBieXRlcw", "", "no base64"},
		"of URLs":         {"whsec_--__c2l4dGVlbiBieXRlcw==", "", "no base64"},
		"line break":      {"whsec_c2l4dGVlbiBieXRlcyBoZXJl\n", "", "no base64"},
		"asymmetric":      {"whsk_c2l4dGVlbiBieXRlcyBoZXJl", "", "does not begin with whsec_"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := DecodeStandardSecret(tc.in)
			if got.Reveal() != tc.want || (err == nil) != (tc.wantErr == "") ||
				(err != nil && !strings.Contains(err.Error(), tc.wantErr)) {
				t.Errorf("%q, %v; want %q, %q", got.Reveal(), err, tc.want, tc.wantErr)
			}
			if err != nil && strings.Contains(err.Error(), "topsecret") {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}

// TestDigest changes one thing at a time: the digest changes with each, and the config that it was made of with none.
func TestDigest(t *testing.T) {
	same := full().Digest()
	if same != full().Digest() || len(same) != 32 {
		t.Errorf("digests of equal configs: %s, %s", same, full().Digest())
	}
	for name, change := range map[string]func(*Tenant){
		"id":            func(t *Tenant) { t.ID = "acme/other" },
		"freshness":     func(t *Tenant) { t.Freshness++ },
		"no verifiers":  func(t *Tenant) { t.Webhooks = nil },
		"one is enough": func(t *Tenant) { t.Webhooks.RequireAll = false },
		"signature":     func(t *Tenant) { t.Webhooks.Signature = nil },
		"header":        func(t *Tenant) { t.Webhooks.Signature.Header = "X-Other" },
		"a signing secret": func(t *Tenant) {
			t.Webhooks.Signature.Secrets[1] = "\xff\xfe\x00topsecret\x80bytez"
		},
		"a byte that is not text": func(t *Tenant) {
			t.Webhooks.Signature.Secrets[1] = "\xff\xfd\x00topsecret\x80bytes"
		},
		"signing secrets turned": func(t *Tenant) {
			s := t.Webhooks.Signature.Secrets
			s[0], s[1] = s[1], s[0]
		},
		"a signing secret less": func(t *Tenant) { t.Webhooks.Signature.Secrets = t.Webhooks.Signature.Secrets[:1] },
		"a standard secret": func(t *Tenant) {
			t.Webhooks.Standard.Secrets[0] = "another one of Standard Webhooks"
		},
		"a token":             func(t *Tenant) { t.Webhooks.Token.Secrets[0] = "another-token-of-acme" },
		"a token's parameter": func(t *Tenant) { t.Webhooks.Token.Query = "token" },
		"first password":      func(t *Tenant) { t.Webhooks.Basic.Users[0].Password = "another password" },
		"second password":     func(t *Tenant) { t.Webhooks.Basic.Users[1].Password = "another password" },
		"passwords turned": func(t *Tenant) {
			u := t.Webhooks.Basic.Users
			u[0].Password, u[1].Password = u[1].Password, u[0].Password
		},
		"passwords joined in another way": func(t *Tenant) {
			t.Webhooks.Basic.Users[0].Password = "topsecret firstt"
			t.Webhooks.Basic.Users[1].Password = "opsecret second"
		},
		"a user":  func(t *Tenant) { t.Webhooks.Basic.Users[1].Name = "c" },
		"a range": func(t *Tenant) { t.Webhooks.AllowedCIDRs = t.Webhooks.AllowedCIDRs[:1] },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := full()
			change(&cfg)
			changed := full()
			change(&changed)
			if cfg.Digest() == same {
				t.Error("the digest is the same")
			}
			if diff := cmp.Diff(changed, cfg, ranges); diff != "" {
				t.Errorf("Digest changed the config (-before +after):\n%s", diff)
			}
		})
	}
}

// TestDigestHoldsNoSecret looks at what the digest is made of.
func TestDigestHoldsNoSecret(t *testing.T) {
	data, err := json.Marshal(full().Webhooks.digested("acme/support"))
	if err != nil {
		t.Fatal(err)
	}
	webhooks := full().Webhooks
	secrets := append(
		append(append([]secret.Sensitive{}, webhooks.Signature.Secrets...), webhooks.Standard.Secrets...),
		webhooks.Token.Secrets...)
	for _, u := range webhooks.Basic.Users {
		secrets = append(secrets, u.Password)
	}
	for _, s := range secrets {
		if bytes.Contains(data, encoded(s)) || bytes.Contains(data, []byte(s.Reveal())) {
			t.Errorf("the secret %q is in %s", s.Reveal(), data)
		}
	}
	empty := &BasicAuth{}
	if empty.digested("x") != empty {
		t.Error("users of nothing have a digest")
	}
}

// encoded is a secret as JSON would hold it.
func encoded(s secret.Sensitive) []byte {
	b, _ := s.MarshalText()
	return b
}
