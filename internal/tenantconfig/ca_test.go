package tenantconfig

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/testkit/certtest"
)

// authority is a certificate in PEM.
func authority(t testing.TB) string { return certtest.New(t).PEM }

// TestCAFault verifies which bundles can verify a server, and that no fault quotes the bundle.
func TestCAFault(t *testing.T) {
	one := authority(t)
	other := authority(t)
	block := func(kind string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte("hush")}))
	}
	for name, tc := range map[string]struct{ bundle, want string }{
		"one":               {one, ""},
		"two, with remarks": {"# old\n" + one + "# new\n" + other, ""},
		"empty":             {"", "not whole certificates"},
		"no PEM":            {"hush", "not whole certificates"},
		"cut":               {one[:len(one)-30], "not whole certificates"},
		"the second cut":    {one + other[:len(other)-30], "not whole certificates"},
		"the first cut":     {one[:100] + "\n" + other, "not whole certificates"},
		"a key":             {one + block("EC PRIVATE KEY"), "private key"},
		"a request":         {block("CERTIFICATE REQUEST"), "something else"},
		"no certificate":    {block("CERTIFICATE"), "cannot be read"},
		"too long":          {strings.Repeat(one, 1+maxCABundle/len(one)), "longer than 65536"},
	} {
		t.Run(name, func(t *testing.T) {
			got := CAFault(tc.bundle)
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) || strings.Contains(got, "hush") {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestCABundleCounts verifies that a config's bundle is checked, is a part of its digest, and replaces the system's
// authorities.
func TestCABundleCounts(t *testing.T) {
	audio := goodAudio()
	if audio.TLS().RootCAs != nil {
		t.Error("without a bundle the system's authorities are not trusted")
	}
	without := Tenant{ID: "acme/support", Audio: audio}.Digest()
	audio.CABundle = authority(t)
	if err := audio.check(); err != nil || audio.TLS().RootCAs == nil {
		t.Errorf("a good bundle: %v", err)
	}
	if (Tenant{ID: "acme/support", Audio: audio}).Digest() == without {
		t.Error("the bundle is not in the digest")
	}
	audio.CABundle = "hush"
	if err := audio.check(); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("a bad bundle: %v", err)
	}
}

func FuzzCAFault(f *testing.F) {
	f.Add(authority(f))
	f.Add("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
	f.Fuzz(func(t *testing.T, bundle string) {
		if CAFault(bundle) == "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(bundle)) {
			t.Errorf("%q was taken, and nobody is trusted", bundle)
		}
	})
}
