package stream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/agent/agenttest"
	"github.com/caly-dev/caly/internal/exotel/exoteltest"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// sign makes the certificate of an address.
func (a *authority) sign(t *testing.T, address string, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: until, IPAddresses: []net.IP{net.ParseIP(address)}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestAgentTLS : an agent's certificate must be its own, in time, and signed by who is named; TLS 1.1 is not spoken.
func TestAgentTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	for name, tc := range map[string]struct {
		certificate tls.Certificate
		max         uint16
		bundle      string
		want        bool
	}{
		"trusted":          {certificate: ours.sign(t, "127.0.0.1", later), bundle: ours.pem, want: true},
		"by one of two":    {certificate: ours.sign(t, "127.0.0.1", later), bundle: others.pem + ours.pem, want: true},
		"TLS 1.2":          {certificate: ours.sign(t, "127.0.0.1", later), max: tls.VersionTLS12, bundle: ours.pem, want: true},
		"by another":       {certificate: others.sign(t, "127.0.0.1", later), bundle: ours.pem},
		"nobody is named":  {certificate: ours.sign(t, "127.0.0.1", later)},
		"of another host":  {certificate: ours.sign(t, "127.0.0.2", later), bundle: ours.pem},
		"too old":          {certificate: ours.sign(t, "127.0.0.1", time.Now().Add(-time.Hour)), bundle: ours.pem},
		"TLS 1.1, trusted": {certificate: ours.sign(t, "127.0.0.1", later), max: tls.VersionTLS11, bundle: ours.pem},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, agenttest.Options{TLS: &tls.Config{Certificates: []tls.Certificate{tc.certificate}, MinVersion: tls.VersionTLS10, MaxVersion: tc.max}}, nil)
			r.audio(func(a *tenantconfig.Audio) { a.CABundle = tc.bundle })
			report, err := r.call(r.url+"/"+token, nil)
			if tc.want {
				if err != nil || !report.Echo.Whole() {
					t.Errorf("%v, echo %+v", err, report.Echo)
				}
				return
			}
			var refused *exoteltest.HandshakeError
			if !errors.As(err, &refused) || refused.Status != 502 || value(t, r.h.m.dials[dialTLS]) < 1 || r.agent.Started() != 0 {
				t.Errorf("got %v, want 502, counted as %s", err, dialTLS)
			}
		})
	}
}
