package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func unb64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// forge writes tokens with the standard library alone, as an attacker with the key might.
type forge struct {
	r       *service
	private ed25519.PrivateKey
	kid     string
	body    map[string]any // a good token's
}

func newForge(t testing.TB) *forge {
	t.Helper()
	rig := newService(t)
	k := rig.ring.Load().Keys[0]
	at := rig.clock.now().Unix()
	return &forge{
		r:       rig,
		private: k.Private(),
		kid:     k.ID,
		body: map[string]any{
			"iss":    issuer,
			"aud":    audience,
			"sub":    user1,
			"sid":    session1,
			"tenant": acme,
			"tuid":   "u",
			"role":   "agent",
			"jti":    "j",
			"iat":    at,
			"nbf":    at,
			"exp":    at + 600,
		},
	}
}

func (f *forge) header(change map[string]any) string {
	return object(map[string]any{"alg": "EdDSA", "typ": "at+jwt", "kid": f.kid}, change)
}

func (f *forge) payload(change map[string]any) string { return object(f.body, change) }

// object is JSON of what is there with the changes; a nil leaves a member out.
func object(fields, change map[string]any) string {
	all := map[string]any{}
	for _, m := range []map[string]any{fields, change} {
		for k, v := range m {
			if all[k] = v; v == nil {
				delete(all, k)
			}
		}
	}
	data, _ := json.Marshal(all)
	return string(data)
}

// sign is a token of any header and payload.
func (f *forge) sign(header, payload string) string {
	in := b64([]byte(header)) + "." + b64([]byte(payload))
	return in + "." + b64(ed25519.Sign(f.private, []byte(in)))
}

// good is one that must get through, or no test of what does not would say anything.
func (f *forge) good() string { return f.sign(f.header(nil), f.payload(nil)) }

// with is a good token whose header is changed.
func (f *forge) with(key string, value any) string {
	return f.sign(f.header(map[string]any{key: value}), f.payload(nil))
}

// claiming is a good token whose claims are changed.
func (f *forge) claiming(key string, value any) string {
	return f.sign(f.header(nil), f.payload(map[string]any{key: value}))
}

// resigned is a good token with another signature.
func (f *forge) resigned(change func([]byte) []byte) string {
	good := f.good()
	i := strings.LastIndexByte(good, '.')
	sig, _ := base64.RawURLEncoding.DecodeString(good[i+1:])
	return good[:i+1] + b64(change(sig))
}

// attack is a token that must not get through.
type attack struct {
	token string
	want  Reason
}

func (f *forge) run(t *testing.T, attacks map[string]attack) {
	t.Helper()
	for name, a := range attacks {
		t.Run(name, func(t *testing.T) {
			for range 2 { // nothing of it is remembered
				claims, err := f.r.Check(a.token)
				if err == nil || claims != nil || !errors.Is(err, ErrInvalid) {
					t.Fatalf("claims %v, error %v", claims, err)
				}
				if got := reason(err); got != a.want {
					t.Errorf("refused as %s, want %s", got, a.want)
				}
				if len(a.token) > 40 && strings.Contains(err.Error(), a.token[:40]) {
					t.Error("the error quotes the token")
				}
			}
		})
	}
	if _, err := f.r.Check(f.good()); err != nil {
		t.Errorf("a good token: %v", err)
	}
	if f.r.cache.len() != 1 {
		t.Errorf("%d tokens are remembered, want the good one", f.r.cache.len())
	}
}

