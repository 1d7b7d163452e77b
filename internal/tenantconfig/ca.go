package tenantconfig

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
)

// maxCABundle bounds the certificates of those who sign an agent's, in bytes.
const maxCABundle = 64 << 10

// CAFault is why nothing could be verified with a bundle of certificates; empty: it can. It quotes nothing, for a key may be in it.
func CAFault(bundle string) string {
	if len(bundle) > maxCABundle {
		return fmt.Sprintf("is longer than %d bytes: name the authorities that sign the server's certificate alone",
			maxCABundle)
	}
	found := 0
	for rest := []byte(bundle); ; found++ {
		var block *pem.Block
		block, rest = pem.Decode(rest) // which passes over what is damaged
		switch {
		case block == nil && (found == 0 || found != strings.Count(bundle, "-----BEGIN ")):
			return "is not whole certificates in PEM, each from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----"
		case block == nil:
			return ""
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return "holds a private key, which nobody needs to verify with: take it out, and replace the key"
		case block.Type != "CERTIFICATE":
			return "holds something else than certificates"
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "holds a certificate that cannot be read"
		}
	}
}

// TLS is what connections to the agent are verified with. TLS 1.2 is the oldest that is spoken.
func (a *Audio) TLS() *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CABundle != "" {
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM([]byte(a.CABundle)) // check has seen that it can be read
	}
	return config
}
