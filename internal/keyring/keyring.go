// Package keyring is the keys that sign access tokens and the secret that other keys are derived from: made and rotated by the operator,
// kept in one Secret of the work namespace, read by the data plane's pods.
package keyring

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/caly-dev/caly/internal/secret"
)

// Version is the version of the encoding.
const Version = 1

// SecretName is the name of the keyring's Secret in the work namespace, DataKey the key of its data that holds the ring.
const (
	SecretName = "caly-keyring" //nolint:gosec // a name
	DataKey    = "keyring.json"
)

// secretSize is the length of Ring.Secret and of what is derived from it.
const secretSize = 32

// Ring is the keys of one platform. It is never changed once made: Rotate returns another.
type Ring struct {
	Version int `json:"version"`
	// Keys in the order in which they sign. The last has no end.
	Keys []Key `json:"keys"`
	// Secret is 32 random bytes, the same for as long as the ring lives.
	Secret secret.Sensitive `json:"secret"`
}

// Key signs from a time on until the next one does, and verifies until a time.
type Key struct {
	// ID follows from the public key.
	ID string `json:"id"`
	// CreatedAt is when it was published.
	CreatedAt time.Time `json:"createdAt"`
	SignsFrom time.Time `json:"signsFrom"`
	// VerifiesUntil is zero for the last key.
	VerifiesUntil time.Time `json:"verifiesUntil,omitzero"`
	// Seed is the Ed25519 private key's.
	Seed secret.Sensitive `json:"seed"`
}

// Signing returns the key that signs now: the last whose time has come or, where a clock is before that of all, the first. It is false
// for a ring without keys alone.
func (r *Ring) Signing(now time.Time) (Key, bool) {
	if r == nil || len(r.Keys) == 0 {
		return Key{}, false
	}
	found := r.Keys[0]
	for _, k := range r.Keys[1:] {
		if !now.Before(k.SignsFrom) {
			found = k
		}
	}
	return found, true
}

// Verifying returns the keys that verify now, those that are published ahead and sign nothing yet included.
func (r *Ring) Verifying(now time.Time) []Key {
	if r == nil {
		return nil
	}
	var keys []Key
	for _, k := range r.Keys {
		if k.VerifiesUntil.IsZero() || now.Before(k.VerifiesUntil) {
			keys = append(keys, k)
		}
	}
	return keys
}

// Purposes of Derive: each key is for one.
const (
	PurposeEmailCode = "email-code"
	PurposeMail      = "mail"
	PurposeRateLimit = "rate-limit"
	PurposeStream    = "stream-token"
)

// Derive returns 32 bytes that follow from the ring's secret and the purpose alone (HKDF-SHA256): other purposes, other keys.
func (r *Ring) Derive(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, []byte(r.Secret), nil, "caly/"+purpose, secretSize)
	if err != nil {
		panic(err) // unreachable: the length is one that HKDF makes
	}
	return key
}

// Private is the signing key.
func (k Key) Private() ed25519.PrivateKey { return ed25519.NewKeyFromSeed([]byte(k.Seed)) }

// Public is the verifying key.
func (k Key) Public() ed25519.PublicKey { return k.Private().Public().(ed25519.PublicKey) }

// New returns a ring whose first key signs at once.
func New(now time.Time) *Ring {
	now = now.UTC().Truncate(time.Second)
	return &Ring{Version: Version, Keys: []Key{newKey(now, now)}, Secret: random()}
}

func newKey(created, signs time.Time) Key {
	k := Key{CreatedAt: created, SignsFrom: signs, Seed: random()}
	k.ID = keyID(k.Public())
	return k
}

// keyID is 16 characters of the public key's digest.
func keyID(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

func random() secret.Sensitive {
	b := make([]byte, secretSize)
	_, _ = rand.Read(b) // never fails
	return secret.Sensitive(b)
}