func TestAlgorithmAttacks(t *testing.T) {
	forge := newForge(t)
	public := forge.private.Public().(ed25519.PublicKey)
	in := func(alg string) string {
		return b64([]byte(forge.header(map[string]any{"alg": alg}))) + "." + b64([]byte(forge.payload(nil)))
	}
	mac := func(key []byte) string {
		hash := hmac.New(sha256.New, key)
		hash.Write([]byte(in("HS256")))
		return in("HS256") + "." + b64(hash.Sum(nil))
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign := func(alg jose.SignatureAlgorithm, key any) string {
		signer, err := jose.NewSigner(jose.SigningKey{
			Algorithm: alg,
			Key:       jose.JSONWebKey{Key: key, KeyID: forge.kid},
		}, (&jose.SignerOptions{}).WithType(tokenType))
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign([]byte(forge.payload(nil)))
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := signed.CompactSerialize()
		return raw
	}
	jwk, _ := json.Marshal(jose.JSONWebKey{Key: public, KeyID: forge.kid})
	attacks := map[string]attack{
		"HS256 with the public key":           {mac(public), reasonAlgorithm},
		"HS256 with the public key in base64": {mac([]byte(b64(public))), reasonAlgorithm},
		"HS256 with the public key as JWK":    {mac(jwk), reasonAlgorithm},
		"HS256 with no key":                   {mac(nil), reasonAlgorithm},
		"RS256":                               {foreign(jose.RS256, rsaKey), reasonAlgorithm},
		"PS256":                               {foreign(jose.PS256, rsaKey), reasonAlgorithm},
		"ES256":                               {foreign(jose.ES256, ecKey), reasonAlgorithm},
		"no algorithm":                        {forge.with("alg", nil), reasonAlgorithm},
		"a list as the algorithm":             {forge.with("alg", []string{"EdDSA"}), reasonAlgorithm},
		"an algorithm that is null": {
			forge.sign(strings.Replace(forge.header(nil), `"EdDSA"`, "null", 1), forge.payload(nil)),
			reasonAlgorithm,
		},
		"EdDSA in other letters":     {forge.with("alg", "eddsa"), reasonAlgorithm},
		"Ed25519, by its newer name": {forge.with("alg", "Ed25519"), reasonAlgorithm},
		"twice, and none at the end": {
			forge.sign(strings.Replace(forge.header(nil), "{", `{"alg":"none",`, 1), forge.payload(nil)),
			reasonMalformed,
		},
		"EdDSA twice": {
			forge.sign(strings.Replace(forge.header(nil), "{", `{"alg":"EdDSA",`, 1), forge.payload(nil)),
			reasonMalformed,
		},
		"Alg and alg": {
			forge.sign(strings.Replace(forge.header(nil), "{", `{"Alg":"none",`, 1), forge.payload(nil)),
			reasonMalformed,
		},
		"an encrypted token": {b64([]byte(`{"alg":"dir","enc":"A128GCM"}`)) + "..a.b.c", reasonMalformed},
		"none, with the signature of the other": {
			in("none") + forge.good()[strings.LastIndexByte(forge.good(), '.'):],
			reasonAlgorithm,
		},
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE", "none ", "", "n\u006fne", "null"} {
		attacks[fmt.Sprintf("%q without a signature", none)] = attack{
			in(none) + ".",
			reasonMalformed,
		} // a signature is never empty
		attacks[fmt.Sprintf("%q with some", none)] = attack{in(none) + ".AAAA", reasonAlgorithm}
	}
	forge.run(t, attacks)
}

func TestHeaderAttacks(t *testing.T) {
	forge := newForge(t)
	attacker, private, _ := ed25519.GenerateKey(rand.Reader)
	own := *forge
	own.private = private // an attacker without a key of ours names another's
	bring := func(change map[string]any) string { return own.sign(forge.header(change), forge.payload(nil)) }
	attacks := map[string]attack{
		"jku": {bring(map[string]any{"jku": "https://evil.example/jwks.json"}), reasonMalformed},
		"x5u": {bring(map[string]any{"x5u": "https://evil.example/x.pem"}), reasonMalformed},
		"jwk": {bring(map[string]any{"jwk": map[string]any{
			"kty": "OKP",
			"crv": "Ed25519",
			"x":   b64(attacker),
		}}), reasonMalformed},
		"x5c":                 {bring(map[string]any{"x5c": []string{"AAAA"}}), reasonMalformed},
		"another's key":       {bring(nil), reasonSignature},
		"a jku, signed by us": {forge.with("jku", "https://evil.example/jwks.json"), reasonMalformed},
		"crit that we know":   {forge.with("crit", []string{"exp"}), reasonMalformed},
		"crit that is empty":  {forge.with("crit", []string{}), reasonMalformed},
		"crit that nobody knows": {forge.sign(forge.header(map[string]any{
			"crit": []string{"x"},
			"x":    1,
		}), forge.payload(nil)), reasonMalformed},
		"b64=false": {forge.sign(forge.header(map[string]any{
			"b64":  false,
			"crit": []string{"b64"},
		}), forge.payload(nil)), reasonMalformed},
		"b64=false, as it is": {forge.unencoded(), reasonMalformed},
		"zip":                 {forge.with("zip", "DEF"), reasonMalformed},
		"a token within": {
			forge.sign(forge.header(map[string]any{"cty": "JWT"}), forge.good()),
			reasonMalformed,
		},
		"a token as the payload":  {forge.sign(forge.header(nil), forge.good()), reasonClaims},
		"no type":                 {forge.with("typ", nil), reasonType},
		"an ID token":             {forge.with("typ", "JWT"), reasonType},
		"a logout token":          {forge.with("typ", "logout+jwt"), reasonType},
		"the type, spelled out":   {forge.with("typ", "application/at+jwt"), reasonType},
		"the type in other cases": {forge.with("typ", "AT+JWT"), reasonType},
		"no key":                  {forge.with("kid", nil), reasonUnknownKey},
		"a key that is a number":  {forge.with("kid", 1), reasonUnknownKey},
		"a key that is a list":    {forge.with("kid", []string{forge.kid}), reasonUnknownKey},
		"a header that is a list": {forge.sign(`["EdDSA"]`, forge.payload(nil)), reasonMalformed},
		"a header that is null":   {forge.sign(`null`, forge.payload(nil)), reasonAlgorithm},
		"two headers": {
			forge.sign(forge.header(nil)+forge.header(nil), forge.payload(nil)),
			reasonMalformed,
		},
		"a header cut off": {forge.sign(forge.header(nil)[:20], forge.payload(nil)), reasonMalformed},
		"a deep header": {
			forge.sign(strings.Repeat("[", 1000)+strings.Repeat("]", 1000), forge.payload(nil)),
			reasonMalformed,
		},
	}
	for name, kid := range map[string]string{
		"a path":       "../../../../dev/null",
		"a file":       "/etc/passwd",
		"SQL":          "' UNION SELECT 'secret' --",
		"a command":    "x|id",
		"nothing":      "",
		"a zero byte":  forge.kid + "\x00",
		"another case": strings.ToUpper(forge.kid),
		"a space":      forge.kid + " ",
		"very long":    strings.Repeat("k", 2500),
	} {
		attacks["the key: "+name] = attack{forge.with("kid", kid), reasonUnknownKey}
	}
	forge.run(t, attacks)
}

// unencoded is RFC 7797's form, whose payload stands there as it is.
func (f *forge) unencoded() string {
	h := b64([]byte(f.header(map[string]any{"b64": false, "crit": []string{"b64"}})))
	p := f.payload(nil)
	return h + "." + p + "." + b64(ed25519.Sign(f.private, []byte(h+"."+p)))
}

func TestClaimAttacks(t *testing.T) {
	forge := newForge(t)
	at := forge.r.clock.now().Unix()
	attacks := map[string]attack{
		"another issuer":          {forge.claiming("iss", "https://voice.example.evil"), reasonIssuer},
		"the issuer with a slash": {forge.claiming("iss", issuer+"/"), reasonIssuer},
		"no issuer":               {forge.claiming("iss", nil), reasonIssuer},
		"issuers":                 {forge.claiming("iss", []string{issuer}), reasonClaims},
		"another audience":        {forge.claiming("aud", "billing"), reasonAudience},
		"no audience":             {forge.claiming("aud", nil), reasonAudience},
		"audiences":               {forge.claiming("aud", []string{"billing", audience}), reasonClaims},
		"no tenant":               {forge.claiming("tenant", nil), reasonClaims},
		"no user":                 {forge.claiming("sub", nil), reasonClaims},
		"a user that is a number": {forge.claiming("sub", 1), reasonClaims},
		"a user that is null": {
			forge.sign(forge.header(nil), strings.Replace(forge.payload(nil), `"`+user1+`"`, "null", 1)),
			reasonClaims,
		},
		"no session":              {forge.claiming("sid", ""), reasonClaims},
		"no role":                 {forge.claiming("role", nil), reasonClaims},
		"no id":                   {forge.claiming("jti", nil), reasonClaims},
		"no end":                  {forge.claiming("exp", nil), reasonClaims},
		"an end that is text":     {forge.claiming("exp", fmt.Sprint(at+600)), reasonClaims},
		"an end with a fraction":  {forge.claiming("exp", float64(at)+600.5), reasonClaims},
		"an end with an exponent": {forge.claiming("exp", json.Number("1e10")), reasonClaims},
		"an end that overflows":   {forge.claiming("exp", json.Number("99999999999999999999")), reasonClaims},
		"the greatest end":        {forge.claiming("exp", json.Number("9223372036854775807")), reasonClaims},
		"an end below zero":       {forge.claiming("exp", -1), reasonClaims},
		"a long life":             {forge.claiming("exp", at+3601), reasonClaims},
		"expired": {forge.sign(forge.header(nil), forge.payload(map[string]any{
			"iat": at - 600,
			"exp": at,
		})), reasonExpired},
		"not yet":        {forge.claiming("nbf", at+31), reasonNotYetValid},
		"nbf below zero": {forge.claiming("nbf", -1), reasonClaims},
		"issued in the future": {forge.sign(forge.header(nil), forge.payload(map[string]any{
			"iat": at + 31,
			"exp": at + 600,
		})), reasonNotYetValid},
		"not issued":                   {forge.claiming("iat", nil), reasonClaims},
		"issued as text":               {forge.claiming("iat", "now"), reasonClaims},
		"issued as a number in quotes": {forge.claiming("iat", fmt.Sprint(at)), reasonClaims},
		"issued with an exponent":      {forge.claiming("iat", json.Number("1.7e9")), reasonClaims},
		"issued to the nanosecond": {
			forge.claiming("iat", json.Number(fmt.Sprintf("%d.0000001", at))),
			reasonClaims,
		},
		"issued before all time": {forge.claiming("iat", -1), reasonClaims},
		"no claims":              {forge.sign(forge.header(nil), "{}"), reasonClaims},
		"null":                   {forge.sign(forge.header(nil), "null"), reasonClaims},
		"a list":                 {forge.sign(forge.header(nil), "["+forge.payload(nil)+"]"), reasonClaims},
		"no JSON":                {forge.sign(forge.header(nil), "x"), reasonClaims},
		"two": {
			forge.sign(forge.header(nil), forge.payload(nil)+forge.payload(nil)),
			reasonClaims,
		},
		"deep": {
			forge.sign(
				forge.header(nil),
				strings.Replace(
					forge.payload(nil), "{", `{"x":`+strings.Repeat("[", 700)+strings.Repeat("]", 700)+`,"x":1,`, 1,
				),
			),
			reasonClaims,
		},
	}
	for claim := range forge.body {
		value, _ := json.Marshal(forge.body[claim])
		double := strings.Replace(forge.payload(nil), "{", fmt.Sprintf(`{"%s":%s,`, claim, value), 1)
		attacks[claim+" twice"] = attack{forge.sign(forge.header(nil), double), reasonClaims}
	}
	forge.run(t, attacks)
	// Names in other cases are other names, and what a newer release adds is let be.
	more := strings.Replace(
		forge.payload(nil), "{", `{"TENANT":"globex/sales","Tenant":"globex/sales","new":{"a":[1]},`, 1,
	)
	if claims, err := forge.r.Check(forge.sign(forge.header(nil), more)); err != nil || claims.Tenant != acme {
		t.Errorf("%v, %v", claims, err)
	}
}

func TestFormAttacks(t *testing.T) {
	forge := newForge(t)
	good := forge.good()
	p := strings.Split(good, ".")
	full := func() string {
		s, err := jose.ParseSignedCompact(good, []jose.SignatureAlgorithm{jose.EdDSA})
		if err != nil {
			t.Fatal(err)
		}
		return s.FullSerialize()
	}
	attacks := map[string]attack{
		"nothing":            {"", reasonMalformed},
		"dots":               {"..", reasonMalformed},
		"a megabyte":         {strings.Repeat("A", 1<<20), reasonMalformed},
		"a megabyte of dots": {strings.Repeat(".", 1<<20), reasonMalformed},
		"a long token":       {p[0] + "." + strings.Repeat("A", maxToken) + "." + p[2], reasonMalformed},
		"many dots":          {strings.Repeat(".", maxToken), reasonMalformed},
		"as JSON":            {full(), reasonMalformed},
		"as JSON with signatures": {
			fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, p[1], p[0], p[2]),
			reasonMalformed,
		},
		"two parts":                   {p[0] + "." + p[1], reasonMalformed},
		"four parts":                  {good + ".", reasonMalformed},
		"no header":                   {"." + p[1] + "." + p[2], reasonMalformed},
		"no payload":                  {p[0] + ".." + p[2], reasonMalformed},
		"no signature":                {p[0] + "." + p[1] + ".", reasonMalformed},
		"a space before":              {" " + good, reasonMalformed},
		"a space behind":              {good + " ", reasonMalformed},
		"a line end behind":           {good + "\n", reasonMalformed},
		"a line end within":           {p[0] + ".\r\n" + p[1] + "." + p[2], reasonMalformed},
		"a line end in the signature": {p[0] + "." + p[1] + "." + p[2][:10] + "\n" + p[2][10:], reasonMalformed},
		"a tab within":                {p[0] + ".\t" + p[1] + "." + p[2], reasonMalformed},
		"padding":                     {good + "==", reasonMalformed},
		"padding of the header":       {p[0] + "=." + p[1] + "." + p[2], reasonMalformed},
		"the other alphabet":          {forge.standardAlphabet(t), reasonMalformed},
		"a zero byte":                 {good + "\x00", reasonMalformed},
		"no UTF-8":                    {p[0] + "." + p[1] + ".\xff\xfe" + p[2], reasonMalformed},
		"fullwidth dots":              {strings.ReplaceAll(good, ".", "．"), reasonMalformed},
		"bits that count for nothing": {looseBits(good), reasonMalformed},
		"Bearer before it":            {"Bearer " + good, reasonMalformed},
		"another's payload": {
			p[0] + "." + b64([]byte(forge.payload(map[string]any{"role": "admin"}))) + "." + p[2],
			reasonSignature,
		},
		"another's header": {
			b64([]byte(strings.Replace(forge.header(nil), `,`, `, `, 1))) + "." + p[1] + "." + p[2],
			reasonSignature,
		},
		"a payload of a zero-width kind": {p[0] + "." + p[1] + "\u200b." + p[2], reasonMalformed},
	}
	for n := range len(good) - 1 {
		attacks[fmt.Sprintf("cut at %d", n)] = attack{good[:n], forge.cut(t, good[:n])}
	}
	forge.run(t, attacks)
}

