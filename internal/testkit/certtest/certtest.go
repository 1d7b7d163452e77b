// Package certtest makes certificates for tests.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"
)

// Authority signs certificates.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// PEM is its own certificate.
	PEM string
}

// New makes an authority that is good for an hour.
func New(t testing.TB) *Authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, key := issue(t, template, nil)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &Authority{cert: cert, key: key, PEM: encode("CERTIFICATE", der)}
}

// Sign makes the certificate of an IP address.
func (a *Authority) Sign(t testing.TB, address string, until time.Time) tls.Certificate {
	t.Helper()
	der, key := issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(2),
		NotAfter:     until,
		IPAddresses:  []net.IP{net.ParseIP(address)},
	}, a)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// SignNames makes the certificate of DNS names, good for an hour.
func (a *Authority) SignNames(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(3), NotAfter: time.Now().Add(time.Hour), DNSNames: names}
	der, key := issue(t, template, a)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Client makes the certificate of a client, good for an hour, and its key, in PEM. The template has its subject and what
// else a test wants of it.
func (a *Authority) Client(t testing.TB, template x509.Certificate) (cert, key string) {
	t.Helper()
	template.SerialNumber = big.NewInt(4)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	der, private := issue(t, &template, a)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", secret)
}

// Pair is a certificate of 127.0.0.1 that is its own authority, good for an hour, and its key, in PEM.
func Pair(t testing.TB, serial int64) (cert, key string) {
	t.Helper()
	der, private := issue(t, &x509.Certificate{
		SerialNumber:          big.NewInt(serial),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}, nil)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", secret)
}

// issue makes a key and its certificate, signed by an authority or, without one, by itself.
func issue(t testing.TB, template *x509.Certificate, by *Authority) (der []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by = &Authority{cert: template, key: key}
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key); err != nil {
		t.Fatal(err)
	}
	return der, key
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
