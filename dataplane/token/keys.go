package token

import (
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caly-dev/caly/internal/keyring"
)

// tokenType is RFC 9068's, so that no other JWT of ours could ever be taken for an access token.
const tokenType = "at+jwt"

// keySet is a ring made ready for use: deriving a public key costs as much as a signature.
type keySet struct {
	ring *keyring.Ring
	keys map[string]key
}

type key struct {
	public ed25519.PublicKey
	signer jose.Signer
	until  time.Time // zero without an end
}

func (k key) verifies(now time.Time) bool { return k.until.IsZero() || now.Before(k.until) }

// keySet returns the keys of the ring as it is now, nil without one.
func (s *Service) keySet() *keySet {
	ring := s.o.Ring()
	if ring == nil {
		return nil
	}
	if known := s.keys.Load(); known != nil && known.ring == ring {
		return known
	}
	set := &keySet{ring: ring, keys: map[string]key{}}
	for _, k := range ring.Keys {
		private := k.Private()
		signer, err := jose.NewSigner(jose.SigningKey{
			Algorithm: jose.EdDSA,
			Key:       jose.JSONWebKey{Key: private, KeyID: k.ID},
		},
			(&jose.SignerOptions{}).WithType(tokenType))
		if err != nil {
			s.o.Log.Error("a key cannot sign; it is left out", "key", k.ID, "error", err)
			continue
		}
		set.keys[k.ID] = key{public: private.Public().(ed25519.PublicKey), signer: signer, until: k.VerifiesUntil}
	}
	s.keys.Store(set)
	return set
}

// jwksAge is how long others may keep the public keys: less than keys are published before they sign.
const jwksAge = "public, max-age=300"

// JWKS serves the public keys: those that verify, and the next one before it signs.
func (s *Service) JWKS() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		set := s.keySet()
		if set == nil {
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Retry-After", "5")
			http.Error(w, ErrNotReady.Error(), http.StatusServiceUnavailable)
			return
		}
		body, err := json.Marshal(set.public(s.o.Now()))
		if err != nil {
			http.Error(w, "the keys cannot be written", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/jwk-set+json")
		w.Header().Set("Cache-Control", jwksAge)
		_, _ = w.Write(body) // the peer may have gone; there is nobody to tell
	})
}

func (s *keySet) public(now time.Time) jose.JSONWebKeySet {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range s.ring.Verifying(now) {
		if known, ok := s.keys[k.ID]; ok {
			set.Keys = append(set.Keys, jose.JSONWebKey{
				Key:       known.public,
				KeyID:     k.ID,
				Algorithm: string(jose.EdDSA),
				Use:       "sig",
			})
		}
	}
	return set
}