// cut is why a token that is cut off is refused: it has no three parts, or a part that is not whole, or not all of its signature.
func (f *forge) cut(t *testing.T, s string) Reason {
	t.Helper()
	parts := strings.Split(s, ".")
	if len(parts) != 3 || parts[2] == "" {
		return reasonMalformed
	}
	if _, err := base64.RawURLEncoding.Strict().DecodeString(parts[2]); err != nil {
		return reasonMalformed
	}
	return reasonSignature
}

// standardAlphabet is a good token in the alphabet of MIME, with a signature that shows the difference.
func (f *forge) standardAlphabet(t *testing.T) string {
	t.Helper()
	for i := range 1000 {
		raw := f.claiming("jti", fmt.Sprint(i))
		if other := strings.NewReplacer("-", "+", "_", "/").Replace(raw); other != raw {
			if _, err := f.r.verify(raw, f.r.keySet(), f.r.clock.now()); err != nil {
				t.Fatal(err)
			}
			return other
		}
	}
	t.Fatal("none of a thousand signatures has one of the two characters")
	return ""
}

// looseBits changes bits behind a signature's last byte: a lax decoder reads the same 64 bytes.
func looseBits(raw string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, raw[len(raw)-1])
	return raw[:len(raw)-1] + string(alphabet[last^1])
}

