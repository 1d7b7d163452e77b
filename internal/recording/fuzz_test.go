package recording

import (
	"net/netip"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzObjectKey verifies that a key is below the tenant's prefix and has no element "..", for any template and names.
func FuzzObjectKey(f *testing.F) {
	f.Add("{{.CallSID}}-{{.RecordingID}}", "c1", "00aa", ".mp3", int64(1_700_000_000))
	f.Add("{{ .Date }}/{{.RecordingID}}", "..", "..", "/../x", int64(-1<<40))
	f.Add("{{.CallSID}}/{{.RecordingID}}", "../../globex/sales", "x/", ".", int64(1<<40))
	f.Add("{{.RecordingID}}", "", "", "", int64(0))
	f.Fuzz(func(t *testing.T, template, call, recording, ext string, queued int64) {
		if ParseKeyTemplate(template) != nil {
			return
		}
		in := KeyInput{CallSID: call, RecordingID: recording, Queued: time.Unix(queued, 0), Ext: ext}
		key, err := ObjectKey("acme/support", template, in)
		if err != nil {
			return
		}
		if !strings.HasPrefix(key, "acme/support/") || path.Clean("/"+key) != "/"+key || len(key) > maxKey ||
			!utf8.ValidString(key) ||
			strings.ContainsAny(key, "\x00\r\n\\?#%") {
			t.Fatalf("key %q", key)
		}
		if again, err := ObjectKey("acme/support", template, in); err != nil || again != key {
			t.Fatalf("the same recording has the keys %q and %q (%v)", key, again, err)
		}
	})
}

// FuzzValidateSource verifies that a literal address that is not public is rejected, though the tenant allows that very
// host.
func FuzzValidateSource(f *testing.F) {
	for _, raw := range []string{"https://recordings.exotel.com/a.mp3", "https://169.254.169.254/latest",
		"https://[::1]/a", "https://[::ffff:10.0.0.1]/a",
		"https://[fe80::1%25eth0]/a", "https://127.0.0.1./a", "http://10.0.0.7:80/a", "https://u:p@10.0.0.7/a",
		"https://[64:ff9b::a00:1]/a", "https://100.64.0.1/",
		"https://0.0.0.0/a", "HTTPS://[FC00::1]:443/a"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		address, err := url.Parse(raw)
		if err != nil {
			return
		}
		policy := SourcePolicy{Hosts: []string{address.Host, address.Hostname(), "*.example.com"}, AllowHTTP: true}
		if policy.Validate(raw) != nil {
			return
		}
		if (address.Scheme != "https" && address.Scheme != "http") || address.User != nil || address.Hostname() == "" {
			t.Fatalf("%q got through", raw)
		}
		addr, err := netip.ParseAddr(strings.TrimSuffix(address.Hostname(), "."))
		if err != nil {
			return
		}
		addr = addr.Unmap()
		if addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsMulticast() ||
			addr.IsUnspecified() ||
			addr.IsInterfaceLocalMulticast() {
			t.Fatalf("%q got through, and leads to %s", raw, addr)
		}
	})
}

func FuzzHostAllowed(f *testing.F) {
	f.Add("https://recordings.exotel.com/a")
	f.Fuzz(func(t *testing.T, raw string) {
		address, err := url.Parse(raw)
		if err != nil || !hostAllowed([]string{"*.exotel.com"}, address) {
			return
		}
		if !strings.HasSuffix(strings.ToLower(address.Hostname()), ".exotel.com") {
			t.Fatalf("%q got through", raw)
		}
	})
}
