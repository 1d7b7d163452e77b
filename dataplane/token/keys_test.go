package token

import (
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/keyring"
)

// fetchKeys reads the JWK set as a stranger would, with the standard library alone: key ids and public keys.
func fetchKeys(t *testing.T, h http.Handler) map[string]ed25519.PublicKey {
	t.Helper()
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/.well-known/jwks.json", nil))
	want := http.Header{"Content-Type": {"application/jwk-set+json"}, "Cache-Control": {"public, max-age=300"}}
	if d := cmp.Diff(want, recorder.Header()); recorder.Code != http.StatusOK || d != "" {
		t.Fatalf("status %d, header (-want +got):\n%s", recorder.Code, d)
	}
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	if err := json.Unmarshal(recorder.Body.Bytes(), &set); err != nil {
		t.Fatal(err)
	}
	keys := map[string]ed25519.PublicKey{}
	for _, k := range set.Keys {
		keys[k["kid"]] = unb64(t, k["x"])
		delete(k, "kid")
		delete(k, "x")
		if d := cmp.Diff(map[string]string{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig"}, k); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
	return keys
}

func TestJWKS(t *testing.T) {
	rig := newService(t)
	handler := rig.JWKS()
	one := fetchKeys(t, handler)
	raw := rig.mint(t)
	i := strings.LastIndexByte(raw, '.')
	kid, _ := readHeader(raw)
	if !ed25519.Verify(one[kid], []byte(raw[:i]), unb64(t, raw[i+1:])) || len(one) != 1 {
		t.Errorf("%d keys, by which a token does not verify", len(one))
	}

	soon := rig.clock.now().Add(30*24*time.Hour - time.Hour - keyring.DefaultLead)
	next, changed, _ := keyring.Rotate(rig.ring.Load(), soon, keyring.Policy{})
	if !changed {
		t.Fatal("nothing to publish ahead")
	}
	rig.ring.Store(next)
	ids := func() []string {
		var ids []string
		for id := range fetchKeys(t, handler) {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		return ids
	}
	both := []string{next.Keys[0].ID, next.Keys[1].ID}
	slices.Sort(both)
	rig.clock.pass(soon.Sub(rig.clock.now()))
	if d := cmp.Diff(both, ids()); d != "" {
		t.Errorf("before the next one signs (-want +got):\n%s", d)
	}
	rig.clock.pass(keyring.DefaultLead + keyring.DefaultOverlap)
	if d := cmp.Diff(both[slices.Index(both, next.Keys[1].ID):][:1], ids()); d != "" {
		t.Errorf("once the first verifies no more (-want +got):\n%s", d)
	}
	for _, k := range next.Keys {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/", nil))
		if body := recorder.Body.String(); strings.Contains(body, b64([]byte(k.Seed))) ||
			strings.Contains(body, `"d"`) {
			t.Error("a private key is published")
		}
	}
}

func TestJWKSWithoutKeys(t *testing.T) {
	rig := newService(t)
	rig.ring.Store(nil)
	recorder := httptest.NewRecorder()
	rig.JWKS().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/", nil))
	if recorder.Code != http.StatusServiceUnavailable || recorder.Header().Get("Cache-Control") != "no-store" ||
		recorder.Header().Get("Retry-After") == "" {
		t.Errorf("status %d, header %v", recorder.Code, recorder.Header())
	}
}

// TestJWKSIsKeptForLessThanTheLead verifies that a client caches the keys for less than the lead. Otherwise its copy
// could lack the key that signs.
func TestJWKSIsKeptForLessThanTheLead(t *testing.T) {
	age, err := time.ParseDuration(strings.TrimPrefix(jwksAge, "public, max-age=") + "s")
	if err != nil || age >= keyring.DefaultLead {
		t.Errorf("%s, %v", age, err)
	}
	if keyring.DefaultOverlap < MaxLifetime+Skew {
		t.Error("a key may end before its tokens do")
	}
}