// TestSignatureAttacks verifies that forged Ed25519 signatures are rejected. They have the forms of Wycheproof, made
// from a good signature (R, S).
func TestSignatureAttacks(t *testing.T) {
	forge := newForge(t)
	// The order of the group, 2^252 + 27742317777372353535851937790883648493.
	order, _ := new(
		big.Int,
	).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	shifted := func(times int64) func([]byte) []byte {
		return func(sig []byte) []byte {
			s := new(big.Int).SetBytes(reversed(sig[32:]))
			s.Add(s, new(big.Int).Mul(order, big.NewInt(times)))
			return append(bytes.Clone(sig[:32]), reversed(s.FillBytes(make([]byte, 32)))...)
		}
	}
	identity := append([]byte{1}, make([]byte, 31)...)
	ones := bytes.Repeat([]byte{0xff}, 32)
	attacks := map[string]attack{
		"all zero": {forge.resigned(func([]byte) []byte { return make([]byte, 64) }), reasonSignature},
		"all one": {
			forge.resigned(func([]byte) []byte { return bytes.Repeat([]byte{0xff}, 64) }),
			reasonSignature,
		},
		"R the identity, S zero": {
			forge.resigned(func([]byte) []byte { return append(bytes.Clone(identity), make([]byte, 32)...) }),
			reasonSignature,
		},
		"R no point": {
			forge.resigned(func(s []byte) []byte { return append(bytes.Clone(ones), s[32:]...) }),
			reasonSignature,
		},
		"R with its sign turned": {forge.resigned(func(s []byte) []byte { s[31] ^= 0x80; return s }), reasonSignature},
		"S all one": {
			forge.resigned(func(s []byte) []byte { return append(s[:32], ones...) }),
			reasonSignature,
		},
		"S the order": {
			forge.resigned(
				func(s []byte) []byte { return append(s[:32], reversed(order.FillBytes(make([]byte, 32)))...) },
			),
			reasonSignature,
		},
		"R and S changed over": {
			forge.resigned(func(s []byte) []byte { return append(bytes.Clone(s[32:]), s[:32]...) }),
			reasonSignature,
		},
		"cut":           {forge.resigned(func(s []byte) []byte { return s[:63] }), reasonSignature},
		"R alone":       {forge.resigned(func(s []byte) []byte { return s[:32] }), reasonSignature},
		"longer":        {forge.resigned(func(s []byte) []byte { return append(s, 0) }), reasonSignature},
		"twice":         {forge.resigned(func(s []byte) []byte { return append(s, s...) }), reasonSignature},
		"a zero before": {forge.resigned(func(s []byte) []byte { return append([]byte{0}, s...) }), reasonSignature},
		"in hex": {
			forge.resigned(func(s []byte) []byte { return fmt.Appendf(nil, "%x", s) }),
			reasonSignature,
		},
		"by Ed25519ph": {forge.prehashed(t), reasonSignature},
		"of the payload alone": {
			forge.resigned(func([]byte) []byte { return ed25519.Sign(forge.private, []byte(forge.payload(nil))) }),
			reasonSignature,
		},
	}
	for times := range int64(14) {
		attacks[fmt.Sprintf("S and %d times the order", times+1)] = attack{
			forge.resigned(shifted(times + 1)),
			reasonSignature,
		}
	}
	for bit := range 512 {
		attacks[fmt.Sprintf("bit %d flipped", bit)] = attack{
			forge.resigned(func(s []byte) []byte { s[bit/8] ^= 1 << (bit % 8); return s }),
			reasonSignature,
		}
	}
	forge.run(t, attacks)
}

