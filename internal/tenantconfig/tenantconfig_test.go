package tenantconfig

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func sample() Tenant {
	return Tenant{Version: Version, ID: "acme/support", UID: "u", TimeZone: "Asia/Kolkata", AllowedSourceHosts: []string{"a.example"}, Freshness: DefaultFreshness,
		Webhooks: &Webhooks{Signature: &Signature{Scheme: "HMACSHA1", Secrets: []Sensitive{"sixteen bytes or more"}}}}
}

func sampleUpload() Upload {
	return Upload{Version: Version, ID: "acme/support", DatabaseURL: "postgres://x",
		Storage:     Storage{Bucket: "b", Endpoint: "https://s3.example", SecretAccessKey: "topsecret"},
		KeyTemplate: "{{.CallSID}}-{{.RecordingID}}"}
}

func TestRoundTrip(t *testing.T) {
	data, err := EncodeTenant(sample())
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeTenant(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), *got); diff != "" {
		t.Errorf("tenant (-want +got):\n%s", diff)
	}
	data, err = EncodeUpload(sampleUpload())
	if err != nil {
		t.Fatal(err)
	}
	up, err := DecodeUpload(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sampleUpload(), *up); diff != "" {
		t.Errorf("upload (-want +got):\n%s", diff)
	}
}

func TestDecodeRefuses(t *testing.T) {
	change := func(f func(*Tenant)) []byte {
		s := sample()
		f(&s)
		data, _ := json.Marshal(s)
		return data
	}
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"cut":           {[]byte(`{"webhooks":{"signature":{"secrets":["topsecret`), "not the JSON"},
		"not encoded":   {[]byte(`{"webhooks":{"signature":{"secrets":["topsecret!"]}}}`), "not the JSON"},
		"version":       {change(func(t *Tenant) { t.Version = 9 }), "version 9"},
		"id":            {change(func(t *Tenant) { t.ID = "acme" }), "namespace/name"},
		"id with more":  {change(func(t *Tenant) { t.ID = "a/b/c" }), "namespace/name"},
		"much too long": {[]byte(strings.Repeat(" ", maxEncoded+1)), "may have"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeTenant(tc.data)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "topsecret") {
				t.Errorf("got %v, want it to say %q and no secret", err, tc.want)
			}
		})
	}
}

func TestSensitiveIsNeverPrinted(t *testing.T) {
	u := sampleUpload()
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "secret", u.SecretAccessKey)
	printed := b.String() + fmt.Sprintf("%v %+v %s %#v", u, u, u.SecretAccessKey, u.SecretAccessKey)
	if strings.Contains(printed, "topsecret") {
		t.Errorf("printed: %s", printed)
	}
}

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
		"private, allowed":    {SourcePolicy{AllowHTTP: true, AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}, "http://10.0.0.7:8080/a", ""},
		"metadata":            {SourcePolicy{}, "https://169.254.169.254/a", "private"},
		"loopback v6":         {SourcePolicy{}, "https://[::1]/a", "private"},
		"v4 in v6":            {SourcePolicy{}, "https://[::ffff:127.0.0.1]/a", "private"},
		"shared range":        {SourcePolicy{}, "https://100.64.0.1/a", "private"},
		"this network":        {SourcePolicy{}, "https://0.1.2.3/a", "private"},
		"reserved":            {SourcePolicy{}, "https://255.255.255.255/a", "private"},
		"NAT64 of a public":   {SourcePolicy{}, "https://[64:ff9b::34db:3e01]/a", "not one that the Tenant allows"},
		"NAT64 of a private":  {SourcePolicy{}, "https://[64:ff9b::a9fe:a9fe]/a", "private"},
		"6to4 of a private":   {SourcePolicy{}, "https://[2002:a00:1::]/a", "private"},
		"zone":                {SourcePolicy{}, "https://[fe80::1%25eth0]/a", "private"},
		"trailing dot":        {SourcePolicy{}, "https://127.0.0.1./a", "private"},
		"public address":      {SourcePolicy{}, "https://203.0.114.9/a", "not one that the Tenant allows"},
		"a star alone":        {SourcePolicy{}, "https://anything.test/a", "not one that the Tenant allows"},
		"not a URL":           {SourcePolicy{}, "://", "cannot be read"},
		"relative":            {SourcePolicy{}, "/a.mp3", "cannot be read"},
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
	in := KeyInput{CallSID: "c1", RecordingID: "00aa", Queued: time.Date(2026, 3, 4, 23, 0, 0, 0, time.UTC), Ext: ".mp3"}
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
			got, err := ObjectKey(&Upload{ID: "acme/support", KeyTemplate: tc.template}, in)
			if err != nil || got != tc.want {
				t.Errorf("key %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

func TestRecordingID(t *testing.T) {
	a := RecordingID("c1", "https://h/a.mp3?X-Amz-Signature=1")
	if a != RecordingID("c1", "https://h/a.mp3?X-Amz-Signature=2") || a != RecordingID("c1", "https://h/a.mp3#f") {
		t.Error("another query is another recording")
	}
	if a == RecordingID("c2", "https://h/a.mp3") || a == RecordingID("c1", "https://h/b.mp3") || len(a) != 16 {
		t.Error("two recordings share an id")
	}
	if SecretName("t", "a-b/c") == SecretName("t", "a/b-c") {
		t.Error("two tenants share a Secret's name")
	}
}

func FuzzDecode(f *testing.F) {
	for _, t := range []Tenant{sample(), full(), withAccounts(), capturing()} {
		good, _ := EncodeTenant(t)
		f.Add(good)
	}
	up, _ := EncodeUpload(sampleUpload())
	f.Add(up)
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := DecodeTenant(data); err == nil {
			// What got through is whole: it is written, and read again, as it is.
			again, err := EncodeTenant(*c)
			if err != nil {
				t.Fatal(err)
			}
			c2, err := DecodeTenant(again)
			if err != nil || c.Version != Version || !strings.Contains(c.ID, "/") || (c.Webhooks != nil && !c.Webhooks.Configured()) ||
				c.Auth.Check() != nil || (c.Storage != nil && c.Auth == nil && (c.Audio == nil || c.Audio.Capture == nil)) {
				t.Fatalf("%+v got through: %v", c, err)
			}
			if diff := cmp.Diff(c, c2, ranges, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("-first +second:\n%s", diff)
			}
		}
		if c, err := DecodeUpload(data); err == nil && ParseKeyTemplate(c.KeyTemplate) != nil {
			t.Fatalf("template %q got through", c.KeyTemplate)
		}
	})
}

func FuzzHostAllowed(f *testing.F) {
	f.Add("https://recordings.exotel.com/a")
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.Parse(raw)
		if err != nil || !HostAllowed([]string{"*.exotel.com"}, u) {
			return
		}
		if !strings.HasSuffix(strings.ToLower(u.Hostname()), ".exotel.com") {
			t.Fatalf("%q got through", raw)
		}
	})
}
