package server

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/testkit/certtest"
)

// TestCertificates checks which client certificates name a user, and with which groups.
func TestCertificates(t *testing.T) {
	authority := certtest.New(t)
	other := certtest.New(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(authority.PEM))
	a := newAuthenticator(nil, nil)
	a.ca = &clientCA{roots: roots, read: time.Now(), now: time.Now}
	alice := pkix.Name{CommonName: "alice", Organization: []string{"acme", "sre"}}
	forClients := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for name, tc := range map[string]struct {
		by       *certtest.Authority
		template x509.Certificate
		want     User
		wantErr  string
	}{
		"valid": { // DER orders the organizations
			template: x509.Certificate{Subject: alice, ExtKeyUsage: forClients},
			want:     User{Name: "alice", Groups: []string{"sre", "acme", "system:authenticated"}},
		},
		"without organizations": {
			template: x509.Certificate{Subject: pkix.Name{CommonName: "bob"}, ExtKeyUsage: forClients},
			want:     User{Name: "bob", Groups: []string{"system:authenticated"}},
		},
		"expired": {
			template: x509.Certificate{
				Subject:     alice,
				ExtKeyUsage: forClients,
				NotAfter:    time.Now().Add(-time.Minute),
			},
			wantErr: "expired",
		},
		"not yet valid": {
			template: x509.Certificate{
				Subject:     alice,
				ExtKeyUsage: forClients,
				NotBefore:   time.Now().Add(time.Minute),
			},
			wantErr: "not yet valid",
		},
		"for servers": {
			template: x509.Certificate{Subject: alice, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
			wantErr:  "incompatible key usage",
		},
		"of another authority": {
			by:       other,
			template: x509.Certificate{Subject: alice, ExtKeyUsage: forClients},
			wantErr:  "unknown authority",
		},
		"without a common name": {
			template: x509.Certificate{
				Subject:     pkix.Name{Organization: []string{"system:masters"}},
				ExtKeyUsage: forClients,
			},
			wantErr: "no common name",
		},
		"with an unknown critical extension": {
			template: x509.Certificate{
				Subject:     alice,
				ExtKeyUsage: forClients,
				ExtraExtensions: []pkix.Extension{{
					Id:       asn1.ObjectIdentifier{1, 2, 3, 4},
					Critical: true,
					Value:    []byte{5, 0},
				}},
			},
			wantErr: "unhandled critical extension",
		},
	} {
		t.Run(name, func(t *testing.T) {
			by := tc.by
			if by == nil {
				by = authority
			}
			encoded, _ := by.Client(t, tc.template)
			block, _ := pem.Decode([]byte(encoded))
			certificate, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			got, err := a.certificate(t.Context(), []*x509.Certificate{certificate})
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("%+v, %v; want %q", got, err, tc.wantErr)
				}
				return
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
				t.Errorf("%v; user (-want +got):\n%s", err, diff)
			}
		})
	}
}
