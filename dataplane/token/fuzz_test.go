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

// FuzzCheck verifies that a strict decoder also accepts each accepted token, and reads the same claims.
func FuzzCheck(f *testing.F) {
	forge := newForge(f)
	good := forge.good()
	f.Add(good)
	f.Add(forge.with("crit", []string{"exp"}))
	f.Add(forge.with("alg", "none"))
	f.Add(forge.claiming("exp", 1))
	f.Add(looseBits(good))
	f.Add(good + "\n")
	f.Add(good[:len(good)-1])
	f.Add("..")
	f.Add("e30.e30.AAAA")
	public := forge.private.Public().(ed25519.PublicKey)
	f.Fuzz(func(t *testing.T, raw string) {
		claims, err := forge.r.Check(raw)
		if err != nil {
			if r := reason(err); len(r) > 20 {
				t.Fatalf("refused as %q", r)
			}
			return
		}
		body, err := strictly(raw, public, forge.kid)
		if err != nil {
			t.Fatalf("let in: %v", err)
		}
		if body["sub"] != claims.UserID || body["tenant"] != claims.Tenant || body["sid"] != claims.SessionID ||
			body["role"] != claims.Role ||
			body["iss"] != issuer ||
			body["aud"] != audience {
			t.Fatalf("%v was read as %+v", body, claims)
		}
	})
}

// FuzzSigned verifies that an accepted token has the required values and no name twice, for any header and claims
// signed with our key.
func FuzzSigned(f *testing.F) {
	forge := newForge(f)
	f.Add(forge.header(nil), forge.payload(nil))
	f.Add(forge.header(map[string]any{"b64": false}), forge.payload(map[string]any{"exp": 1e300}))
	f.Add(forge.header(nil), strings.Replace(forge.payload(nil), "{", `{"tenant":"globex/sales",`, 1))
	f.Add(
		forge.header(nil),
		strings.Replace(forge.payload(nil), "{", `{"Tenant":"globex/sales","\u0074enant":"globex/sales",`, 1),
	)
	f.Add(strings.Replace(forge.header(nil), "{", ` { `, 1), forge.payload(map[string]any{"iat": 0}))
	f.Fuzz(func(t *testing.T, header, payload string) {
		raw := forge.sign(header, payload)
		claims, err := forge.r.Check(raw)
		if err != nil {
			return
		}
		body, err := strictly(raw, forge.private.Public().(ed25519.PublicKey), forge.kid)
		if err != nil {
			t.Fatalf("let in: %v", err)
		}
		now := forge.r.clock.now()
		if claims.check() != nil || !claims.ExpiresAt.After(now) || claims.IssuedAt.After(now.Add(Skew)) ||
			body["iss"] != issuer ||
			body["aud"] != audience {
			t.Fatalf("%+v of %v", claims, body)
		}
		if body["tenant"] != claims.Tenant || body["sub"] != claims.UserID || body["sid"] != claims.SessionID {
			t.Fatalf("%v was read as %+v", body, claims)
		}
	})
}

// FuzzSeconds verifies that a parsed time is written back as the same time, and is within its bounds.
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
