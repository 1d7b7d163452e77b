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
		"HS256 with the public key":           {mac(public), Algorithm},
		"HS256 with the public key in base64": {mac([]byte(b64(public))), Algorithm},
		"HS256 with the public key as JWK":    {mac(jwk), Algorithm},
		"HS256 with no key":                   {mac(nil), Algorithm},
		"RS256":                               {foreign(jose.RS256, rsaKey), Algorithm},
		"PS256":                               {foreign(jose.PS256, rsaKey), Algorithm},
		"ES256":                               {foreign(jose.ES256, ecKey), Algorithm},
		"no algorithm":                        {forge.with("alg", nil), Algorithm},
		"a list as the algorithm":             {forge.with("alg", []string{"EdDSA"}), Algorithm},
		"an algorithm that is null": {
			forge.sign(strings.Replace(forge.header(nil), `"EdDSA"`, "null", 1), forge.payload(nil)),
			Algorithm,
		},
		"EdDSA in other letters":     {forge.with("alg", "eddsa"), Algorithm},
		"Ed25519, by its newer name": {forge.with("alg", "Ed25519"), Algorithm},
		"twice, and none at the end": {
			forge.sign(strings.Replace(forge.header(nil), "{", `{"alg":"none",`, 1), forge.payload(nil)),
			Malformed,
		},
		"EdDSA twice": {
			forge.sign(strings.Replace(forge.header(nil), "{", `{"alg":"EdDSA",`, 1), forge.payload(nil)),
			Malformed,
		},
		"Alg and alg": {
			forge.sign(strings.Replace(forge.header(nil), "{", `{"Alg":"none",`, 1), forge.payload(nil)),
			Malformed,
		},
		"an encrypted token": {b64([]byte(`{"alg":"dir","enc":"A128GCM"}`)) + "..a.b.c", Malformed},
		"none, with the signature of the other": {
			in("none") + forge.good()[strings.LastIndexByte(forge.good(), '.'):],
			Algorithm,
		},
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE", "none ", "", "n\u006fne", "null"} {
		attacks[fmt.Sprintf("%q without a signature", none)] = attack{
			in(none) + ".",
			Malformed,
		} // a signature is never empty
		attacks[fmt.Sprintf("%q with some", none)] = attack{in(none) + ".AAAA", Algorithm}
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
		"jku": {bring(map[string]any{"jku": "https://evil.example/jwks.json"}), Malformed},
		"x5u": {bring(map[string]any{"x5u": "https://evil.example/x.pem"}), Malformed},
		"jwk": {bring(map[string]any{"jwk": map[string]any{
			"kty": "OKP",
			"crv": "Ed25519",
			"x":   b64(attacker),
		}}), Malformed},
		"x5c":                 {bring(map[string]any{"x5c": []string{"AAAA"}}), Malformed},
		"another's key":       {bring(nil), Signature},
		"a jku, signed by us": {forge.with("jku", "https://evil.example/jwks.json"), Malformed},
		"crit that we know":   {forge.with("crit", []string{"exp"}), Malformed},
		"crit that is empty":  {forge.with("crit", []string{}), Malformed},
		"crit that nobody knows": {forge.sign(forge.header(map[string]any{
			"crit": []string{"x"},
			"x":    1,
		}), forge.payload(nil)), Malformed},
		"b64=false": {forge.sign(forge.header(map[string]any{
			"b64":  false,
			"crit": []string{"b64"},
		}), forge.payload(nil)), Malformed},
		"b64=false, as it is":     {forge.unencoded(), Malformed},
		"zip":                     {forge.with("zip", "DEF"), Malformed},
		"a token within":          {forge.sign(forge.header(map[string]any{"cty": "JWT"}), forge.good()), Malformed},
		"a token as the payload":  {forge.sign(forge.header(nil), forge.good()), BadClaims},
		"no type":                 {forge.with("typ", nil), Type},
		"an ID token":             {forge.with("typ", "JWT"), Type},
		"a logout token":          {forge.with("typ", "logout+jwt"), Type},
		"the type, spelled out":   {forge.with("typ", "application/at+jwt"), Type},
		"the type in other cases": {forge.with("typ", "AT+JWT"), Type},
		"no key":                  {forge.with("kid", nil), UnknownKey},
		"a key that is a number":  {forge.with("kid", 1), UnknownKey},
		"a key that is a list":    {forge.with("kid", []string{forge.kid}), UnknownKey},
		"a header that is a list": {forge.sign(`["EdDSA"]`, forge.payload(nil)), Malformed},
		"a header that is null":   {forge.sign(`null`, forge.payload(nil)), Algorithm},
		"two headers":             {forge.sign(forge.header(nil)+forge.header(nil), forge.payload(nil)), Malformed},
		"a header cut off":        {forge.sign(forge.header(nil)[:20], forge.payload(nil)), Malformed},
		"a deep header": {
			forge.sign(strings.Repeat("[", 1000)+strings.Repeat("]", 1000), forge.payload(nil)),
			Malformed,
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
		attacks["the key: "+name] = attack{forge.with("kid", kid), UnknownKey}
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
		"another issuer":          {forge.claiming("iss", "https://voice.example.evil"), Issuer},
		"the issuer with a slash": {forge.claiming("iss", issuer+"/"), Issuer},
		"no issuer":               {forge.claiming("iss", nil), Issuer},
		"issuers":                 {forge.claiming("iss", []string{issuer}), BadClaims},
		"another audience":        {forge.claiming("aud", "billing"), Audience},
		"no audience":             {forge.claiming("aud", nil), Audience},
		"audiences":               {forge.claiming("aud", []string{"billing", audience}), BadClaims},
		"no tenant":               {forge.claiming("tenant", nil), BadClaims},
		"no user":                 {forge.claiming("sub", nil), BadClaims},
		"a user that is a number": {forge.claiming("sub", 1), BadClaims},
		"a user that is null": {
			forge.sign(forge.header(nil), strings.Replace(forge.payload(nil), `"`+user1+`"`, "null", 1)),
			BadClaims,
		},
		"no session":              {forge.claiming("sid", ""), BadClaims},
		"no role":                 {forge.claiming("role", nil), BadClaims},
		"no id":                   {forge.claiming("jti", nil), BadClaims},
		"no end":                  {forge.claiming("exp", nil), BadClaims},
		"an end that is text":     {forge.claiming("exp", fmt.Sprint(at+600)), BadClaims},
		"an end with a fraction":  {forge.claiming("exp", float64(at)+600.5), BadClaims},
		"an end with an exponent": {forge.claiming("exp", json.Number("1e10")), BadClaims},
		"an end that overflows":   {forge.claiming("exp", json.Number("99999999999999999999")), BadClaims},
		"the greatest end":        {forge.claiming("exp", json.Number("9223372036854775807")), BadClaims},
		"an end below zero":       {forge.claiming("exp", -1), BadClaims},
		"a long life":             {forge.claiming("exp", at+3601), BadClaims},
		"expired": {forge.sign(forge.header(nil), forge.payload(map[string]any{
			"iat": at - 600,
			"exp": at,
		})), Expired},
		"not yet":        {forge.claiming("nbf", at+31), NotYetValid},
		"nbf below zero": {forge.claiming("nbf", -1), BadClaims},
		"issued in the future": {forge.sign(forge.header(nil), forge.payload(map[string]any{
			"iat": at + 31,
			"exp": at + 600,
		})), NotYetValid},
		"not issued":                   {forge.claiming("iat", nil), BadClaims},
		"issued as text":               {forge.claiming("iat", "now"), BadClaims},
		"issued as a number in quotes": {forge.claiming("iat", fmt.Sprint(at)), BadClaims},
		"issued with an exponent":      {forge.claiming("iat", json.Number("1.7e9")), BadClaims},
		"issued to the nanosecond":     {forge.claiming("iat", json.Number(fmt.Sprintf("%d.0000001", at))), BadClaims},
		"issued before all time":       {forge.claiming("iat", -1), BadClaims},
		"no claims":                    {forge.sign(forge.header(nil), "{}"), BadClaims},
		"null":                         {forge.sign(forge.header(nil), "null"), BadClaims},
		"a list":                       {forge.sign(forge.header(nil), "["+forge.payload(nil)+"]"), BadClaims},
		"no JSON":                      {forge.sign(forge.header(nil), "x"), BadClaims},
		"two": {
			forge.sign(forge.header(nil), forge.payload(nil)+forge.payload(nil)),
			BadClaims,
		},
		"deep": {
			forge.sign(
				forge.header(nil),
				strings.Replace(
					forge.payload(nil),
					"{",
					`{"x":`+strings.Repeat("[", 700)+strings.Repeat("]", 700)+`,"x":1,`,
					1,
				),
			),
			BadClaims,
		},
	}
	for claim := range forge.body {
		value, _ := json.Marshal(forge.body[claim])
		double := strings.Replace(forge.payload(nil), "{", fmt.Sprintf(`{"%s":%s,`, claim, value), 1)
		attacks[claim+" twice"] = attack{forge.sign(forge.header(nil), double), BadClaims}
	}
	forge.run(t, attacks)
	// Names in other cases are other names, and what a newer release adds is let be.
	more := strings.Replace(
		forge.payload(nil),
		"{",
		`{"TENANT":"globex/sales","Tenant":"globex/sales","new":{"a":[1]},`,
		1,
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
		"nothing":            {"", Malformed},
		"dots":               {"..", Malformed},
		"a megabyte":         {strings.Repeat("A", 1<<20), Malformed},
		"a megabyte of dots": {strings.Repeat(".", 1<<20), Malformed},
		"a long token":       {p[0] + "." + strings.Repeat("A", maxToken) + "." + p[2], Malformed},
		"many dots":          {strings.Repeat(".", maxToken), Malformed},
		"as JSON":            {full(), Malformed},
		"as JSON with signatures": {
			fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, p[1], p[0], p[2]),
			Malformed,
		},
		"two parts":                   {p[0] + "." + p[1], Malformed},
		"four parts":                  {good + ".", Malformed},
		"no header":                   {"." + p[1] + "." + p[2], Malformed},
		"no payload":                  {p[0] + ".." + p[2], Malformed},
		"no signature":                {p[0] + "." + p[1] + ".", Malformed},
		"a space before":              {" " + good, Malformed},
		"a space behind":              {good + " ", Malformed},
		"a line end behind":           {good + "\n", Malformed},
		"a line end within":           {p[0] + ".\r\n" + p[1] + "." + p[2], Malformed},
		"a line end in the signature": {p[0] + "." + p[1] + "." + p[2][:10] + "\n" + p[2][10:], Malformed},
		"a tab within":                {p[0] + ".\t" + p[1] + "." + p[2], Malformed},
		"padding":                     {good + "==", Malformed},
		"padding of the header":       {p[0] + "=." + p[1] + "." + p[2], Malformed},
		"the other alphabet":          {forge.standardAlphabet(t), Malformed},
		"a zero byte":                 {good + "\x00", Malformed},
		"no UTF-8":                    {p[0] + "." + p[1] + ".\xff\xfe" + p[2], Malformed},
		"fullwidth dots":              {strings.ReplaceAll(good, ".", "．"), Malformed},
		"bits that count for nothing": {looseBits(good), Malformed},
		"Bearer before it":            {"Bearer " + good, Malformed},
		"another's payload": {
			p[0] + "." + b64([]byte(forge.payload(map[string]any{"role": "admin"}))) + "." + p[2],
			Signature,
		},
		"another's header": {
			b64([]byte(strings.Replace(forge.header(nil), `,`, `, `, 1))) + "." + p[1] + "." + p[2],
			Signature,
		},
		"a payload of a zero-width kind": {p[0] + "." + p[1] + "\u200b." + p[2], Malformed},
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
		return Malformed
	}
	if _, err := base64.RawURLEncoding.Strict().DecodeString(parts[2]); err != nil {
		return Malformed
	}
	return Signature
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

