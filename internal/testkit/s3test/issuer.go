package s3test

import (
	"crypto/rand"
	"crypto/rsa"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Issuer signs tokens as a cluster does for its ServiceAccounts.
type Issuer struct {
	URL string
	key *rsa.PrivateKey
}

// NewIssuer makes one with a key of its own.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &Issuer{URL: "https://issuer.example/" + random(), key: key}
}

// Keys returns what the issuer publishes.
func (i *Issuer) Keys() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{
		Key:       i.key.Public(),
		KeyID:     "k",
		Algorithm: "RS256",
		Use:       "sig",
	}}}
}

// Token returns a token for a subject and an audience.
func (i *Issuer) Token(t testing.TB, subject, audience string, lifetime time.Duration) string {
	t.Helper()
	options := (&jose.SignerOptions{}).WithHeader("kid", "k")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: i.key}, options)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer:   i.URL,
		Subject:  subject,
		Audience: jwt.Audience{audience},
		Expiry:   jwt.NewNumericDate(time.Now().Add(lifetime)),
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}
