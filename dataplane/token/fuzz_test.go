package token

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// strictly tells what a token says by the standard library alone: three parts of canonical base64, an Ed25519 signature over the first
// two, and the values that a token of the forge's has.
func strictly(raw string, public ed25519.PublicKey, kid string) (map[string]any, error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("%d parts", len(parts))
	}
	var decoded [3][]byte
	for i, p := range parts {
		b, err := base64.RawURLEncoding.DecodeString(p)
		if err != nil || base64.RawURLEncoding.EncodeToString(b) != p {
			return nil, fmt.Errorf("part %d is not canonical", i)
		}
		decoded[i] = b
	}
	if len(decoded[2]) != ed25519.SignatureSize || !ed25519.Verify(public, []byte(parts[0]+"."+parts[1]), decoded[2]) {
		return nil, fmt.Errorf("the signature")
	}
	var header, body map[string]any
	if err := json.Unmarshal(decoded[0], &header); err != nil {
		return nil, err
	}
	if header["alg"] != "EdDSA" || header["typ"] != "at+jwt" || header["kid"] != kid || len(header) != 3 {
		return nil, fmt.Errorf("header %v", header)
	}
	return body, json.Unmarshal(decoded[1], &body)
}

// FuzzCheck : a token that is let in is one by the strictest reading, too, and says the same.
func FuzzCheck(f *testing.F) {
	g := newForge(f)
	good := g.good()
	f.Add(good)
	f.Add(g.with("crit", []string{"exp"}))
	f.Add(g.with("alg", "none"))
	f.Add(g.claiming("exp", 1))
	f.Add(looseBits(good))
	f.Add(good + "\n")
	f.Add(good[:len(good)-1])
	f.Add("..")
	f.Add("e30.e30.AAAA")
	public := g.private.Public().(ed25519.PublicKey)
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := g.r.Check(raw)
		if err != nil {
			if r := reason(err); len(r) > 20 {
				t.Fatalf("refused as %q", r)
			}
			return
		}
		body, err := strictly(raw, public, g.kid)
		if err != nil {
			t.Fatalf("let in: %v", err)
		}
		if body["sub"] != c.UserID || body["tenant"] != c.Tenant || body["sid"] != c.SessionID || body["role"] != c.Role || body["iss"] != issuer || body["aud"] != audience {
			t.Fatalf("%v was read as %+v", body, c)
		}
	})
}

// FuzzSigned : whatever header and claims a key of ours signs, what is let in has the values that it must have, and no name twice.
func FuzzSigned(f *testing.F) {
	g := newForge(f)
	f.Add(g.header(nil), g.payload(nil))
	f.Add(g.header(map[string]any{"b64": false}), g.payload(map[string]any{"exp": 1e300}))
	f.Add(g.header(nil), strings.Replace(g.payload(nil), "{", `{"tenant":"globex/sales",`, 1))
	f.Add(g.header(nil), strings.Replace(g.payload(nil), "{", `{"Tenant":"globex/sales","\u0074enant":"globex/sales",`, 1))
	f.Add(strings.Replace(g.header(nil), "{", ` { `, 1), g.payload(map[string]any{"iat": 0}))
	f.Fuzz(func(t *testing.T, header, payload string) {
		raw := g.sign(header, payload)
		c, err := g.r.Check(raw)
		if err != nil {
			return
		}
		body, err := strictly(raw, g.private.Public().(ed25519.PublicKey), g.kid)
		if err != nil {
			t.Fatalf("let in: %v", err)
		}
		now := g.r.clock.now()
		if c.check() != nil || !c.ExpiresAt.After(now) || c.IssuedAt.After(now.Add(Skew)) || body["iss"] != issuer || body["aud"] != audience {
			t.Fatalf("%+v of %v", c, body)
		}
		if body["tenant"] != c.Tenant || body["sub"] != c.UserID || body["sid"] != c.SessionID {
			t.Fatalf("%v was read as %+v", body, c)
		}
	})
}

// FuzzSeconds : a time reads as it was written, and only what reads as one is taken.
func FuzzSeconds(f *testing.F) {
	for _, s := range []string{"0", "1700000000.000001", "1.", ".1", "-1", "1e3", "00", "1.0000000", "18446744073709551616", "+1", "1._1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, ok := parseSeconds(seconds(s))
		if !ok {
			return
		}
		again, ok := parseSeconds(formatSeconds(at))
		if !ok || !again.Equal(at) || at.Unix() < 0 || at.Unix() > maxSeconds {
			t.Fatalf("%q is %s, and then %s", s, at, again)
		}
	})
}