// TestSignatureAttacks : the forms that Wycheproof has for Ed25519, made from a good signature (R, S).
func TestSignatureAttacks(t *testing.T) {
	forge := newForge(t)
	// The order of the group, 2^252 + 27742317777372353535851937790883648493.
	order, _ := new(
		big.Int,
	).SetString(
		"7237005577332262213973186563042994240857116359379907606001950938285454250989",
		10,
	)
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
		"all zero": {forge.resigned(func([]byte) []byte { return make([]byte, 64) }), Signature},
		"all one": {
			forge.resigned(func([]byte) []byte { return bytes.Repeat([]byte{0xff}, 64) }),
			Signature,
		},
		"R the identity, S zero": {
			forge.resigned(func([]byte) []byte { return append(bytes.Clone(identity), make([]byte, 32)...) }),
			Signature,
		},
		"R no point": {
			forge.resigned(func(s []byte) []byte { return append(bytes.Clone(ones), s[32:]...) }),
			Signature,
		},
		"R with its sign turned": {forge.resigned(func(s []byte) []byte { s[31] ^= 0x80; return s }), Signature},
		"S all one":              {forge.resigned(func(s []byte) []byte { return append(s[:32], ones...) }), Signature},
		"S the order": {
			forge.resigned(
				func(s []byte) []byte { return append(s[:32], reversed(order.FillBytes(make([]byte, 32)))...) },
			),
			Signature,
		},
		"R and S changed over": {
			forge.resigned(func(s []byte) []byte { return append(bytes.Clone(s[32:]), s[:32]...) }),
			Signature,
		},
		"cut":           {forge.resigned(func(s []byte) []byte { return s[:63] }), Signature},
		"R alone":       {forge.resigned(func(s []byte) []byte { return s[:32] }), Signature},
		"longer":        {forge.resigned(func(s []byte) []byte { return append(s, 0) }), Signature},
		"twice":         {forge.resigned(func(s []byte) []byte { return append(s, s...) }), Signature},
		"a zero before": {forge.resigned(func(s []byte) []byte { return append([]byte{0}, s...) }), Signature},
		"in hex": {
			forge.resigned(func(s []byte) []byte { return fmt.Appendf(nil, "%x", s) }),
			Signature,
		},
		"by Ed25519ph": {forge.prehashed(t), Signature},
		"of the payload alone": {
			forge.resigned(func([]byte) []byte { return ed25519.Sign(forge.private, []byte(forge.payload(nil))) }),
			Signature,
		},
	}
	for times := range int64(14) {
		attacks[fmt.Sprintf("S and %d times the order", times+1)] = attack{
			forge.resigned(shifted(times + 1)),
			Signature,
		}
	}
	for bit := range 512 {
		attacks[fmt.Sprintf("bit %d flipped", bit)] = attack{
			forge.resigned(func(s []byte) []byte { s[bit/8] ^= 1 << (bit % 8); return s }),
			Signature,
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
	newService(t).wantReason(t, raw, Type)
}

// TestOfAnotherTenant checks that a token is for the tenant that it names. The server of a tenant compares.
func TestOfAnotherTenant(t *testing.T) {
	forge := newForge(t)
	claims, err := forge.r.Check(forge.claiming("tenant", globex))
	if err != nil || claims.Tenant != globex || claims.TenantUID != "u" {
		t.Errorf("%+v, %v", claims, err)
	}
}
