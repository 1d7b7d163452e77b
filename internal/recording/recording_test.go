package recording

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestValidateSource(t *testing.T) {
	hosts := []string{"*", "*test", "recordings.exotel.com", "*.example.com", "10.0.0.7:8080", "plain.example:80"}
	for name, tc := range map[string]struct {
		policy SourcePolicy
		url    string
		want   string // part of the refusal; empty: allowed
	}{
		"listed":              {SourcePolicy{}, "https://recordings.exotel.com/a.mp3", ""},
		"upper case":          {SourcePolicy{}, "https://Recordings.Exotel.com/a.mp3", ""},
		"below a wildcard":    {SourcePolicy{}, "https://a.b.example.com/a", ""},
		"the wildcard itself": {SourcePolicy{}, "https://example.com/a", "not one that the Tenant allows"},
		"looks like it":       {SourcePolicy{}, "https://evilexample.com/a", "not one that the Tenant allows"},
		"suffix trick":        {SourcePolicy{}, "https://recordings.exotel.com.evil.test/a", "not one that the Tenant allows"},
		"another port":        {SourcePolicy{}, "https://recordings.exotel.com:8443/a", "not one that the Tenant allows"},
		"user trick":          {SourcePolicy{}, "https://recordings.exotel.com@evil.test/a", "credentials"},
		"http":                {SourcePolicy{}, "http://recordings.exotel.com/a", "must be https"},
		"http allowed":        {SourcePolicy{AllowHTTP: true}, "http://plain.example/a", ""},
		"file":                {SourcePolicy{AllowHTTP: true}, "file://recordings.exotel.com/etc/passwd", "must be https"},
		"private":             {SourcePolicy{AllowHTTP: true}, "http://10.0.0.7:8080/a", "private"},
		"private, allowed": {SourcePolicy{
			AllowHTTP:    true,
			AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
		}, "http://10.0.0.7:8080/a", ""},
		"metadata":           {SourcePolicy{}, "https://169.254.169.254/a", "private"},
		"loopback v6":        {SourcePolicy{}, "https://[::1]/a", "private"},
		"v4 in v6":           {SourcePolicy{}, "https://[::ffff:127.0.0.1]/a", "private"},
		"shared range":       {SourcePolicy{}, "https://100.64.0.1/a", "private"},
		"this network":       {SourcePolicy{}, "https://0.1.2.3/a", "private"},
		"reserved":           {SourcePolicy{}, "https://255.255.255.255/a", "private"},
		"NAT64 of a public":  {SourcePolicy{}, "https://[64:ff9b::34db:3e01]/a", "not one that the Tenant allows"},
		"NAT64 of a private": {SourcePolicy{}, "https://[64:ff9b::a9fe:a9fe]/a", "private"},
		"6to4 of a private":  {SourcePolicy{}, "https://[2002:a00:1::]/a", "private"},
		"zone":               {SourcePolicy{}, "https://[fe80::1%25eth0]/a", "private"},
		"trailing dot":       {SourcePolicy{}, "https://127.0.0.1./a", "private"},
		"public address":     {SourcePolicy{}, "https://203.0.114.9/a", "not one that the Tenant allows"},
		"a star alone":       {SourcePolicy{}, "https://anything.test/a", "not one that the Tenant allows"},
		"not a URL":          {SourcePolicy{}, "://", "cannot be read"},
		"relative":           {SourcePolicy{}, "/a.mp3", "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.policy.Hosts = hosts
			err := tc.policy.Validate(tc.url)
			if (err == nil) != (tc.want == "") || (err != nil && !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestObjectKey(t *testing.T) {
	in := KeyInput{
		CallSID:     "c1",
		RecordingID: "00aa",
		Queued:      time.Date(2026, 3, 4, 23, 0, 0, 0, time.UTC),
		Ext:         ".mp3",
	}
	for name, tc := range map[string]struct{ template, ext, want string }{
		"default":        {"{{.CallSID}}-{{.RecordingID}}", ".mp3", "acme/support/c1-00aa.mp3"},
		"by day":         {"{{ .Date }}/{{.RecordingID}}", ".wav", "acme/support/2026/03/04/00aa.wav"},
		"odd extension":  {"{{.RecordingID}}", "/../x", "acme/support/00aa.mp3"},
		"above itself":   {"../{{.RecordingID}}", ".mp3", ""},
		"absolute":       {"/{{.RecordingID}}", ".mp3", ""},
		"doubled slash":  {"a//{{.RecordingID}}", ".mp3", ""},
		"no recording":   {"{{.CallSID}}", ".mp3", ""},
		"a function":     {`{{printf "%s" .RecordingID}}`, ".mp3", ""},
		"unknown field":  {"{{.RecordingID}}{{.Bucket}}", ".mp3", ""},
		"much too long":  {strings.Repeat("a", 1100) + "{{.RecordingID}}", ".mp3", ""},
		"not a template": {"{{.RecordingID", ".mp3", ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := ParseKeyTemplate(tc.template)
			if (err == nil) != (tc.want != "") {
				t.Fatalf("ParseKeyTemplate: %v, want error %v", err, tc.want == "")
			}
			if err != nil {
				return
			}
			in := in
			in.Ext = tc.ext
			got, err := ObjectKey("acme/support", tc.template, in)
			if err != nil || got != tc.want {
				t.Errorf("key %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

func TestID(t *testing.T) {
	a := ID("c1", "https://h/a.mp3?X-Amz-Signature=1")
	if a != ID("c1", "https://h/a.mp3?X-Amz-Signature=2") || a != ID("c1", "https://h/a.mp3#f") {
		t.Error("another query is another recording")
	}
	if a == ID("c2", "https://h/a.mp3") || a == ID("c1", "https://h/b.mp3") || len(a) != 16 {
		t.Error("two recordings share an id")
	}
}