func reversed(b []byte) []byte {
	out := make([]byte, len(b))
	for i, v := range b {
		out[len(b)-1-i] = v
	}
	return out
}

func (f *forge) prehashed(t *testing.T) string {
	t.Helper()
	sig, err := f.private.Sign(nil, make([]byte, 64), &ed25519.Options{Hash: 7}) // crypto.SHA512 of something
	if err != nil {
		t.Fatal(err)
	}
	return f.resigned(func([]byte) []byte { return sig })
}

// TestRFC8037 checks that the example of the RFC verifies by its key, and is refused as an access token.
func TestRFC8037(t *testing.T) {
	const raw = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc." +
		"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
	public := unb64(t, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	body, err := verifySignature(raw, key{public: public})
	if err != nil || string(body) != "Example of Ed25519 signing" {
		t.Errorf("%q, %v", body, err)
	}
	newService(t).wantReason(t, raw, reasonType)
}

// TestOfAnotherTenant checks that a token is for the tenant that it names. The server of a tenant compares.
func TestOfAnotherTenant(t *testing.T) {
	forge := newForge(t)
	claims, err := forge.r.Check(forge.claiming("tenant", globex))
	if err != nil || claims.Tenant != globex || claims.TenantUID != "u" {
		t.Errorf("%+v, %v", claims, err)
	}
}
